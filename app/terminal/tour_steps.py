"""What the tour asks, and what a right answer has to say.

Data, with the one rule that judges an answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.resources import SAMPLES_DIR


@dataclass(frozen=True, slots=True)
class TourStep:
    """One question: its name in the screenshots, a file to drop first, words of a right answer."""

    name: str
    question: str
    expected: tuple[str, ...]
    file: Path | None = None


TOUR = (
    TourStep("name", "My name is Ada.", ("Ada",)),
    TourStep(
        "picture",
        "List the shapes from left to right.",
        ("red circle", "blue square", "yellow triangle"),
        SAMPLES_DIR / "shapes.png",
    ),
    TourStep("clip", "Which way does it move?", ("right",), SAMPLES_DIR / "clip.mp4"),
    TourStep("earlier", "What is my name?", ("Ada",)),
)


def is_right(answer: str, expected: Sequence[str]) -> bool:
    """True when the answer has all expected words, whole and in this order."""
    pattern = ".*".join(rf"\b{re.escape(words)}\b" for words in expected)
    return re.search(pattern, answer, re.IGNORECASE | re.DOTALL) is not None
