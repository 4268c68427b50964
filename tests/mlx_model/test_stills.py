"""Every kind of picture file becomes upright, opaque, 8-bit RGB, or one sentence."""

import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from mlx_model.errors import MediaError
from mlx_model.stills import MAX_PIXELS, load_image, probe_image
from tests.mlx_model import colour_profiles
from tests.mlx_model.numbered_frames import number_of, numbered_frame
from tests.mlx_model.picture_files import chunk, png, png16

MEDIA = Path(__file__).parents[1] / "media"
FRAME = numbered_frame(421)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "jp2"])
def test_lossless_formats_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(FRAME), **options)
    image = load_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, FRAME)
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "tiff", "webp", "avif", "gif", "bmp", "jp2", "ico"]
)
def test_the_size_told_beforehand_is_the_size(tmp_path: Path, suffix: str) -> None:
    for width, height in ((1, 1), (1, 40), (97, 1), (33, 18)):
        path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (width, height), "red"))
        info = probe_image(path)
        assert load_image(path).shape == (info.height, info.width, 3)
        if suffix != "ico":  # which has sizes of its own
            assert (info.width, info.height) == (width, height)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "gif"])
def test_lossy_formats_come_back_readable(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(FRAME))
    assert number_of(load_image(str(path))) == 421


@pytest.mark.parametrize(("name", "number"), [("photo.heic", 5), ("turned.heic", 6)])
def test_heic_is_read_and_turned_upright(name: str, number: int) -> None:
    assert number_of(load_image(MEDIA / name)) == number
    info = probe_image(MEDIA / name)
    assert (info.width, info.height) == (160, 48)


TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.rot90(np.fliplr(image), 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(np.fliplr(image), 3),
    8: lambda image: np.rot90(image, 3),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg", "webp", "avif", "mpo"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.fromarray(np.ascontiguousarray(TURNS[orientation](FRAME)))
    path = saved(tmp_path / f"a.{suffix}", lying, exif=exif)
    assert number_of(load_image(path)) == 421
    info = probe_image(path)
    assert (info.width, info.height, info.frame_count) == (160, 48, 1)


def test_a_broken_exif_block_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(FRAME), exif=b"Exif\x00\x00MM\x00*\xff\xff")
    assert number_of(load_image(path)) == 421


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[0, 0, 3], rgba[0, 1, 3], rgba[1, 0, 3] = 255, 128, 0
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(rgba)))
    assert image[0, 0].tolist() == [200, 0, 0]
    assert np.abs(image[0, 1].astype(int) - [227, 127, 127]).max() <= 1
    assert image[1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "L"])
def test_every_way_to_be_transparent_counts(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "LA":
        Image.new("LA", (4, 4), (10, 0)).save(path)
    elif mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 10, 10, 10])
        image.save(path, transparency=1)
    else:
        colour = (10, 10, 10) if mode == "RGB" else 10
        Image.new(mode, (4, 4), colour).save(path, transparency=colour)
    assert (load_image(path) == 255).all()


def test_palettes_become_their_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([1, 2, 3, 40, 50, 60, 200, 100, 0])
    for column in range(3):
        image.putpixel((column, 0), column)
    found = load_image(saved(tmp_path / "a.png", image))
    assert found[0].tolist() == [[1, 2, 3], [40, 50, 60], [200, 100, 0]]


def test_black_and_white_and_grey(tmp_path: Path) -> None:
    white = load_image(saved(tmp_path / "a.png", Image.new("1", (5, 3), 1)))
    assert white.shape == (3, 5, 3)
    assert (white == 255).all()
    assert (load_image(saved(tmp_path / "b.png", Image.new("L", (5, 3), 77))) == 77).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    image = load_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(levels)))
    assert image[0, :, 0].tolist() == [0, 1, 1, 128, 255]
    assert (image[..., 0] == image[..., 2]).all()


LEVELS = np.array([0, 255, 256, 32768, 65279, 65535], dtype=np.uint16)
SCALED = np.array([0, 1, 1, 128, 254, 255])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_of_every_kind_are_scaled(tmp_path: Path, suffix: str, channels: int) -> None:
    """Colours lose their lower byte in the decoder, which is at most one level off."""
    levels = np.stack([LEVELS, LEVELS[::-1], LEVELS], axis=-1)[None]
    wanted = np.stack([SCALED, SCALED[::-1], SCALED], axis=-1)[None]
    if channels == 1:
        levels, wanted = levels[..., :1], np.repeat(wanted[..., :1], 3, axis=-1)
    if channels == 4:
        levels = np.concatenate([levels, np.full((1, 6, 1), 65535, np.uint16)], axis=-1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(png16(levels))
    else:
        cv2.imwrite(str(path), levels[..., [2, 1, 0, 3][:channels] if channels > 1 else [0]])
    assert np.abs(load_image(path).astype(int) - wanted).max() <= 1


def test_sixteen_bits_may_be_transparent(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    alpha = np.array([65535, 65535, 65535, 32768, 0, 0], dtype=np.uint16)
    path.write_bytes(png16(np.stack([LEVELS, alpha], axis=-1)[None]))
    assert np.abs(load_image(path)[0, :, 1] - [0.0, 1, 1, 191, 255, 255]).max() <= 1
    for clear, wanted in ((0, [255, 1, 1, 128, 254, 255]), (32768, [0, 1, 1, 255, 254, 255])):
        path.write_bytes(png16(LEVELS[None, :, None], chunk(b"tRNS", struct.pack(">H", clear))))
        assert load_image(path)[0, :, 1].tolist() == wanted


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 200.0]], dtype=np.float32), [0, 100, 200]),
        (np.array([[0.0, 1e6, 2e6, np.nan, -5]], dtype=np.float32), [0, 128, 255, 0, 0]),
        (np.array([[0, 32768, 65535]], dtype=np.int32), [0, 128, 255]),
    ],
)
def test_wide_levels_are_brought_into_range(
    tmp_path: Path, levels: np.ndarray, wanted: list[int]
) -> None:
    image = load_image(saved(tmp_path / "a.tiff", Image.fromarray(levels)))
    assert image[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    for inks, colour in (
        ((0, 255, 255, 0), [255, 0, 0]),
        ((255, 0, 0, 0), [0, 255, 255]),
        ((0, 0, 0, 128), [127, 127, 127]),
        ((0, 0, 0, 0), [255, 255, 255]),
    ):
        path = saved(tmp_path / f"a.{suffix}", Image.new("CMYK", (16, 16), inks), quality=95)
        assert np.abs(load_image(path)[8, 8] - np.array(colour, dtype=float)).max() <= 3


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(image, *spaces, outputMode="LAB")
    assert lab is not None
    path = saved(tmp_path / "a.tiff", lab)
    assert np.abs(load_image(path)[0, 0] - np.array([200.0, 100, 50])).max() <= 1


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    # A profile whose red and blue are swapped, built from sRGB's own.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    found = load_image(saved(tmp_path / "a.png", image, icc_profile=bytes(profile)))
    assert found[0, 0, 2] > 200
    assert found[0, 0, 0] < 60
    broken = load_image(saved(tmp_path / "b.png", image, icc_profile=b"no profile"))
    assert broken[0, 0].tolist() == [255, 0, 0]


P3_COLOURS = {(234, 51, 35): (255, 0, 0), (117, 251, 76): (0, 255, 0), (128, 128, 128): (128,) * 3}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "avif"])
def test_the_colours_of_a_phone_become_those_of_a_screen(tmp_path: Path, suffix: str) -> None:
    for p3, srgb in P3_COLOURS.items():
        image = Image.new("RGB", (16, 16), p3)
        options = {"icc_profile": colour_profiles.display_p3(), "quality": 95}
        found = load_image(saved(tmp_path / f"a.{suffix}", image, **options))[8, 8]
        assert np.abs(found - np.array(srgb, dtype=float)).max() <= 16


def test_the_colours_of_a_phone_in_heic() -> None:
    found = load_image(MEDIA / "p3.heic")[32, 32]
    assert np.abs(found - np.array([255.0, 0, 0])).max() <= 8


@pytest.mark.parametrize(
    ("mode", "level", "suffixes"),
    [
        ("L", 128, ["png", "jpg", "tiff", "avif"]),
        ("LA", (128, 255), ["png", "tiff"]),
        ("I;16", 32896, ["png", "tiff"]),
    ],
)
def test_a_profile_of_greys_is_converted(
    tmp_path: Path, mode: str, level: Any, suffixes: list[str]
) -> None:
    for suffix in suffixes:
        image = Image.new(mode, (8, 8), level)
        path = saved(tmp_path / f"a.{suffix}", image, icc_profile=colour_profiles.linear_grey())
        assert np.abs(load_image(path) - 188.0).max() <= 1


def test_grey_with_a_profile_of_colours_is_converted(tmp_path: Path) -> None:
    """As some programs save it: a grey JPEG that carries the profile of their workspace."""
    image = Image.new("L", (8, 8), 128)
    profile = colour_profiles.display_p3(power=1.2)
    found = load_image(saved(tmp_path / "a.jpg", image, icc_profile=profile))
    plain = load_image(saved(tmp_path / "b.jpg", image))
    assert found[4, 4, 0] > plain[4, 4, 0] + 30
    assert np.ptp(found[4, 4].astype(int)) <= 1


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_a_printers_profile_says_what_its_inks_are(tmp_path: Path, suffix: str) -> None:
    """This one has red in its cyan cartridge, and nothing in the others."""
    options = {"icc_profile": colour_profiles.odd_printer(), "quality": 95}
    for inks, colour in (((255, 0, 0, 0), [214, 59, 53]), ((0, 255, 255, 255), [255, 255, 255])):
        image = Image.new("CMYK", (16, 16), inks)
        found = load_image(saved(tmp_path / f"a.{suffix}", image, **options))[8, 8]
        assert np.abs(found - np.array(colour, dtype=float)).max() <= 4


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    first, second = (Image.fromarray(numbered_frame(number)) for number in (3, 4))
    path = saved(tmp_path / "a.gif", first, save_all=True, append_images=[second])
    assert number_of(load_image(path)) == 3
    assert probe_image(path).frame_count == 2


def test_pages_are_counted_and_previews_are_not(tmp_path: Path) -> None:
    first, second = (Image.fromarray(numbered_frame(number)) for number in (3, 4))
    for suffix, count in (("tiff", 2), ("mpo", 1)):
        path = saved(tmp_path / f"a.{suffix}", first, save_all=True, append_images=[second])
        assert number_of(load_image(path)) == 3
        assert probe_image(path).frame_count == count


def test_a_line_one_pixel_high(tmp_path: Path) -> None:
    assert load_image(saved(tmp_path / "a.png", Image.new("RGB", (150, 1)))).shape == (1, 150, 3)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(saved(tmp_path / "a.png", Image.fromarray(FRAME)).read_bytes())
    assert number_of(load_image(path)) == 421


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FRAME).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "is empty"),
        ("notes.png", b"just some text, nothing else", "whatever its name says"),
        ("notes.txt", b"just some text, nothing else", "not a picture that Fireside can read"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        ("cut.jpg", jpeg_bytes()[:-300], "damaged or incomplete"),
        ("head.jpg", jpeg_bytes()[:20], "damaged or incomplete"),
        ("cut.png", png(64, 64, bytes(65 * 64))[:40], "damaged or incomplete"),
        ("short.png", png(64, 64, bytes(70)), "damaged or incomplete"),
        ("cut.heic", (MEDIA / "photo.heic").read_bytes()[:400], "damaged or incomplete"),
        ("bomb.png", png(60_000, 60_000, bytes(100)), "megapixels"),
        ("large.png", png(16_001, 8_000, bytes(100)), "megapixels"),
        ("clip.png", (MEDIA / "h264.mp4").read_bytes(), "is a clip"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_file_is_a_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        load_image(path)
    _is_sentence(str(caught.value), name)


def test_the_largest_pictures_are_not_refused_for_their_size(tmp_path: Path) -> None:
    assert MAX_PIXELS >= 108_000_000
    path = tmp_path / "a.png"
    path.write_bytes(png(12_000, 9_000, bytes(100)))
    assert probe_image(path).width == 12_000


def test_things_that_are_no_files_are_refused_unopened(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "gone.png", "cannot be found"),
        (fifo, "not an ordinary file"),
    ):
        with pytest.raises(MediaError, match=words) as caught:
            load_image(path)
        _is_sentence(str(caught.value), path.name)


def test_a_name_of_emoji_and_newlines_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / f"😀\n{'long' * 50}\x07.png"
    path.write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        load_image(path)
    sentence = str(caught.value)
    assert "😀" in sentence
    assert sentence.isprintable()
    assert len(sentence) < 120


def test_damaged_pictures_never_end_in_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    path = tmp_path / "a"
    for source in _samples(tmp_path):
        for _ in range(15):
            content = bytearray(source)
            for place in rng.integers(8, len(content), size=rng.integers(1, 30)):
                content[place] = rng.integers(0, 256)
            path.write_bytes(content[: rng.integers(len(content) // 2, len(content) + 1)])
            try:
                image = load_image(path)
            except MediaError:
                continue
            assert image.ndim == 3


def _samples(folder: Path) -> list[bytes]:
    samples = [(MEDIA / "photo.heic").read_bytes()]
    for suffix in ("png", "jpg", "gif", "webp", "tiff", "bmp", "avif"):
        samples.append(saved(folder / f"s.{suffix}", Image.fromarray(FRAME)).read_bytes())
    return samples


def _is_sentence(text: str, name: str) -> None:
    assert name in text
    assert text.endswith(".")
    assert "\n" not in text
    assert "Error" not in text
