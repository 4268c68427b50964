"""How closely the model looks at pictures: what a person can choose.

Plain data; what a choice means in tokens is the business of `app.inference`.
"""

from dataclasses import dataclass
from typing import Literal

PictureDetail = Literal["normal", "high", "full"]
DETAILS: tuple[PictureDetail, ...] = ("normal", "high", "full")


@dataclass(frozen=True, slots=True)
class DetailChoice:
    """One choice, and what the files of the draft cost with it."""

    detail: PictureDetail
    token_count: int
