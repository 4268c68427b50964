"""Damages a file in the ways that disks, networks and attackers do; the same seed, the same damage.

Pure bytes in and out: knows of formats only that many are made of named pieces with a length before
or behind the name.
"""

import random
import re
import zlib
from collections.abc import Callable, Sequence

_SIGNATURE_BYTES = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
_TELLING_LENGTHS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

_Damage = Callable[[bytearray, random.Random], None]


def mutant(seeds: Sequence[bytes], number: int) -> bytes:
    """Damaged file number so-and-so made from some whole files of one format."""
    rng = random.Random(number)
    content = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2))):
        content = _damaged(content, seeds, rng)
    while content in seeds:
        content = _damaged(content, seeds, rng)
    return content


def _damaged(source: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    content = bytearray(source)
    if rng.random() < 0.1 and source:
        other = rng.choice(seeds)
        content[rng.randrange(len(source)) :] = other[rng.randrange(len(other)) :]
    else:
        rng.choice(_DAMAGES)(content, rng)
    if rng.random() < 0.9:
        # Without its first bytes a file is refused before any decoder sees it.
        content[:_SIGNATURE_BYTES] = source[:_SIGNATURE_BYTES]
    if content.startswith(_PNG_SIGNATURE) and rng.random() < 0.8:
        content = _with_valid_checksums(content)
    return bytes(content)


def _place(content: bytearray, rng: random.Random) -> int:
    """Somewhere, more often near the front, where the headers are."""
    if not content:
        return 0
    if rng.random() < 0.4:
        return rng.randrange(min(len(content), 512))
    return rng.randrange(len(content))


def _flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8)) if content else 0):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)


def _overwrite(content: bytearray, rng: random.Random) -> None:
    start, length = _place(content, rng), rng.randint(1, 64)
    filling = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    content[start : start + length] = filling[: len(content) - start]


def _cut_short(content: bytearray, rng: random.Random) -> None:
    del content[_place(content, rng) :]


def _change_number(content: bytearray, rng: random.Random) -> None:
    """A length, count or size: next to a piece's name where there is one, else anywhere."""
    width = rng.choice((2, 4, 4, 4, 8))
    names = [match.start() for match in _NAME.finditer(content)]
    if names and rng.random() < 0.7:
        start = rng.choice(names) + rng.choice((-4, -4, 4, 4, 8, 12))
    else:
        start = _place(content, rng)
    start = max(0, start)
    order = rng.choice(("big", "little"))
    value = int.from_bytes(content[start : start + width], order)
    changed = rng.choice((*_TELLING_LENGTHS, value + 1, value - 1, value * 2, value * 1000))
    field = (changed % 256**width).to_bytes(width, order)
    content[start : start + width] = field[: max(0, len(content) - start)]


def _piece(content: bytearray, rng: random.Random) -> tuple[int, int]:
    """From one piece's name to another's, or any stretch."""
    names = [match.start() for match in _NAME.finditer(content)]
    if len(names) > 1 and rng.random() < 0.7:
        start, stop = sorted(rng.sample(names, 2))
        return max(0, start - 4), max(0, stop - 4)
    start = _place(content, rng)
    return start, min(len(content), start + rng.randint(1, 512))


def _repeat_piece(content: bytearray, rng: random.Random) -> None:
    start, stop = _piece(content, rng)
    place = rng.choice((start, stop, _place(content, rng)))
    content[place:place] = content[start:stop] * rng.choice((1, 1, 2, 20))


def _drop_piece(content: bytearray, rng: random.Random) -> None:
    start, stop = _piece(content, rng)
    del content[start:stop]


_DAMAGES: tuple[_Damage, ...] = (
    _flip_bits,
    _flip_bits,
    _flip_bits,
    _overwrite,
    _cut_short,
    _change_number,
    _change_number,
    _change_number,
    _repeat_piece,
    _drop_piece,
)


def _with_valid_checksums(content: bytearray) -> bytearray:
    """A PNG decoder believes nothing with a wrong checksum: damage would never get past it."""
    place = len(_PNG_SIGNATURE)
    while place + 12 <= len(content):
        stop = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if stop + 4 > len(content):
            break
        content[stop : stop + 4] = zlib.crc32(content[place + 4 : stop]).to_bytes(4, "big")
        place = stop + 4
    return content
