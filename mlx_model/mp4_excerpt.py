"""A shorter film made of an MP4 without copying it: only the frames that some wanted ones need.

The decoder is shown the original file behind a new table that lists just those frames, and so
passes over all others unread. Knows where frames lie, nothing of pictures.
"""

import io
import struct
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from mlx_model.boxes import Box, packed_box
from mlx_model.mp4_table import FrameTable, Integers

_H264 = frozenset({b"avc1", b"avc3"})
_HEVC = frozenset({b"hvc1", b"hev1", b"dvh1", b"dvhe"})
# Coded so that a key frame, as the table marks it, needs nothing that comes before it.
_PLAIN = frozenset({
    b"mp4v", b"vp09", b"av01", b"jpeg", b"apch", b"apcn", b"apcs", b"apco", b"ap4h", b"ap4x",
})  # fmt: skip
_H264_FRESH_START = frozenset({5})
_HEVC_FRESH_START = frozenset(range(16, 22))
_MOST_UNITS = 64
_SIZE_BYTES = 4
_UNIT_HEAD = struct.Struct(">IBB")


def needed_frames(
    table: FrameTable, wanted: Sequence[int], file: BinaryIO, check: Callable[[], None]
) -> Integers | None:
    """The stored places of the wanted frames and of all that they are decoded from, in order.

    `wanted` are numbers in the order in which frames are shown. `check` is called before each
    frame that is looked into, and may raise. None when the coding is unknown.
    """
    if table.codec not in _H264 | _HEVC | _PLAIN:
        return None
    places = table.order[list(wanted)]
    clean = _clean_keys(table)
    last = places.max()
    keys = [key for key in clean.tolist() if key <= last and _is_fresh(table, key, file, check)]
    needed = np.zeros(len(table.sizes), dtype=np.bool_)
    for place, key in zip(places, np.searchsorted(keys, places, side="right") - 1, strict=True):
        needed[keys[key] : place + 1] = True
    needed[_never_referred_to(table, np.flatnonzero(needed), file, check)] = False
    needed[places] = True
    return np.flatnonzero(needed)


def _clean_keys(table: FrameTable) -> Integers:
    """Key frames after which no frame is stored that is shown before them; the first is one."""
    earliest_from = np.minimum.accumulate(table.shown[::-1])[::-1]
    clean = table.is_key & (table.shown == earliest_from)
    clean[0] = True
    return np.flatnonzero(clean)


def _is_fresh(table: FrameTable, place: int, file: BinaryIO, check: Callable[[], None]) -> bool:
    """Whether the decoder forgets all earlier frames here, as the frame itself says.

    Tables also mark frames from which a picture only builds up over the frames that follow.
    """
    if place == 0 or table.codec in _PLAIN:
        return True
    check()
    kinds = [unit.kind for unit in _picture_units(table, place, file)]
    fresh = _H264_FRESH_START if table.codec in _H264 else _HEVC_FRESH_START
    return bool(kinds) and fresh.issuperset(kinds)


def _never_referred_to(
    table: FrameTable, places: Integers, file: BinaryIO, check: Callable[[], None]
) -> list[int]:
    """Those of some frames, stored one after the other, from which no other frame is decoded."""
    if table.codec in _PLAIN:
        return []
    units: dict[int, list[_PictureUnit]] = {}
    for place in places.tolist():
        check()
        units[place] = _picture_units(table, place, file)
    highest = max((unit.layer for found in units.values() for unit in found), default=0)
    return [
        place
        for place, found in units.items()
        if found and all(unit.is_leaf and unit.layer == highest for unit in found)
    ]


class _PictureUnit(NamedTuple):
    """What a piece of a coded picture says of itself.

    A leaf is a picture that no other picture of its layer refers to; higher ones might.
    """

    kind: int
    is_leaf: bool
    layer: int


def _picture_units(table: FrameTable, place: int, file: BinaryIO) -> list[_PictureUnit]:
    """The pieces of one H.264 or HEVC picture; none where they make no sense."""
    start, stop = int(table.offsets[place]), int(table.offsets[place] + table.sizes[place])
    found: list[_PictureUnit] = []
    for _ in range(_MOST_UNITS):
        if start == stop:
            return found
        file.seek(start)
        head = file.read(_UNIT_HEAD.size)
        if len(head) < _UNIT_HEAD.size or start + len(head) > stop:
            break
        size, first, second = _UNIT_HEAD.unpack(head)
        if table.codec in _H264:
            unit, is_picture = (
                _PictureUnit(first & 31, first >> 5 & 3 == 0, 0),
                1 <= first & 31 <= 5,
            )
        else:
            kind = first >> 1 & 63
            unit, is_picture = (
                _PictureUnit(kind, kind < 16 and kind % 2 == 0, second & 7),
                kind < 32,
            )
        if is_picture:
            found.append(unit)
        start += _SIZE_BYTES + size
    return []


class Excerpt(io.BufferedIOBase):
    """A film of some frames of another, as a file to read from; the frames keep their distances.

    Layout: a table for these frames, then the whole original as if it were one piece of data.
    """

    def __init__(self, table: FrameTable, places: Integers, file: BinaryIO) -> None:
        self._file = file
        original = file.seek(0, io.SEEK_END)
        kind = packed_box(b"ftyp", b"isom\x00\x00\x02\x00isommp41")
        wrapper = struct.pack(">I4sQ", 1, b"mdat", 16 + original)
        size = len(kind) + len(_film_index(table, places, 0)) + len(wrapper)
        self._head = kind + _film_index(table, places, size) + wrapper
        self._length = len(self._head) + original
        self._place = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = self._length - self._place
        piece = self._head[self._place : self._place + size]
        if len(piece) < size:
            self._file.seek(self._place + len(piece) - len(self._head))
            piece += self._file.read(size - len(piece))
        self._place += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _film_index(table: FrameTable, places: Integers, shift: int) -> bytes:
    """The `moov` piece that lists only some frames, which lie `shift` bytes further on."""
    parts = [box for box in table.track.children() if box.name in (b"tkhd", b"mdia")]
    track = b"".join(_with_samples(box, table, places, shift) for box in parts)
    return packed_box(b"moov", table.movie_header.packed() + packed_box(b"trak", track))


def _with_samples(box: Box, table: FrameTable, places: Integers, shift: int) -> bytes:
    """The piece, the list of samples somewhere inside it replaced."""
    if box.name == b"stbl":
        description = box.only(b"stsd").packed()
        return packed_box(b"stbl", description + _samples(table, places, shift))
    if box.name in (b"mdia", b"minf"):
        inside = (_with_samples(child, table, places, shift) for child in box.children())
        return packed_box(box.name, b"".join(inside))
    return box.packed()


def _samples(table: FrameTable, places: Integers, shift: int) -> bytes:
    count = len(places)
    decoded = table.decoded[places]
    durations = np.diff(decoded, append=decoded[-1] + 1)
    delays = table.shown[places] - table.decoded[places]
    ones = np.ones(count, dtype=np.int64)
    offsets = table.offsets[places] + shift
    return b"".join((
        _list(b"stts", np.stack([ones, durations], axis=1)),
        _list(b"ctts", np.stack([ones, delays], axis=1), version=1),
        _list(b"stss", np.flatnonzero(table.is_key[places]) + 1),
        _list(b"stsc", np.array([[1, 1, 1]])),
        packed_box(b"stsz", struct.pack(">III", 0, 0, count) + _packed(table.sizes[places])),
        _list(b"co64", np.stack([offsets >> 32, offsets & 0xFFFFFFFF], axis=1)),
    ))  # fmt: skip


def _list(name: bytes, rows: Integers, version: int = 0) -> bytes:
    return packed_box(name, struct.pack(">B3xI", version, len(rows)) + _packed(rows))


def _packed(values: Integers) -> bytes:
    return (values & 0xFFFFFFFF).astype(">u4").tobytes()
