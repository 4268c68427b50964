"""Printed words and pages: what is written where, and how it looks as a picture or a PDF.

Everything is drawn from one `random.Random`, so a seed names a page for good. Capitals or digits,
never both in one word: in many fonts O and 0 are told apart by their neighbours alone. The fonts
are free ones and lie in the repository, so that a seed means the same everywhere.
"""

import io
import math
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tools.train_demo.scenes import Rgb

HERE = Path(__file__).resolve().parent
FONTS = {
    path.stem: path
    for path in (
        *(
            HERE.parents[1] / "assets" / "fonts" / f"{name}.ttf"
            for name in ("Inter-Regular", "Inter-SemiBold", "JetBrainsMono-Regular")
        ),
        *sorted((HERE / "fonts").glob("*.ttf")),
    )
}
LETTERS = string.ascii_uppercase + string.digits
MOST_LETTERS, MOST_LINES = 5, 3
# Height of the letters' em in parts of the side of a square as large as the picture.
SMALLEST_SIZE, LARGEST_SIZE = 0.19, 0.32


@dataclass(frozen=True, slots=True)
class Line:
    """One printed word: its em in pixels, and the left end of its base line."""

    text: str
    size: int
    left: float
    base: float


@dataclass(frozen=True, slots=True)
class Page:
    """A sheet of `width` x `height` pixels with one word to a line, from top to bottom."""

    width: int
    height: int
    paper: Rgb
    ink: Rgb
    font: str
    lines: tuple[Line, ...]
    jpeg_quality: int | None

    @property
    def words(self) -> list[str]:
        """What there is to read, in order."""
        return [line.text for line in self.lines]

    @property
    def has_order(self) -> bool:
        """Whether each word has a line of its own, and there are few enough to be numbered."""
        return len({line.base for line in self.lines}) == len(self.lines) <= MOST_LINES


@dataclass(frozen=True, slots=True)
class Letter:
    """A printed letter: line and place in it from 0, and its middle in fractions of the page."""

    sign: str
    line: int
    place: int
    x: float
    y: float


def random_word(rng: random.Random) -> str:
    """Up to five capitals, or as many digits."""
    signs = string.digits if rng.random() < 0.25 else string.ascii_uppercase
    count = rng.choices(range(1, MOST_LETTERS + 1), (1, 2, 4, 5, 5))[0]
    return "".join(rng.choice(signs) for _ in range(count))


def random_sign(rng: random.Random, width: int, height: int) -> Page:
    """One word somewhere on a coloured ground."""
    side = math.sqrt(width * height)
    paper, ink = _contrast(rng)
    font = rng.choice(tuple(FONTS))
    while True:
        text = random_word(rng)
        size = round(side * rng.uniform(SMALLEST_SIZE, LARGEST_SIZE))
        size = min(size, int(size * 0.92 * width / _length(font, size, text)), int(0.95 * height))
        if size >= SMALLEST_SIZE * 0.95 * side:
            break
    left = rng.uniform(0.03 * width, 0.97 * width - _length(font, size, text))
    base = rng.uniform(0.8 * size, height - 0.1 * size)
    quality = rng.randint(50, 95) if rng.random() < 0.4 else None
    return Page(width, height, paper, ink, font, (Line(text, size, left, base),), quality)


def random_page(rng: random.Random, width: int, height: int) -> Page:
    """Two or three lines of black print, all from the same left margin."""
    side = math.sqrt(width * height)
    font = rng.choice(tuple(FONTS))
    while True:
        texts = [random_word(rng) for _ in range(rng.randint(2, MOST_LINES))]
        size = round(side * rng.uniform(SMALLEST_SIZE, 0.25))
        widest = max(_length(font, size, text) for text in texts)
        size = min(size, int(size * 0.9 * width / widest))
        pitch = size * rng.uniform(1.15, 1.7)
        tall = size + pitch * (len(texts) - 1)
        if size >= SMALLEST_SIZE * 0.95 * side and tall <= 0.95 * height:
            break
    widest = max(_length(font, size, text) for text in texts)
    left = rng.uniform(0.04 * width, max(0.05 * width, 0.96 * width - widest))
    base = rng.uniform(0.85 * size, height - tall + 0.85 * size)
    lines = tuple(Line(text, size, left, base + i * pitch) for i, text in enumerate(texts))
    ink = (rng.randint(0, 50),) * 3
    return Page(width, height, (255, 255, 255), ink, font, lines, None)


def random_sheet(rng: random.Random, width: int, height: int) -> Page:
    """A sheet covered with words: many letters at once to learn from, too many to ask about."""
    size = round(math.sqrt(width * height) * rng.uniform(SMALLEST_SIZE, LARGEST_SIZE))
    paper, ink = _contrast(rng)
    font = rng.choice(tuple(FONTS))
    lines = []
    base = rng.uniform(0.75, 1.0) * size
    while base < height - 0.08 * size:
        left = rng.uniform(0.0, 0.6 * size)
        while True:
            text = random_word(rng)
            right = left + _length(font, size, text)
            if right > width:
                break
            lines.append(Line(text, size, left, base))
            left = right + rng.uniform(0.05, 0.6) * size
        base += size * rng.uniform(1.0, 1.5)
    return Page(width, height, paper, ink, font, tuple(lines), rng.choice((None, 60, 90)))


def letters(page: Page) -> Iterator[Letter]:
    """Every letter in reading order."""
    for number, line in enumerate(page.lines):
        for place, sign in enumerate(line.text):
            start = _length(page.font, line.size, line.text[:place])
            end = _length(page.font, line.size, line.text[: place + 1])
            x, y = line.left + (start + end) / 2, line.base - 0.35 * line.size
            yield Letter(sign, number, place, x / page.width, y / page.height)


def render(page: Page, with_jpeg: bool = True) -> Image.Image:
    """The page as an RGB picture; `with_jpeg` puts it through the page's JPEG quality, if any."""
    canvas = Image.new("RGB", (page.width, page.height), page.paper)
    draw = ImageDraw.Draw(canvas)
    for line in page.lines:
        font = _font(page.font, line.size)
        draw.text((line.left, line.base), line.text, fill=page.ink, font=font, anchor="ls")
    if with_jpeg and page.jpeg_quality is not None:
        data = io.BytesIO()
        canvas.save(data, "JPEG", quality=page.jpeg_quality)
        canvas = Image.open(data).convert("RGB")
    return canvas


def _contrast(rng: random.Random) -> tuple[Rgb, Rgb]:
    """Light paper and dark ink, half of the time without a colour."""
    if rng.random() < 0.5:
        return (255, 255, 255), (rng.randint(0, 60),) * 3
    while True:
        paper, ink = (tuple(rng.randint(0, 255) for _ in range(3)) for _ in range(2))
        if _brightness(paper) > 170 and _brightness(paper) - _brightness(ink) > 110:
            return paper, ink


def _brightness(rgb: Rgb) -> float:
    return 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]


@lru_cache(maxsize=4096)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS[name], size, layout_engine=ImageFont.Layout.BASIC)


def _length(font: str, size: int, text: str) -> float:
    return sum(_advance(font, size, sign) for sign in text)


@lru_cache(maxsize=100_000)
def _advance(font: str, size: int, sign: str) -> float:
    return _font(font, size).getlength(sign)
