"""Files made to exhaust a machine: each is one sentence, in little memory and time."""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mlx_model.boxes import packed_box
from tests.fuzz.reading import ReadingProcess
from tests.fuzz.sound_files import sound_files
from tests.mlx_model.timed_clips import rewrite, write_steady

MEDIA = Path(__file__).parents[1] / "media"
MOST_SECONDS = 5.0
# The libraries alone take 60 MB.
MOST_BYTES = 400 << 20
ZEROS = bytes(64 << 20)
HEIC = (MEDIA / "photo.heic").read_bytes()

Maker = Callable[[], bytes]
HUGE = b"\xff\xff\xff\xff"
MP4_HEAD = packed_box(b"ftyp", b"isom\0\0\2\0isommp41")


def png(*chunks: tuple[bytes, bytes], width: int = 4, height: int = 4) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((4 + 1) * 4))
    pieces = ((b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*piece) for piece in pieces)


def blown_up(size: int = len(ZEROS)) -> bytes:
    return zlib.compress(ZEROS[:size], 1)


def saved(format_name: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format_name)
    return file.getvalue()


def overwritten(content: bytes, behind: bytes, skip: int, new: bytes) -> bytes:
    """`new` in place of what stands so many bytes behind a name."""
    start = content.index(behind) + len(behind) + skip
    return content[:start] + new + content[start + len(new) :]


def tiff_directories(next_place: Callable[[int], int], count: int) -> bytes:
    """Directories of one entry each; `next_place` says where the one after a given place lies."""
    pieces, place = [b"II*\x00" + struct.pack("<I", 8)], 8
    for _ in range(count):
        entry = struct.pack("<HHII", 256, 4, 1, 16)
        pieces.append(struct.pack("<H", 1) + entry + struct.pack("<I", next_place(place)))
        place += len(pieces[-1])
    return b"".join(pieces)


def film_with(name: bytes, content: bytes) -> Maker:
    """An MP4 with another content of one of its pieces."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = write_steady(Path(folder) / "a.mp4", 24)
            rewrite(path, lambda box: content if box.name == name else None)
            return path.read_bytes()

    return make


def nested(depth: int) -> bytes:
    return b"".join(struct.pack(">I4s", 8 * (depth - n), b"moov") for n in range(depth))


# What the program must say to each; nothing where it may also manage to read something.
PICTURES: dict[str, tuple[str, Maker]] = {
    "60,000 x 60,000 PNG": ("megapixels", lambda: png(width=60_000, height=60_000)),
    "largest PNG": ("megapixels", lambda: png(width=2**31 - 1, height=2**31 - 1)),
    "PNG, profile": ("damaged", lambda: png((b"iCCP", b"a\0\0" + blown_up()))),
    "PNG, text": ("damaged", lambda: png((b"zTXt", b"a\0\0" + blown_up()))),
    "PNG, international": ("damaged", lambda: png((b"iTXt", b"a\0\1\0\0\0" + blown_up()))),
    "PNG, many texts": (
        "damaged",
        lambda: png(*((b"zTXt", b"a%d\0\0" % n + blown_up(1 << 20)) for n in range(99))),
    ),
    "SVG": (
        "is not a picture",
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>',
    ),
    "GIF": ("megapixels", lambda: overwritten(saved("GIF"), b"GIF87a", 0, HUGE)),
    "BMP": ("megapixels", lambda: overwritten(saved("BMP"), b"BM", 16, b"\x60\xea\0\0" * 2)),
    "PPM": ("megapixels", lambda: b"P6 60000 60000 255\n" + bytes(99)),
    "JPEG": ("megapixels", lambda: overwritten(saved("JPEG"), b"\xff\xc0", 3, HUGE)),
    "JPEG 2000": ("megapixels", lambda: overwritten(saved("JPEG2000"), b"ihdr", 0, HUGE * 2)),
    "WebP": (
        "megapixels",
        lambda: (
            b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x7f\0\xff\x7f\0" + saved("WEBP")[12:]
        ),
    ),
    "HEIC": ("", lambda: overwritten(HEIC, b"ispe", 4, b"\0\0\xea\x60" * 2)),
    "AVIF": ("", lambda: overwritten(saved("AVIF"), b"ispe", 4, b"\0\0\xea\x60" * 2)),
    "TIFF, list in a circle": ("damaged", lambda: tiff_directories(lambda place: 8, 1)),
    "TIFF, endless list": ("damaged", lambda: tiff_directories(lambda place: place + 18, 50_000)),
}
CLIPS: dict[str, tuple[str, Maker]] = {
    "GIF": ("megapixels", lambda: overwritten(sound_files("animated")[0], b"GIF89a", 0, HUGE)),
    "MP4, 4 billion frames": ("", film_with(b"stsz", bytes(4) + struct.pack(">II", 1, 2**32 - 1))),
    "MP4, 4 billion times": ("", film_with(b"stts", bytes(4) + HUGE + bytes(64))),
    "MP4, frames of 4 GB": ("", film_with(b"stsz", bytes(4) + HUGE + struct.pack(">I", 24))),
    "MP4, one time for all": ("", film_with(b"stts", struct.pack(">4I", 0, 1, 2**32 - 1, 512))),
    "MP4, many pieces": ("damaged", lambda: MP4_HEAD + packed_box(b"free", b"") * 400_000),
    "MP4, pieces in pieces": ("damaged", lambda: MP4_HEAD + nested(20_000)),
    "WebM, endless piece": (
        "",
        lambda: (MEDIA / "vp9.webm").read_bytes()[:200] + b"\x18\x53\x80\x67\x01" + HUGE,
    ),
}


def check(reading: ReadingProcess, kind: str, path: Path, words: str) -> None:
    answer = reading.read(kind, path)
    assert answer["outcome"] in (("refused",) if words else ("refused", "read")), answer
    assert words in answer["sentence"], answer
    assert answer["seconds"] < MOST_SECONDS
    assert answer["peak_bytes"] < MOST_BYTES


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_bomb(reading: ReadingProcess, tmp_path: Path, name: str) -> None:
    words, make = PICTURES[name]
    (tmp_path / "bomb").write_bytes(make())
    check(reading, "picture", tmp_path / "bomb", words)


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_bomb(reading: ReadingProcess, tmp_path: Path, name: str) -> None:
    words, make = CLIPS[name]
    (tmp_path / "bomb.mp4").write_bytes(make())
    check(reading, "clip", tmp_path / "bomb.mp4", words)
