"""Turns of a conversation into messages for the engine, and what to call the things it looks at.

No Qt, no thread; no file is opened.
"""

import os.path
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.conversation.conversation import Turn
from app.conversation.detail import PictureDetail
from app.conversation.message import Attachment, ChatMessage
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplySettings,
    TextPart,
    VideoPart,
)

# One seed in this range for each reply, so that asking again may give another answer.
_SEEDS = 2**31


# The most that a picture, or a pair of a clip's frames, may cost: about 2 and 8 megapixels, and
# whatever the checkpoint itself allows.
MAX_IMAGE_TOKENS: Mapping[PictureDetail, int] = {"normal": 2048, "high": 8192, "full": sys.maxsize}


def reply_settings(
    thinking: bool, is_demo: bool, detail: PictureDetail = "normal"
) -> ReplySettings:
    """Settings of one reply: the demo model answers greedily, others as their makers recommend.

    The values are those of the Qwen3.5 model cards, general use, with and without thinking.
    """
    tokens = MAX_IMAGE_TOKENS[detail]
    if is_demo:
        return ReplySettings(thinking=thinking, max_image_tokens=tokens)
    seed = secrets.randbelow(_SEEDS)
    if thinking:
        return ReplySettings(
            max_tokens=8192,
            thinking=True,
            temperature=1.0,
            top_p=0.95,
            top_k=20,
            presence_penalty=1.5,
            seed=seed,
            max_image_tokens=tokens,
        )
    return ReplySettings(
        max_tokens=4096,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        presence_penalty=1.5,
        seed=seed,
        max_image_tokens=tokens,
    )


def compose_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """What the engine has to read to answer the last of `turns`."""
    return tuple(_messages(turns))


def compose_draft(turns: Sequence[Turn], attachments: Sequence[Attachment]) -> tuple[Message, ...]:
    """What the engine can read before the words of the next question are known."""
    earlier = compose_messages(turns)
    if not attachments:
        return earlier
    return (*earlier, Message("user", tuple(_media_part(item) for item in attachments)))


def _messages(turns: Sequence[Turn]) -> Iterable[Message]:
    """User and assistant messages; an answer of which nothing was said is left out."""
    for turn in turns:
        yield Message("user", _parts(turn.question))
        answer = turn.answer
        if answer is not None and answer.text:
            yield Message("assistant", (TextPart(answer.text),), answer.thinking or None)


def _parts(question: ChatMessage) -> tuple[Part, ...]:
    """Pictures and clips first, the words after them."""
    parts: list[Part] = [_media_part(attachment) for attachment in question.attachments]
    if question.text:
        parts.append(TextPart(question.text))
    return tuple(parts)


def _media_part(attachment: Attachment) -> Part:
    if attachment.kind == "video":
        return VideoPart(attachment.path)
    return ImagePart(attachment.path)


def without_gone_files(
    messages: Sequence[Message],
) -> tuple[tuple[Message, ...], tuple[Path, ...]]:
    """The messages without earlier files that have gone since, and where those were.

    The last message keeps all of its own: if one is gone, the engine says so. Asks the disk, which
    may take long.
    """
    gone: dict[Path, None] = {}
    kept: list[Message] = []
    for message in messages[:-1]:
        for part in message.content:
            if isinstance(part, ImagePart | VideoPart) and not os.path.isfile(part.path):
                gone[part.path] = None
        parts = tuple(part for part in message.content if getattr(part, "path", None) not in gone)
        kept.append(replace(message, content=parts))
    return (*kept, *messages[-1:]), tuple(gone)


def name_of_what_is_looked_at(attachments: Sequence[Attachment]) -> str:
    """What the progress line calls the attachments of a question, such as "the clip"."""
    pictures = sum(attachment.kind == "image" for attachment in attachments)
    clips = len(attachments) - pictures
    names = []
    if pictures:
        names.append("the picture" if pictures == 1 else f"{pictures} pictures")
    if clips:
        names.append("the clip" if clips == 1 else f"{clips} clips")
    return " and ".join(names)
