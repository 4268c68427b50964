"""The first check of a model against this machine: does it fit, and with how long a conversation.

Plain arithmetic on figures that come in as values; a plan of the memory of every request can take
its place.
"""

from dataclasses import dataclass
from typing import Literal

from mlx_model.library.memory_needs import MemoryNeeds

GIB = 1 << 30

# A conversation that is worth opening a model for: a picture or two and some questions.
USUAL_TOKENS = 4096
# Less than this is no conversation.
FEWEST_TOKENS = 512
# Beside weights and conversation: what a chunk of a prompt and a piece of a picture pass through,
# what mlx keeps of freed buffers, and the program itself.
RESERVE_BYTES = GIB

Verdict = Literal["fits", "tight", "too large"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What came out of the check.

    `needed_bytes` is what a chat of `chat_tokens` takes, reserve included, `allowed_bytes` what may
    be taken. `tokens` is the longest chat that fits. `by_others` is True where other programs hold
    what is missing, and the machine itself would be large enough.
    """

    verdict: Verdict
    chat_tokens: int
    needed_bytes: int
    allowed_bytes: int
    tokens: int
    by_others: bool

    @property
    def sentence(self) -> str:
        """The figures in words, with what to do where they are bad; "it" is the model."""
        needed, allowed = in_gb(self.needed_bytes), in_gb(self.allowed_bytes)
        figures = f"It needs {needed} of memory for a chat of {self.chat_tokens:,} tokens"
        if self.verdict == "fits":
            return f"{figures}, and may use {allowed} here."
        reason, remedy = (
            ("are free at the moment", "Close other programs")
            if self.by_others
            else ("may be used here", "Choose a smaller model")
        )
        if self.verdict == "tight":
            return (
                f"{figures}, and {allowed} {reason}: there is room for chats of up to "
                f"{self.tokens:,} tokens. {remedy} for longer ones."
            )
        return f"{figures}, and {allowed} {reason}. {remedy}."


def check_fit(
    needs: MemoryNeeds,
    working_set_bytes: int,
    free_bytes: int | None = None,
    max_context: int | None = None,
) -> Fit:
    """Hold a model's needs against what the engine may use and what is free (None: not known).

    `max_context` is the longest chat that the model was made for.
    """
    allowed = working_set_bytes if free_bytes is None else min(working_set_bytes, free_bytes)
    longest = USUAL_TOKENS if max_context is None else min(USUAL_TOKENS, max_context)
    needed = needs.total_bytes(longest) + RESERVE_BYTES
    tokens = needs.tokens_within(allowed - RESERVE_BYTES)
    if max_context is not None:
        tokens = min(tokens, max_context)
    verdict: Verdict = "too large"
    if tokens >= longest:
        verdict = "fits"
    elif tokens >= FEWEST_TOKENS:
        verdict = "tight"
    return Fit(verdict, longest, needed, allowed, tokens, by_others=needed <= working_set_bytes)


def in_gb(size_bytes: int) -> str:
    """Such as "5.7 GB", in the units in which memory is sold: 8 GB are 8 times 2 to the 30."""
    return f"{size_bytes / GIB:.1f} GB"
