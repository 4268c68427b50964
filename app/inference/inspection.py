"""What is found out about an attached file, as data; the reading itself is `attachment_reader`'s.

Imports no decoder, so that the window opens without waiting for one.
"""

import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QImage

from app.conversation.message import Attachment, shown_name
from app.inference.pasted_pictures import PASTED_NAME

if TYPE_CHECKING:
    from mlx_model.processor import Processor


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells one state of a file from another without reading it."""

    size_bytes: int
    modified_ns: int
    inode: int
    device: int

    def is_of_same_file(self, other: "FileStamp | None") -> bool:
        """Whether both are of one file, by whatever names. A volume may not number its files."""
        return self == other and bool(self.inode)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. `attachment.problem` says why the file cannot be sent.

    `thumbnail` is None with a problem; `filmstrip` holds a few frames of a clip in order.
    `is_model` is True for what is a model, or a part of one, by its names.
    """

    attachment: Attachment
    stamp: FileStamp | None
    thumbnail: QImage | None = None
    filmstrip: tuple[QImage, ...] = ()
    is_model: bool = False


def counted(
    attachment: Attachment, processor: "Processor | None", max_image_tokens: int
) -> Attachment:
    """The attachment with its size in the model's eyes and what it costs. Only arithmetic."""
    if processor is None or not attachment.width:
        return attachment
    size = (attachment.width, attachment.height)
    if attachment.frame_count is None:
        seen = processor.image_size(*size, max_image_tokens)
        tokens = processor.image_tokens(*size, max_image_tokens)
    else:
        frames = attachment.frame_count
        seen = processor.video_size(*size, frames, max_image_tokens)
        tokens = processor.video_tokens(*size, frames, max_image_tokens)
    return replace(attachment, seen_width=seen[0], seen_height=seen[1], token_count=tokens)


def stamp_of(path: Path) -> FileStamp | None:
    """The file's present state; None when there is no such file."""
    try:
        state = path.stat()
    except (OSError, ValueError):  # a name with a zero byte in it is a ValueError
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return FileStamp(state.st_size, state.st_mtime_ns, state.st_ino, state.st_dev)


def attachment_name(path: Path, pasted_folder: Path) -> str:
    """What the chip calls the file: its name, or that it was pasted."""
    return PASTED_NAME if path.parent == pasted_folder else shown_name(path)
