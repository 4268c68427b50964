"""What the engine tells while it replies: frozen, free of arrays, safe to pass between threads."""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["looking", "reading"]
FinishReason = Literal["stop", "length", "cancelled", "context_full"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Work before the first word: "looking" counts patches, "reading" counts tokens."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of the reasoning that comes before the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer; whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence worth showing beside the reply, such as "Only the first frame was read."."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyStats:
    """Figures of one reply: counts in tokens unless the name says otherwise, times in seconds.

    `drafting` says whether drafts were judged to pay when the reply ended.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    read_tokens: int = 0
    encoded_patches: int = 0
    generated_tokens: int = 0
    time_to_first_token_s: float = 0.0
    prefill_tokens_per_s: float = 0.0
    decode_tokens_per_s: float = 0.0
    drafted_tokens: int = 0
    accepted_drafts: int = 0
    drafting: bool = False
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every reply that did not raise."""

    reason: FinishReason
    stats: ReplyStats


@dataclass(frozen=True, slots=True)
class Prepared:
    """The last event of work done ahead: how many tokens of the next prompt are known now.

    `is_complete` is False when it was stopped, or when there was no room for it.
    """

    known_tokens: int
    reused_tokens: int
    read_tokens: int
    encoded_patches: int
    is_complete: bool


Event = Progress | ThinkingDelta | TextDelta | Notice | Finished | Prepared
