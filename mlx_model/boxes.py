"""The named pieces that MP4, MOV, HEIC and AVIF files are made of.

Owns sizes and names; what a piece means is for its readers to know. Believes no size.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MOST_BOXES = 10_000
_SIZE_AND_NAME = struct.Struct(">I4s")
_LONG_SIZE = struct.Struct(">Q")
_TO_THE_END, _LONG = 0, 1


class BoxError(Exception):
    """Pieces that do not fit into what holds them, or that are not there."""


@dataclass(frozen=True, slots=True)
class Box:
    """A named piece; `content` is what follows its size and name."""

    name: bytes
    content: memoryview

    def packed(self) -> bytes:
        """The piece as it stands in a file."""
        return packed_box(self.name, bytes(self.content))

    def children(self, skip: int = 0) -> list["Box"]:
        """The pieces that it is made of, behind the first `skip` bytes. Raises BoxError."""
        return list(_inside(self.content[skip:]))

    def only(self, *path: bytes) -> "Box":
        """The one piece of a name inside it, or further down a path. Raises BoxError."""
        box = self
        for name in path:
            box = only(box.children(), name)
        return box


def packed_box(name: bytes, content: bytes) -> bytes:
    """A piece as it stands in a file, its size and name in front."""
    return _SIZE_AND_NAME.pack(len(content) + _SIZE_AND_NAME.size, name) + content


def only(boxes: list[Box], name: bytes) -> Box:
    """The one piece of that name. Raises BoxError when there is none, or a second."""
    found = [box for box in boxes if box.name == name]
    if len(found) != 1:
        raise BoxError
    return found[0]


def read_box(file: BinaryIO, name: bytes, most_bytes: int) -> Box:
    """The first piece of that name on the outermost level of a file. Raises BoxError, OSError.

    A piece of more than `most_bytes` counts as not there.
    """
    for found, start, size in _outermost(file):
        if found == name:
            if size > most_bytes:
                break
            file.seek(start)
            return Box(name, memoryview(file.read(size)))
    raise BoxError


def has_box(file: BinaryIO, name: bytes) -> bool:
    """Whether the file has such a piece on its outermost level. Raises OSError."""
    return any(found == name for found, _, _ in _outermost(file))


def _outermost(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of the content of each whole piece."""
    length, place = file.seek(0, 2), 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(_SIZE_AND_NAME.size + _LONG_SIZE.size)
        if len(head) < _SIZE_AND_NAME.size:
            return
        size, name = _SIZE_AND_NAME.unpack_from(head)
        head_size = _SIZE_AND_NAME.size
        if size == _LONG and len(head) == head_size + _LONG_SIZE.size:
            (size,) = _LONG_SIZE.unpack_from(head, head_size)
            head_size += _LONG_SIZE.size
        elif size == _TO_THE_END:
            size = length - place
        if size < head_size or place + size > length:
            return
        yield name, place + head_size, size - head_size
        place += size


def _inside(content: memoryview) -> Iterator[Box]:
    place = 0
    for _ in range(_MOST_BOXES):
        if place == len(content):
            return
        if place + _SIZE_AND_NAME.size > len(content):
            break
        size, name = _SIZE_AND_NAME.unpack_from(content, place)
        if size < _SIZE_AND_NAME.size or place + size > len(content):
            break
        yield Box(name, content[place + _SIZE_AND_NAME.size : place + size])
        place += size
    raise BoxError
