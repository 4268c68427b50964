"""A HEIC picture whose items have kinds that are not text must not reach its decoder."""

from pathlib import Path

import pytest
from PIL import Image

from mlx_model.errors import MediaError
from mlx_model.heif_items import item_kinds_are_text
from mlx_model.stills import load_image, probe_image

MEDIA = Path(__file__).parents[1] / "media"


def test_sound_pictures_pass(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.avif")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    for path in (MEDIA / "photo.heic", MEDIA / "turned.heic", *tmp_path.iterdir()):
        assert item_kinds_are_text(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Exif\0", b"\xff\xff\xff\xff\0"), (b"iinf", b"none")],
)
def test_an_item_of_no_known_kind_is_a_sentence(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.heic"
    content = (MEDIA / "turned.heic").read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    for read in (load_image, probe_image):
        with pytest.raises(MediaError, match="damaged or incomplete"):
            read(path)


def test_a_picture_cut_in_its_list_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    content = (MEDIA / "turned.heic").read_bytes()
    for length in range(12, 480, 13):
        path.write_bytes(content[:length])
        with pytest.raises(MediaError):
            load_image(path)
