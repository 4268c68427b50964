"""Writes picture files of odd kinds whose pixels any decoder gets right to the last level.

Shared by the tests of the decoding, those of the preprocessing, and the tool that asks the
reference what it makes of them.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.mlx_model.preprocessing_cases import picture


def chunk(name: bytes, body: bytes) -> bytes:
    """A part of a PNG."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(
    width: int, height: int, data: bytes, bits: int = 8, kind: int = 0, *chunks: bytes
) -> bytes:
    """A PNG whose header says what it likes; 8-bit grey, unless told otherwise."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *chunks,
            chunk(b"IDAT", zlib.compress(data)),
            chunk(b"IEND", b""),
        )
    )


def png16(levels: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of 16 bits from uint16 [H, W, 1..4]."""
    height, width, channels = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    return png(width, height, rows, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], *chunks)


def _wide(levels: np.ndarray) -> np.ndarray:
    """16 bits whose lower byte is another one than the upper."""
    return levels.astype(np.uint16) * 251 + 77


def _alpha(height: int, width: int) -> np.ndarray:
    return picture("smooth", height, width)[..., :1]


def _write_alpha(path: Path) -> None:
    levels = np.concatenate([picture("edges", 150, 110), _alpha(150, 110)], axis=-1)
    Image.fromarray(levels).save(path)


def _write_grey_alpha_16(path: Path) -> None:
    levels = np.concatenate([picture("edges", 90, 200)[..., :1], _alpha(90, 200)], axis=-1)
    path.write_bytes(png16(_wide(levels)))


def _write_grey_16(path: Path) -> None:
    path.write_bytes(png16(_wide(picture("smooth", 133, 77)[..., :1])))


def _write_colours_16(path: Path) -> None:
    path.write_bytes(png16(_wide(picture("smooth", 60, 301))))


def _palette(height: int, width: int, shift: int = 0) -> Image.Image:
    image = Image.fromarray(picture("edges", height, width, shift)[..., 0] // 32)
    image.putpalette([level for number in range(8) for level in (number * 36, 255, 9 * number)])
    return image


def _write_palette_with_a_hole(path: Path) -> None:
    _palette(101, 130).save(path, transparency=7)


def _write_animation(path: Path) -> None:
    _palette(64, 150).save(path, save_all=True, append_images=[_palette(64, 150, 5)])


def _write_inks(path: Path) -> None:
    inks = np.concatenate([picture("smooth", 97, 140), _alpha(97, 140) // 2], axis=-1)
    Image.fromarray(inks, "CMYK").save(path)


def _write_lying(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture("edges", 80, 190)).save(path, exif=exif)


def _write_one_bit(path: Path) -> None:
    Image.fromarray(picture("edges", 120, 99)[..., 0] > 0).save(path)


def _write_floating(path: Path) -> None:
    Image.fromarray(picture("smooth", 70, 88)[..., 0].astype(np.float32) / 255).save(path)


_WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "alpha": ("png", _write_alpha),
    "grey_alpha_16": ("png", _write_grey_alpha_16),
    "grey_16": ("png", _write_grey_16),
    "colours_16": ("png", _write_colours_16),
    "palette_with_a_hole": ("png", _write_palette_with_a_hole),
    "animation": ("gif", _write_animation),
    "inks": ("tiff", _write_inks),
    "lying": ("png", _write_lying),
    "one_bit": ("png", _write_one_bit),
    "floating": ("tiff", _write_floating),
}
FILES = tuple(_WRITERS)


def write(name: str, folder: Path) -> Path:
    """The file called `name` in FILES, written into `folder`."""
    suffix, writer = _WRITERS[name]
    path = folder / f"{name}.{suffix}"
    writer(path)
    return path
