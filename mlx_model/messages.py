"""What a caller asks of the engine: a conversation and the settings of one reply."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A still picture, read from `path` when the reply is made."""

    path: Path


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A clip, or the part of it from `start_s` to `end_s`, looked at `fps` times a second."""

    path: Path
    start_s: float | None = None
    end_s: float | None = None
    fps: float | None = None


Part = TextPart | ImagePart | VideoPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `reasoning` is an assistant's earlier thinking, kept apart from its answer."""

    role: Role
    content: tuple[Part, ...]
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    @staticmethod
    def text(role: Role, text: str) -> "Message":
        """A message that is nothing but text."""
        return Message(role, (TextPart(text),))


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """Those settings of a reply that decide which pixels the model sees, and no others.

    Hashable: what is kept of a picture or clip that was looked at has to be kept under them.
    """

    max_image_tokens: int
    video_fps: float
    max_frames: int

    def __post_init__(self) -> None:
        if self.max_image_tokens < 1 or self.max_frames < 1 or not self.video_fps > 0:
            raise ValueError("pictures need a token, clips a frame and a rate at least")


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """Settings of one reply; temperature 0 picks the likeliest token every time.

    `thinking` None leaves it to the model: the larger Qwen3.5 think unless told not to, the
    smaller only when told to.
    `repetition_penalty` falls on tokens of the prompt's text and of the reply, `presence_penalty`
    on those of the reply alone. The answer ends before the first of the `stop` strings; they are
    not looked for in the thinking, which ends after `thinking_budget` tokens at the latest (None:
    when the model ends it).
    `drafts` is how many tokens a draft head guesses ahead, 0 for none; None leaves it to what pays.
    It never changes the text.
    `max_image_tokens` caps what one picture may cost, or a pair of a clip's frames (1 token = 32 x
    32 pixels of a real Qwen3.5), `max_frames` how many frames are taken of a clip; both only ever
    lower the checkpoint's own limits.
    """

    max_tokens: int = 1024
    thinking: bool | None = False
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    thinking_budget: int | None = None
    seed: int | None = None
    drafts: int | None = None
    max_image_tokens: int = 2048
    video_fps: float = 2.0
    max_frames: int = 768

    @property
    def media(self) -> MediaSettings:
        """What decides which pixels are looked at. ValueError for settings that leave none."""
        return MediaSettings(self.max_image_tokens, self.video_fps, self.max_frames)


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """Everything the engine needs for one reply; immutable, so it may cross threads."""

    messages: tuple[Message, ...]
    settings: ReplySettings = field(default_factory=ReplySettings)
    tools: tuple[Mapping[str, Any], ...] = ()
