"""Still pictures from disk: upright, opaque, 8-bit RGB, within a size that memory can bear.

Owns what each kind of picture file becomes; knows nothing of what a model does with it.
"""

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, ImageOps

from mlx_model.errors import MediaError
from mlx_model.heif_items import item_kinds_are_text
from mlx_model.media_file import damaged, display_name, gone, read_head, sniff, unknown

Pixels = npt.NDArray[np.uint8]

# The largest phone cameras make pictures of 108 megapixels; decoding one takes about 1 GB.
MAX_PIXELS = 128_000_000

# Formats that Pillow decodes by itself, without other programs (EPS would start one).
_FORMATS = (
    "PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "AVIF", "HEIF", "JPEG2000",
)  # fmt: skip
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
_WIDE_MODES = ("I", "F")
_ORIENTATION_TAG = 0x0112
_FIRST_QUARTER_TURN = 5
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_GREY_MODES = ("L", "LA", "La")
_PROFILED_MODES = ("RGB", "CMYK", "L", "LAB")
# Their further pictures are previews, depth maps or a second exposure, and no animation.
_SINGLE_PICTURE_FORMATS = ("MPO", "HEIF")
_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".heic", ".heif", ".avif", ".ico", ".jp2",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A picture as it will be seen, turned upright.

    `frame_count` is above 1 for animations, and for TIFF of several pages.
    """

    width: int
    height: int
    frame_count: int


def load_image(path: str | Path) -> Pixels:
    """The picture as uint8 [H, W, 3]: turned upright, over white where it is transparent.

    16-bit pictures are scaled, embedded colour profiles are converted to sRGB, of an animation
    the first frame is taken. Raises MediaError with a sentence that names the file.
    """
    file = Path(path)
    with open_picture(file) as image:
        try:
            image.load()
            return np.asarray(to_rgb(_upright(image)), dtype=np.uint8)
        except MemoryError as error:
            raise too_large(file) from error
        except Exception as error:  # decoders fail on bad data in every way there is
            raise damaged(file) from error


def probe_image(path: str | Path) -> ImageInfo:
    """Size and frame count without decoding the picture. Raises MediaError as `load_image`."""
    file = Path(path)
    with open_picture(file) as image:
        try:
            width, height = image.size
            # Pillow turns TIFF by itself and reports the upright size.
            if image.format != "TIFF" and _orientation(image) >= _FIRST_QUARTER_TURN:
                width, height = height, width
            is_single = image.format in _SINGLE_PICTURE_FORMATS
            frame_count = 1 if is_single else int(getattr(image, "n_frames", 1))
            return ImageInfo(width, height, frame_count)
        except Exception as error:
            raise damaged(file) from error


def open_picture(path: Path) -> ImageFile.ImageFile:
    """The picture, its size checked and nothing decoded yet. Raises MediaError."""
    kind = sniff(read_head(path))
    if kind == "clip":
        raise MediaError(f"{display_name(path)} is a clip, not a picture. Attach it as a clip.")
    if kind == "unknown":
        raise unknown(path, _SUFFIXES, "picture", "PNG, JPEG, HEIC, WebP, GIF or TIFF")
    _prepare_pillow()
    try:
        if not item_kinds_are_text(path):
            raise damaged(path)
        image = Image.open(path, formats=_FORMATS)
    except MediaError:
        raise
    except FileNotFoundError as error:
        raise gone(path) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(path) from error
    except Exception as error:
        raise damaged(path) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise too_large(path)
    return image


@functools.cache
def _prepare_pillow() -> None:
    """Teaches Pillow HEIC and our own size limit, on the first picture rather than at import."""
    import pi_heif

    Image.init()
    pi_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def too_large(path: Path) -> MediaError:
    """The error for a picture, or a clip's frames, beyond what memory can bear."""
    return MediaError(
        f"{display_name(path)} has more than {MAX_PIXELS // 1_000_000} megapixels, which is more "
        "than Fireside reads. Make it smaller and attach it again."
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  a broken EXIF block is no reason to refuse the picture
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  as above
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as opaque 8-bit RGB, over white and in sRGB."""
    colours, alpha = _split(image)
    opaque = _in_srgb(colours, image.info.get("icc_profile"))
    if alpha is None:
        return opaque
    white = Image.new("RGB", image.size, "white")
    white.paste(opaque, mask=alpha)
    return white


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in a mode of 8 bits that profiles describe, and the alpha if there is any."""
    if image.mode in _SIXTEEN_BIT_MODES:
        levels = np.asarray(image)
        clear = image.info.get("transparency")
        alpha = None if clear is None else _greys((levels != clear).astype(np.float32))
        return _greys(levels.astype(np.float32) / np.float32(65535)), alpha
    if image.mode in _WIDE_MODES:
        return _greys(_unit_range(np.asarray(image, dtype=np.float32))), None
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        is_grey = image.mode in _GREY_MODES
        return rgba.getchannel("R") if is_grey else rgba.convert("RGB"), rgba.getchannel("A")
    return image if image.mode in _PROFILED_MODES else image.convert("RGB"), None


def _greys(levels: npt.NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.rint(levels * 255).astype(np.uint8))


def _unit_range(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Brings 32-bit and floating-point levels, which may mean anything, into 0..1."""
    values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(min=0)
    top = float(values.max(initial=0))
    for full in (1.0, 255.0, 65535.0):
        if top <= full:
            return values / full
    return values / top


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # an unusable profile: the plain colours are the best there is
    return image.convert("RGB")


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
