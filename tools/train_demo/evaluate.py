"""Measures the demo model's abilities from file to text, through the same engine the app uses.

    python -m tools.train_demo.evaluate assets/demo_model --scenes 1000
    python -m tools.train_demo.evaluate build/train_demo/checkpoint assets/demo_model --shuffled

Prints one table: a row an ability, a column a checkpoint, and with `--shuffled` one more for the
last checkpoint on pictures and clips whose pixels were shuffled. An answer counts only if it is
the right one word for word. The scenes are drawn from seeds that training never uses.
"""

import argparse
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mlx_model import (
    Engine,
    ImagePart,
    Message,
    ReplyRequest,
    ReplySettings,
    TextDelta,
    TextPart,
    VideoPart,
)
from tools.train_demo import questions, scenes

SIZES = ((128, 128), (200, 150), (320, 240), (480, 320), (240, 320), (400, 400), (300, 200))


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation that ends in a question, and its right answer."""

    messages: tuple[Message, ...]
    answer: str


CaseMaker = Callable[[random.Random, Path, bool], Case]


def cases(ability: str, count: int, folder: Path, shuffled: bool = False) -> Iterator[Case]:
    """`count` held-out cases; pictures and clips are written into `folder`."""
    for index in range(count):
        rng = random.Random(f"held out/{ability}/{index}")
        yield ABILITIES[ability](rng, folder / f"{ability}-{index}", shuffled)


def answer(engine: Engine, case: Case) -> str:
    """What the engine says to a case, greedily."""
    request = ReplyRequest(case.messages, ReplySettings(max_tokens=64))
    events = engine.reply(request, threading.Event())
    return "".join(event.text for event in events if isinstance(event, TextDelta)).strip()


def accuracy(engine: Engine, ability: str, count: int, shuffled: bool = False) -> float:
    """The share of `count` held-out cases that are answered rightly."""
    right = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(ability, count, Path(folder), shuffled):
            right += answer(engine, case) == case.answer
    return right / count


def _picture_case(
    ask: Callable[[random.Random, scenes.Scene], questions.Turn | None],
) -> CaseMaker:
    def make(rng: random.Random, path: Path, shuffled: bool) -> Case:
        turn = None
        while turn is None:
            scene = scenes.random_scene(rng, *rng.choice(SIZES), rng.randint(1, 4))
            turn = ask(rng, scene)
        # The file itself brings the JPEG losses, as a picture from outside would.
        picture = scenes.render(scene, with_jpeg=False)
        if shuffled:
            picture = Image.fromarray(_shuffled(rng, np.asarray(picture)))
        if scene.jpeg_quality is None:
            path = path.with_suffix(".png")
            picture.save(path)
        else:
            path = path.with_suffix(".jpg")
            picture.save(path, quality=scene.jpeg_quality)
        message = Message("user", (ImagePart(path), TextPart(turn.question)))
        return Case((message,), turn.answer)

    return make


def _direction_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    clip = scenes.random_clip(rng, *rng.choice(SIZES))
    path = path.with_suffix(".mp4")
    scene = clip.scene
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, clip.frames_per_s, (scene.width, scene.height))
    for index in range(clip.frame_count):
        pixels = np.asarray(scenes.render_frame(clip, index))
        if shuffled:
            pixels = _shuffled(rng, pixels)
        writer.write(pixels[:, :, ::-1])
    writer.release()
    turn = questions.direction_turn(rng, clip)
    return Case((Message("user", (VideoPart(path), TextPart(turn.question))),), turn.answer)


def _recall_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    del path, shuffled
    told, asked = questions.name_turns(rng)
    between = [questions.small_talk_turn(rng) for _ in range(2)]
    messages = []
    for turn in (told, *between):
        messages += [Message.text("user", turn.question), Message.text("assistant", turn.answer)]
    return Case((*messages, Message.text("user", asked.question)), asked.answer)


def _small_talk_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    del path, shuffled
    turn = questions.small_talk_turn(rng)
    return Case((Message.text("user", turn.question),), turn.answer)


def _shuffled(rng: random.Random, pixels: np.ndarray) -> np.ndarray:
    order = np.random.default_rng(rng.randrange(2**32)).permutation(
        pixels.shape[0] * pixels.shape[1]
    )
    return pixels.reshape(-1, 3)[order].reshape(pixels.shape)


ABILITIES: dict[str, CaseMaker] = {
    "colour": _picture_case(questions.colour_turn),
    "count": _picture_case(questions.count_turn),
    "presence": _picture_case(questions.presence_turn),
    "list": _picture_case(questions.list_turn),
    "direction": _direction_case,
    "recall": _recall_case,
    "small talk": _small_talk_case,
}
# Enough to see that nothing but guessing is left.
CONTROL_SCENES = 200
SEEING = ("colour", "count", "presence", "list", "direction")
BARS = {
    "colour": 0.95,
    "count": 0.95,
    "presence": 0.95,
    "list": 0.85,
    "direction": 0.95,
    "recall": 0.95,
    "small talk": 0.95,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--shuffled", action="store_true")
    arguments = parser.parse_args()
    engines = [Engine.load(path) for path in arguments.models]
    columns = [str(path) for path in arguments.models] + ["shuffled pixels"] * arguments.shuffled
    print("| ability | bar | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for ability, bar in BARS.items():
        shares = [accuracy(engine, ability, arguments.scenes) for engine in engines]
        if arguments.shuffled and ability in SEEING:
            scenes_shuffled = min(arguments.scenes, CONTROL_SCENES)
            shares.append(accuracy(engines[-1], ability, scenes_shuffled, shuffled=True))
        figures = " | ".join(f"{100 * share:.1f} %" for share in shares)
        print(f"| {ability} | {100 * bar:.0f} % | {figures} |", flush=True)


if __name__ == "__main__":
    main()
