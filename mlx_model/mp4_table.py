"""Where each frame of an MP4 or MOV lies in the file, and when it is shown: the file's own table.

Reads the table only, no pictures. Believes nothing: a file that is not plain gets no table, and is
then read from front to back like any other.
"""

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mlx_model.boxes import Box, BoxError, has_box, only, read_box

Integers = npt.NDArray[np.int64]

# Ten hours at 60 frames a second need about 60 MB.
_MOST_TABLE_BYTES = 96 << 20
_MOST_FRAMES = 4_000_000
_MOST_EDITS = 100
_NORMAL_SPEED = 1 << 16
# Where H.264's and HEVC's settings say in how many bytes, less one, the pieces of a frame have
# their sizes. Everybody takes four.
_UNIT_SIZES = {b"avcC": 8, b"hvcC": 25}
_FOUR_BYTES = 3


class _NotPlainError(Exception):
    """A table that says more than is understood here, or nonsense."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The one film track of a file; the frames in the order in which they are stored.

    `shown` and `decoded` count in units of 1 / `timescale` seconds. `order` holds the places of
    the frames that are shown at all, by the time they are shown: an edit list may leave some out.
    `is_key` marks those that need no other frame. Frames that lie beyond the end of the file are
    no part of this; `is_whole` tells whether there are any.

    Shapes: all arrays [N], `order` at most.
    """

    movie_header: Box
    track: Box
    codec: bytes
    timescale: int
    is_whole: bool
    decoded: Integers
    shown: Integers
    sizes: Integers
    offsets: Integers
    is_key: npt.NDArray[np.bool_]
    order: Integers

    def shown_s(self) -> list[float]:
        """When each frame is shown, in that order, counted from the first."""
        shown = self.shown[self.order]
        times: list[float] = ((shown - shown[0]) / self.timescale).tolist()
        return times

    def listed(self, places: Integers) -> list[tuple[int, float]]:
        """Number and seconds since the first of them, of the frames at some stored places.

        In the order in which a decoder yields them; the number is -1 for those that are not shown.
        """
        numbers = np.full(len(self.shown), -1)
        numbers[self.order] = np.arange(len(self.order))
        by_time = places[np.argsort(self.shown[places])]
        times_s = (self.shown[by_time] - self.shown[by_time[0]]) / self.timescale
        return list(zip(numbers[by_time].tolist(), times_s.tolist(), strict=True))


def read_frame_table(file: BinaryIO) -> FrameTable | None:
    """The table of an open file, or None where there is no plain one."""
    try:
        if has_box(file, b"moof"):
            return None
        movie = read_box(file, b"moov", _MOST_TABLE_BYTES)
        return _table(movie.children(), file.seek(0, 2))
    except (_NotPlainError, BoxError, struct.error, LookupError, ValueError, OSError):
        return None


def _table(movie: list[Box], file_length: int) -> FrameTable:
    movie_header, track = only(movie, b"mvhd"), _film_track(movie)
    timescale = _timescale(track.only(b"mdia", b"mdhd").content)
    samples = track.only(b"mdia", b"minf", b"stbl").children()

    sizes = _sizes(only(samples, b"stsz").content)
    count = len(sizes)
    offsets = _offsets(samples, sizes)
    durations = _repeated(_rows(only(samples, b"stts").content, 2), count)
    decoded = np.cumsum(durations) - durations
    shown = decoded + _delays(samples, count)
    is_key = _key_frames(samples, count)
    start, end = _edit(track, timescale / _timescale(movie_header.content))

    there = int(np.count_nonzero(offsets + sizes <= file_length))
    if not there or np.any(offsets[:there] + sizes[:there] > file_length):
        raise _NotPlainError  # what is missing is not simply the end
    shown = shown[:there]
    order = np.argsort(shown, kind="stable")
    if np.any(np.diff(shown[order]) <= 0) or not is_key[0]:
        raise _NotPlainError
    order = order[(shown[order] >= start) & (shown[order] < end)]
    if not len(order):
        raise _NotPlainError
    return FrameTable(
        movie_header,
        track,
        codec=_codec(only(samples, b"stsd")),
        timescale=timescale,
        is_whole=there == count,
        decoded=decoded[:there],
        shown=shown,
        sizes=sizes[:there],
        offsets=offsets[:there],
        is_key=is_key[:there],
        order=order,
    )


def _film_track(movie: list[Box]) -> Box:
    tracks = [box for box in movie if box.name == b"trak"]
    films = [
        track for track in tracks if bytes(track.only(b"mdia", b"hdlr").content[8:12]) == b"vide"
    ]
    if len(films) != 1 or any(box.name in (b"mvex", b"cmov") for box in movie):
        raise _NotPlainError
    return films[0]


def _timescale(header: memoryview) -> int:
    """Units a second, from a movie's or a track's header."""
    (units,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    if not units:
        raise _NotPlainError
    return int(units)


def _rows(content: memoryview, width: int, skip: int = 4) -> Integers:
    """A counted list of `width` 32-bit numbers a row, behind `skip` bytes -> [rows, width]."""
    (count,) = struct.unpack_from(">I", content, skip)
    if count > _MOST_FRAMES:
        raise _NotPlainError
    values = np.frombuffer(content, ">u4", count * width, skip + 4)
    return values.astype(np.int64).reshape(count, width)


def _repeated(rows: Integers, count: int) -> Integers:
    """Rows (times, value) spelled out -> [count]."""
    if int(rows[:, 0].sum()) != count:
        raise _NotPlainError
    values: Integers = np.repeat(rows[:, 1], rows[:, 0])
    return values


def _sizes(content: memoryview) -> Integers:
    common, count = struct.unpack_from(">II", content, 4)
    if not 0 < count <= _MOST_FRAMES:
        raise _NotPlainError
    sizes = np.full(count, common, dtype=np.int64) if common else _rows(content, 1, 8)[:, 0]
    if np.any(sizes <= 0):
        raise _NotPlainError  # an empty packet would tell the decoder that the clip has ended
    return sizes


def _offsets(samples: list[Box], sizes: Integers) -> Integers:
    """Where each frame begins; frames lie one after the other in chunks."""
    if any(box.name == b"co64" for box in samples):
        pairs = _rows(only(samples, b"co64").content, 2)
        chunks = pairs[:, 0] * 2**32 + pairs[:, 1]
    else:
        chunks = _rows(only(samples, b"stco").content, 1)[:, 0]
    runs = _rows(only(samples, b"stsc").content, 3)
    firsts, counts, description = runs[:, 0], runs[:, 1], runs[:, 2]
    if not len(runs) or firsts[0] != 1 or np.any(np.diff(firsts) <= 0) or firsts[-1] > len(chunks):
        raise _NotPlainError
    if np.any(description != 1) or np.any(counts > len(sizes)) or np.any(chunks < 0):
        raise _NotPlainError
    each = np.repeat(counts, np.diff(firsts, append=len(chunks) + 1))
    if int(each.sum()) != len(sizes):
        raise _NotPlainError
    starts = np.cumsum(sizes) - sizes
    first_of_chunk = np.cumsum(each) - each
    starts += np.repeat(chunks - starts[np.minimum(first_of_chunk, len(sizes) - 1)], each)
    return starts


def _delays(samples: list[Box], count: int) -> Integers:
    """How much later than decoded each frame is shown; where the orders differ, not zero."""
    if not any(box.name == b"ctts" for box in samples):
        return np.zeros(count, dtype=np.int64)
    delays = _repeated(_rows(only(samples, b"ctts").content, 2), count)
    return delays.astype(np.int32).astype(np.int64)  # version 1 is signed, version 0 is small


def _key_frames(samples: list[Box], count: int) -> npt.NDArray[np.bool_]:
    if any(box.name == b"stps" for box in samples):
        raise _NotPlainError
    if not any(box.name == b"stss" for box in samples):
        return np.ones(count, dtype=np.bool_)
    numbers = _rows(only(samples, b"stss").content, 1)[:, 0]
    if np.any(numbers < 1) or np.any(numbers > count):
        raise _NotPlainError
    is_key = np.zeros(count, dtype=np.bool_)
    is_key[numbers - 1] = True
    return is_key


def _edit(track: Box, units: float) -> tuple[float, float]:
    """From when to when the track is shown, in its own time; `units` of it make one of the movie's.

    A pause before it changes nothing here; more than one part, or another speed, is not plain.
    """
    if not any(box.name == b"edts" for box in track.children()):
        return -math.inf, math.inf
    content = track.only(b"edts", b"elst").content
    entry = struct.Struct(">QqI" if content[0] == 1 else ">IiI")
    (count,) = struct.unpack_from(">I", content, 4)
    if count > _MOST_EDITS:
        raise _NotPlainError
    edits = [entry.unpack_from(content, 8 + number * entry.size) for number in range(count)]
    while edits and edits[0][1] == -1:
        edits = edits[1:]
    if len(edits) != 1 or edits[0][2] != _NORMAL_SPEED:
        raise _NotPlainError
    duration, start, _ = edits[0]
    return start, start + round(duration * units) if duration else math.inf


def _codec(descriptions: Box) -> bytes:
    """The four letters of the one way in which all frames are coded."""
    ways = descriptions.children(skip=8)
    if len(ways) != 1:
        raise _NotPlainError
    settings = bytes(ways[0].content)
    for name, place in _UNIT_SIZES.items():
        start = settings.find(name)
        if start >= 0 and settings[start + place] & 3 != _FOUR_BYTES:
            raise _NotPlainError
    return ways[0].name
