"""What the window shows of a conversation: messages and the files attached to them.

Plain frozen data. Knows neither Qt nor the engine.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Joins the parts of one emoji; not printable by itself.
_JOINER = "\u200d"

AttachmentKind = Literal["image", "video"]
Speaker = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture or clip as it was found on disk.

    `width` and `height` are upright pixels, 0 while unknown; `seen_width` and `seen_height` those
    at which the model sees it, 0 while no model is loaded. `duration_s` and `frame_count` belong to
    clips; `frame_count` is the number of frames that will be looked at, not those in the file.
    `token_count` is what the model will read for it, None while no model is loaded. `remark` says
    in a few words what else is special about it, `problem` in a sentence why it cannot be sent.
    """

    path: Path
    kind: AttachmentKind
    name: str
    width: int = 0
    height: int = 0
    seen_width: int = 0
    seen_height: int = 0
    duration_s: float | None = None
    frame_count: int | None = None
    token_count: int | None = None
    remark: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the transcript.

    `thinking` is the reasoning before an answer and `thinking_s` how long it took. `footnote` is
    the line of figures below an answer, `problem` a sentence about what went wrong with it,
    `stopped` tells that the person stopped it.
    """

    role: Speaker
    text: str
    thinking: str = ""
    thinking_s: float | None = None
    attachments: tuple[Attachment, ...] = ()
    footnote: str = ""
    problem: str | None = None
    stopped: bool = False


def shown_name(path: Path) -> str:
    """A file's name as it can stand in front of a person: one line, nothing invisible."""
    name = path.name or str(path)
    kept = (c if c.isprintable() or c == _JOINER else " " for c in name)
    return " ".join("".join(kept).split()) or "file"
