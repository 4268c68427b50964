"""Pixels to patches: the resize, scaling and patch order that a Qwen3.5 checkpoint learnt with.

Owns the arithmetic and the settings it needs; knows nothing of files, prompts or the model.
Results equal transformers' PIL backend (5.23): the same target sizes, values within 1/255.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mlx_model.errors import MediaError

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Grid = npt.NDArray[np.int64]

MAX_ASPECT_RATIO = 200
# A clip's frames never go below this many times the smallest clip when they are capped one by one.
_CAP_FLOOR = 1.05


@dataclass(frozen=True, slots=True)
class PixelSettings:
    """How a checkpoint wants its pixels; budgets count those of a picture or a whole clip."""

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: float = 1 / 255

    @property
    def factor(self) -> int:
        """Sides of a resized picture are multiples of this; one token covers its square."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """How a checkpoint wants its clips: pixel settings, and how many frames are looked at."""

    pixels: PixelSettings
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    max_frame_tokens: int | None = None


def smart_resize(
    height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Height and width that a picture is resized to: multiples of `factor`, within budget.

    Halves round to even, as in the reference. A side is never below `factor`, so a very long
    picture can cost more than `max_pixels`. Raises MediaError past a ratio of 200.
    """
    _check_ratio(height, width)
    new_height = round(height / factor) * factor
    new_width = round(width / factor) * factor
    pixels = new_height * new_width
    if pixels > max_pixels:
        return _shrunk(height, width, math.sqrt(height * width / max_pixels), factor)
    if pixels < min_pixels:
        return _grown(height, width, math.sqrt(min_pixels / (height * width)), factor)
    return new_height, new_width


def smart_resize_clip(
    frame_count: int,
    height: int,
    width: int,
    *,
    temporal_factor: int,
    factor: int,
    min_pixels: int,
    max_pixels: int,
) -> tuple[int, int]:
    """Height and width for each frame of a clip; the budget counts frames x height x width.

    Raises MediaError past a ratio of 200.
    """
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_ratio(height, width)
    new_height = round(height / factor) * factor
    new_width = round(width / factor) * factor
    new_count = round(frame_count / temporal_factor) * temporal_factor
    pixels = new_count * new_height * new_width
    if pixels > max_pixels:
        beta = math.sqrt(frame_count * height * width / max_pixels)
        return _shrunk(height, width, beta, factor)
    if pixels < min_pixels:
        beta = math.sqrt(min_pixels / (frame_count * height * width))
        return _grown(height, width, beta, factor)
    return new_height, new_width


def picture_size(
    height: int, width: int, settings: PixelSettings, max_tokens: int | None = None
) -> tuple[int, int]:
    """Height and width that a picture is resized to; `max_tokens` only ever makes it smaller."""
    size = smart_resize(
        height,
        width,
        factor=settings.factor,
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
    )
    return _capped(size, height, width, max_tokens, settings.factor)


def frame_size(
    frame_count: int,
    height: int,
    width: int,
    settings: ClipSettings,
    max_frame_tokens: int | None = None,
) -> tuple[int, int]:
    """Height and width that each frame of a clip is resized to.

    A checkpoint's cap for each frame follows the reference's `cap_pixels_per_frame`; without one a
    short clip may spend the whole budget. `max_frame_tokens` only ever makes frames smaller.
    """
    pixels = settings.pixels
    frame_count = max(frame_count, pixels.temporal_patch_size)
    max_pixels = pixels.max_pixels
    if settings.max_frame_tokens is not None:
        a_frame = min(settings.max_frame_tokens * pixels.factor**2, max_pixels // frame_count)
        max_pixels = max(a_frame, int(pixels.min_pixels * _CAP_FLOOR)) * frame_count
    size = smart_resize_clip(
        frame_count,
        height,
        width,
        temporal_factor=pixels.temporal_patch_size,
        factor=pixels.factor,
        min_pixels=pixels.min_pixels,
        max_pixels=max_pixels,
    )
    return _capped(size, height, width, max_frame_tokens, pixels.factor)


def _capped(
    size: tuple[int, int], height: int, width: int, max_tokens: int | None, factor: int
) -> tuple[int, int]:
    """`size`, or a smaller one of the same shape that costs at most `max_tokens`.

    Unlike the budget of a checkpoint this holds for every shape: where the short side can be no
    shorter, the long one gives way.
    """
    if max_tokens is None or size[0] * size[1] <= max_tokens * factor**2:
        return size
    smaller = _shrunk(height, width, math.sqrt(height * width / (max_tokens * factor**2)), factor)
    return min(smaller[0], max_tokens * factor), min(smaller[1], max_tokens * factor)


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """A picture [H, W, 3] at another size, by Pillow's bicubic filter."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The flattened patches of a picture or clip, made from its pixels as they are asked for.

    As float32 values they take eight times the memory of a picture's pixels, so nobody should ever
    hold all of a large one. The last frame is repeated until the count fits the temporal patch: a
    still picture therefore fills its patches twice over.

    Shapes: frames T x [H, W, C] uint8, H and W multiples of patch x merge.
    """

    frames: Sequence[Pixels]
    settings: PixelSettings

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frame groups, rows and columns of patches."""
        size = self.settings.patch_size
        height, width = self.frames[0].shape[:2]
        return (
            -(-len(self.frames) // self.settings.temporal_patch_size),
            height // size,
            width // size,
        )

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __getitem__(self, rows: slice) -> Values:
        """A run of patches, by merge blocks: t, h/merge, w/merge, then rows and columns inside.

        Shapes: [rows, C * temporal * patch * patch].
        """
        start, stop, _ = rows.indices(len(self))
        band = self.grid[2] * self.settings.merge_size  # patches that lie side by side
        first, last = start // band, -(-stop // band)
        levels = [self._band(number) for number in range(first, last)]
        whole = np.concatenate(levels) if len(levels) != 1 else levels[0]
        return self._values(whole[start - first * band : stop - first * band])

    def _band(self, number: int) -> Pixels:
        """Levels of the merge blocks of a row. Shapes: [patches, C, temporal * patch * patch]."""
        size, merge = self.settings.patch_size, self.settings.merge_size
        temporal = self.settings.temporal_patch_size
        _, height, width = self.grid
        group, row = divmod(number, height // merge)
        top = row * merge * size
        last = len(self.frames) - 1
        strips = np.stack(
            [
                self.frames[min(group * temporal + frame, last)][top : top + merge * size]
                for frame in range(temporal)
            ]
        )
        blocks = strips.reshape(temporal, merge, size, width // merge, merge, size, -1)
        rows = blocks.transpose(3, 1, 4, 6, 0, 2, 5)  # bw, mh, mw, C, temporal, ph, pw
        return rows.reshape(width * merge, blocks.shape[-1], temporal * size * size)

    def _values(self, levels: Pixels) -> Values:
        values = np.empty(levels.shape, dtype=np.float32)
        for channel, table in enumerate(_value_tables(self.settings)):
            values[:, channel] = table[levels[:, channel]]
        return values.reshape(len(levels), -1)


def _value_tables(settings: PixelSettings) -> list[Values]:
    """What each of the 256 levels of a channel becomes, in the reference's order of roundings."""
    levels = (np.arange(256, dtype=np.float64) * settings.rescale_factor).astype(np.float32)
    return [
        (levels - np.float32(mean)) / np.float32(std)
        for mean, std in zip(settings.mean, settings.std, strict=True)
    ]


def _check_ratio(height: int, width: int) -> None:
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise MediaError(
            f"The picture is {ratio:,.0f} times as long as it is wide, and the model reads up to "
            f"{MAX_ASPECT_RATIO} times. Crop it and attach it again."
        )


def _shrunk(height: int, width: int, beta: float, factor: int) -> tuple[int, int]:
    return (
        max(factor, math.floor(height / beta / factor) * factor),
        max(factor, math.floor(width / beta / factor) * factor),
    )


def _grown(height: int, width: int, beta: float, factor: int) -> tuple[int, int]:
    return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
