"""Whole files of every format, small: what the damaged ones are made from.

Most are written here by the same libraries that read them; those that these cannot write lie in
tests/media.
"""

import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.mlx_model.numbered_frames import numbered_frame
from tests.mlx_model.timed_clips import write_steady

MEDIA = Path(__file__).parents[1] / "media"
_CLIP_FRAMES = 12
_CLIP_RATE = 12.0
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _picture(format_name: str, mode: str = "RGB", **options: Any) -> bytes:
    image = Image.fromarray(numbered_frame(421)).resize((80, 24))
    if mode == "I;16":
        image = Image.fromarray(np.arange(80 * 24, dtype=np.uint16).reshape(24, 80) * 30)
    elif mode != "RGB":
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def _animation(format_name: str, **options: Any) -> bytes:
    frames = [Image.fromarray(numbered_frame(number)).resize((80, 24)) for number in range(6)]
    file = io.BytesIO()
    frames[0].save(
        file, format_name, save_all=True, append_images=frames[1:], duration=90, **options
    )
    return file.getvalue()


def _clip(suffix: str, codec: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write_steady(Path(folder) / f"a.{suffix}", _CLIP_FRAMES, _CLIP_RATE, codec)
        return path.read_bytes()


def _sample(*names: str) -> list[bytes]:
    return [(MEDIA / name).read_bytes() for name in names]


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


_WRITERS: dict[str, Callable[[], list[bytes]]] = {
    "png": lambda: [
        _picture("PNG"),
        _picture("PNG", "P", transparency=1),
        _picture("PNG", "I;16"),
        _picture("PNG", "LA", icc_profile=_SRGB),
        _picture("PNG", exif=_exif()),
    ],
    "jpeg": lambda: [
        _picture("JPEG"),
        _picture("JPEG", progressive=True, exif=_exif()),
        _picture("JPEG", "CMYK"),
        _picture("JPEG", "L", icc_profile=_SRGB),
    ],
    "gif": lambda: [_picture("GIF", "P"), _picture("GIF", "L", interlace=1)],
    "webp": lambda: [
        _picture("WEBP"),
        _picture("WEBP", lossless=True),
        _picture("WEBP", "RGBA", exif=_exif(), icc_profile=_SRGB),
    ],
    "bmp": lambda: [_picture("BMP"), _picture("BMP", "P"), _picture("BMP", "1")],
    "tiff": lambda: [
        _picture("TIFF"),
        _picture("TIFF", compression="tiff_lzw"),
        _picture("TIFF", compression="jpeg"),
        _picture("TIFF", "CMYK", compression="tiff_adobe_deflate"),
        _picture("TIFF", "1", compression="group4"),
        _picture("TIFF", "I;16", exif=_exif()),
    ],
    "ppm": lambda: [_picture("PPM"), _picture("PPM", "L"), _picture("PPM", "1")],
    "ico": lambda: [
        _picture("ICO", sizes=[(16, 16), (24, 24)]),
        _picture("ICO", sizes=[(24, 24)], bitmap_format="bmp"),
    ],
    "avif": lambda: [_picture("AVIF", speed=10), _picture("AVIF", "RGBA", speed=10, exif=_exif())],
    "heic": lambda: _sample("photo.heic", "turned.heic"),
    "jpeg2000": lambda: [_picture("JPEG2000"), _picture("JPEG2000", "L", no_jp2=True)],
    "animated": lambda: [
        _animation("GIF"),
        _animation("PNG"),
        _animation("WEBP", lossless=True),
    ],
    "mp4": lambda: [*_sample("h264.mp4", "rotated.mp4", "uneven.mp4"), _clip("mp4", "mp4v")],
    "mov": lambda: [*_sample("hevc.mov"), _clip("mov", "mp4v")],
    "webm": lambda: [*_sample("vp9.webm"), _clip("webm", "VP80")],
    "mkv": lambda: [_clip("mkv", "mp4v"), _clip("mkv", "FFV1")],
    "avi": lambda: [_clip("avi", "MJPG"), _clip("avi", "XVID")],
    "others": lambda: [
        _clip("flv", "FLV1"),
        _clip("wmv", "WMV2"),
        _clip("ts", "MPG2"),
        _clip("mpg", "MPG2"),
    ],
}

FORMATS = tuple(_WRITERS)
CLIPS = frozenset({"animated", "mp4", "mov", "webm", "mkv", "avi", "others"})


@functools.cache
def sound_files(format_name: str) -> list[bytes]:
    """A few different whole files of one of FORMATS."""
    return _WRITERS[format_name]()
