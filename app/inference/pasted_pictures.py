"""Keeps pasted pictures as files: the engine reads files, and a pasted picture has none.

Owns the folder of kept pictures. Safe on any thread.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice
from PySide6.QtGui import QImage

PASTED_NAME = "Pasted picture"


def keep_picture(image: QImage, folder: Path) -> Path:
    """Write `image` as a PNG named after its content; the same picture twice is one file.

    Raises OSError when the disk refuses, ValueError when the picture has no pixels.
    """
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    # PySide6 takes the format as a string here, its stubs say bytes.
    if image.isNull() or not image.save(buffer, "PNG"):  # type: ignore[call-overload]
        raise ValueError("the pasted picture has no pixels")
    content = bytes(buffer.data().data())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}.png"
    if not path.exists():
        _write_whole(path, content)
    return path


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside the name and rename, so that a crash never leaves half a picture under it."""
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(partial).replace(path)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise
