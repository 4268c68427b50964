"""Whether a file is a picture or a clip, by what it holds."""

from pathlib import Path

import pytest
from PIL import Image

from mlx_model.errors import MediaError
from mlx_model.media import media_kind
from mlx_model.media_file import sniff

MEDIA = Path(__file__).parents[1] / "media"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("h264.mp4", "video"),
        ("hevc.mov", "video"),
        ("vp9.webm", "video"),
        ("sound.m4a", "video"),
        ("photo.heic", "image"),
    ],
)
def test_samples(name: str, kind: str) -> None:
    assert media_kind(MEDIA / name) == kind


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "gif", "webp", "bmp", "tiff", "avif", "ppm", "ico"]
)
def test_stills(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (32, 32)).save(path)
    assert media_kind(path) == "image"


def test_an_animation_is_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 90, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert media_kind(path) == "video"


def test_other_files_are_neither(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7\n")
    with pytest.raises(MediaError, match="not a picture or clip"):
        media_kind(path)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x00\x00\x00\x00AVI LIST", "clip"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "unknown"),
        (b"G" + bytes(187) + b"G" + bytes(100), "clip"),
        (b"G" + bytes(300), "unknown"),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "clip"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", "still"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "heif"),
        (b"P6 1 1 255\n", "still"),
        (b"Plain words", "unknown"),
        (b"", "unknown"),
    ],
)
def test_first_bytes(head: bytes, kind: str) -> None:
    assert sniff(head) == kind
