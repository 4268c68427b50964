"""Whether the parts of a HEIC or AVIF picture have names that its decoder survives.

WORKAROUND: pi-heif 1.4 ends the whole process where the kind of an attached item, such as its
EXIF block, is not text.
"""

from pathlib import Path

from mlx_model.boxes import BoxError, only, read_box

_MOST_BYTES = 16 << 20
_FULL_BOX_BYTES = 4
_SHORT_COUNT_BYTES, _LONG_COUNT_BYTES = 2, 4


def item_kinds_are_text(path: Path) -> bool:
    """False for a damaged list of items, or none; True for files of other kinds. Raises OSError."""
    with path.open("rb") as file:
        if file.read(8)[4:] != b"ftyp":
            return True
        try:
            parts = read_box(file, b"meta", _MOST_BYTES).children(skip=_FULL_BOX_BYTES)
            items = only(parts, b"iinf")
            is_long = items.content[0] > 0
            count_bytes = _LONG_COUNT_BYTES if is_long else _SHORT_COUNT_BYTES
            entries = items.children(skip=_FULL_BOX_BYTES + count_bytes)
            for entry in entries:
                _item_kind(bytes(entry.content)).decode()
        except (BoxError, IndexError, UnicodeDecodeError):
            return False
    return True


def _item_kind(entry: bytes) -> bytes:
    """The four letters of an item's kind and, of a file within the file, its type."""
    version = entry[0]
    if version < 2:
        return b""
    start = _FULL_BOX_BYTES + (4 if version == 2 else 6)
    kind, rest = entry[start : start + 4], entry[start + 4 :]
    return kind + rest.split(b"\0")[1] if kind == b"mime" else kind
