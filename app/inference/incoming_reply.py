"""One reply while it comes in, and the message that it makes in the transcript.

Plain data: no Qt, no thread.
"""

import time
from dataclasses import dataclass, field

from app.conversation.message import ChatMessage
from app.inference.wording import ending_sentence, footnote
from app.inference.worker import ReplyJob
from mlx_model.events import (
    Event,
    Finished,
    Notice,
    Progress,
    ReplyStats,
    TextDelta,
    ThinkingDelta,
)


@dataclass(slots=True)
class IncomingReply:
    """A reply being received: what has come of it, and when the thinking began and ended."""

    job: ReplyJob
    looked_at: str
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    # How many of them came before the model began to look or to read.
    early_notices: int | None = None
    thinking_began: float | None = None
    thinking_ended: float | None = None

    def take(self, event: Event) -> None:
        """More of the reply has come."""
        match event:
            case TextDelta(text=text):
                if self.thinking_began is not None and self.thinking_ended is None:
                    self.thinking_ended = time.monotonic()
                self.text.append(text)
            case ThinkingDelta(text=text):
                if self.thinking_began is None:
                    self.thinking_began = time.monotonic()
                self.thinking.append(text)
            case Progress():
                if self.early_notices is None:
                    self.early_notices = len(self.notices)
            case Notice(text=text):
                self.notices.append(text)

    def ended(self, finished: Finished) -> ChatMessage:
        """The message that it has become, with its figures and how it ended."""
        stopped = finished.reason == "cancelled"
        ending = self._said() or ending_sentence(finished.reason, finished.stats)
        return self.message(
            stats=finished.stats, problem=None if stopped else ending, stopped=stopped
        )

    def message(
        self, *, stats: ReplyStats | None = None, problem: str | None = None, stopped: bool = False
    ) -> ChatMessage:
        """What has arrived so far as a message of the transcript."""
        seconds = None
        if self.thinking_began is not None:
            seconds = (self.thinking_ended or time.monotonic()) - self.thinking_began
        return ChatMessage(
            role="assistant",
            text="".join(self.text),
            thinking="".join(self.thinking),
            thinking_s=seconds,
            footnote="" if stats is None else footnote(stats),
            problem=problem,
            stopped=stopped,
        )

    def _said(self) -> str:
        """What the engine said beside the answer, as far as the window does not show it itself.

        What it says of files before it looks at them stands on their chips and cards already. Where
        it never looked or read, the last thing it said is why.
        """
        if self.early_notices is None:
            return self.notices[-1] if self.notices else ""
        return " ".join(self.notices[self.early_notices :])
