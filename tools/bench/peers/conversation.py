"""The conversation that every contestant has: questions of a given length, drawn pictures."""

import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mlx_model.processor import Processor

Message = dict[str, Any]

SIZE = (640, 480)
_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
_TEXT = (
    "is there a red circle or a blue square near the large green triangle and how many small "
    "yellow shapes are left of it"
)


def picture(folder: Path, number: int) -> Path:
    """A drawing of 640 x 480, another for each number."""
    drawn = random.Random(number)
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, side = drawn.randrange(480), drawn.randrange(320), drawn.randrange(60, 160)
        shape = draw.ellipse if drawn.random() < 0.5 else draw.rectangle
        shape((x, y, x + side, y + side), fill=drawn.choice(_COLOURS))
    file = folder / f"picture-{number}.png"
    image.save(file)
    return file


def question(processor: Processor, number: int, tokens: int) -> str:
    """A question of about so many tokens of the checkpoint's own vocabulary."""
    drawn = random.Random(number)
    words: list[str] = [f"{number}:"]
    while len(processor.tokenizer.encode(" ".join(words)).ids) < tokens:
        words.append(drawn.choice(_TEXT.split()))
    return " ".join(words) + "?"


def user(text: str, *pictures: Path) -> Message:
    """A message of the user: pictures first, then the text."""
    if not pictures:
        return {"role": "user", "content": text}
    parts: list[dict[str, str]] = [{"type": "image", "path": str(file)} for file in pictures]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def assistant(text: str) -> Message:
    """An answer, as it goes back into the history."""
    return {"role": "assistant", "content": text}
