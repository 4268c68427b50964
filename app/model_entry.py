"""One model as the window shows it: plain data, no Qt, no engine."""

from dataclasses import dataclass
from typing import Literal

# "checking" holds what has arrived against its hash; "arrived" is complete, and has not been looked
# at yet. "here" is on this machine and could answer; "next" waits for the end of an answer of the
# model before; "opening" is loaded and checked; "broken" is on this machine and can never answer.
ModelState = Literal[
    "absent",
    "queued",
    "downloading",
    "paused",
    "checking",
    "converting",
    "arrived",
    "failed",
    "here",
    "next",
    "opening",
    "in_use",
    "broken",
]
WayKey = Literal["convert", "ready"]
Fit = Literal["fits", "tight", "too_big"]


@dataclass(frozen=True, slots=True)
class WayToGet:
    """One way to get a model: the original, converted here, or one that somebody has converted."""

    key: WayKey
    download_bytes: int
    kept_bytes: int
    bits_per_weight: float


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """How much memory a conversation of that many tokens takes, the model included."""

    tokens: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a download is; speed and time are None until they are known."""

    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: what it is, how it fits, and what is being done with it.

    `key` tells it from others for as long as the program runs. `chat_tokens` is about the longest
    chat that memory has room for, 0 while unknown. `fit_note` says with figures what does not fit,
    `fit_question` what a person is asked who wants it all the same. `problem` is the sentence of
    the states "failed" and "broken", and why a model that is here was not opened; `needs_token`
    asks for a token below it. `can_delete` takes the files away, `can_forget` only the card. `done`
    is the share that is converted or checked, from 0 to 1, None where nobody can tell.
    """

    key: str
    name: str
    purpose: str
    state: ModelState = "absent"
    ways: tuple[WayToGet, ...] = ()
    chosen_way: WayKey = "convert"
    memory: tuple[MemoryUse, ...] = ()
    bits_per_weight: float | None = None
    kept_bytes: int = 0
    place: str = ""
    fit: Fit = "fits"
    chat_tokens: int = 0
    fit_note: str = ""
    fit_question: str = ""
    recommended: bool = False
    transfer: Transfer | None = None
    done: float | None = None
    problem: str = ""
    needs_token: bool = False
    token_note: str = ""
    can_delete: bool = False
    can_forget: bool = False
    is_demo: bool = False

    @property
    def way(self) -> WayToGet | None:
        """The way that is chosen; None for a model that cannot be downloaded."""
        for way in self.ways:
            if way.key == self.chosen_way:
                return way
        return self.ways[0] if self.ways else None


@dataclass(frozen=True, slots=True)
class ModelShelf:
    """All models in the order they are shown, and what can be said of them together.

    `machine` and `budget` are such as "This Mac: M1, 8 GB" and "5.3 GB"; `found_note` such as
    "found 2 in the Hugging Face cache". Empty while unknown.
    """

    entries: tuple[ModelEntry, ...] = ()
    machine: str = ""
    budget: str = ""
    found_note: str = ""
