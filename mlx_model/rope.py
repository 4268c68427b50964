"""Rotary positions of the language model: where each token sits, and how queries and keys turn.

Positions are plain numpy on the host; nothing here remembers a sequence. A text token has one
position on all three axes (time, row, column); a picture's tokens share the time and spread over
rows and columns. The three axes interleave over the frequencies: T H W T H W ... then T alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.config import ModelConfig, RopeConfig
from mlx_model.device_math import on_metal

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LineRotation:
    """Rotation for tokens at consecutive positions `start`, `start` + 1, ... on all axes.

    Only on Metal, whose kernel knows the angles. `start` may be an array of no dimensions.
    """

    start: int | mx.array
    theta: float
    rotary_dim: int

    def apply(self, x: mx.array) -> mx.array:
        """Shapes: x [1, H, T, D] -> the same, its first `rotary_dim` elements turned."""
        return mx.fast.rope(
            x, self.rotary_dim, traditional=False, base=self.theta, scale=1.0, offset=self.start
        )

    def part(self, first: int, count: int) -> "LineRotation":
        """The rotation of `count` of its tokens from number `first` on."""
        del count
        return LineRotation(self.start + first, self.theta, self.rotary_dim)

    def arrays(self) -> list[mx.array]:
        """All that another rotation of this kind may have otherwise."""
        return [mx.array(self.start)]

    def of(self, arrays: list[mx.array]) -> "LineRotation":
        """The rotation of the same kind with these arrays."""
        return LineRotation(arrays[0], self.theta, self.rotary_dim)


@dataclass(frozen=True, slots=True)
class TableRotation:
    """Rotation by given angles, one row a token. Shapes: cos and sin [T, rotary_dim / 2], fp32."""

    cos: mx.array
    sin: mx.array

    def apply(self, x: mx.array) -> mx.array:
        """Shapes: x [1, H, T, D] -> the same, its first rotary elements turned in fp32."""
        half = self.cos.shape[-1]
        first, second = x[..., :half], x[..., half : 2 * half]
        cos, sin = self.cos, self.sin
        turned = [first * cos - second * sin, second * cos + first * sin]
        if x.shape[-1] > 2 * half:
            turned.append(x[..., 2 * half :])
        return mx.concatenate([part.astype(x.dtype) for part in turned], axis=-1)

    def part(self, first: int, count: int) -> "TableRotation":
        """The rotation of `count` of its tokens from number `first` on."""
        rows = slice(first, first + count)
        return TableRotation(self.cos[rows], self.sin[rows])

    def arrays(self) -> list[mx.array]:
        """All that another rotation of this kind may have otherwise."""
        return [self.cos, self.sin]

    def of(self, arrays: list[mx.array]) -> "TableRotation":
        """The rotation of the same kind with these arrays."""
        return TableRotation(*arrays)


Rotation = LineRotation | TableRotation


class RotaryPositions:
    """Turns position ids into rotations; holds constants of the config only."""

    def __init__(self, config: RopeConfig) -> None:
        self.theta = config.theta
        self.rotary_dim = config.rotary_dim
        exponents = np.arange(0, config.rotary_dim, 2, dtype=np.float32) / config.rotary_dim
        self.inverse_frequencies = 1.0 / np.power(np.float32(config.theta), exponents)
        self.axes = frequency_axes(config.sections)

    def line(self, start: int, tokens: int) -> Rotation:
        """Rotation for `tokens` of text that begin at position `start`."""
        if on_metal():
            return LineRotation(start, self.theta, self.rotary_dim)
        # mx.fast.rope rebuilds its angles in each layer on the CPU backend; one table serves all.
        return self._table(np.broadcast_to(np.arange(start, start + tokens), (3, tokens)))

    def rotation(self, position_ids: IntArray) -> Rotation:
        """Rotation for any positions. Shapes: position_ids [3, T]: time, row, column."""
        start, tokens = int(position_ids[0, 0]), position_ids.shape[1]
        if np.array_equal(
            position_ids, np.broadcast_to(np.arange(start, start + tokens), (3, tokens))
        ):
            return self.line(start, tokens)
        return self._table(position_ids)

    def _table(self, position_ids: IntArray) -> TableRotation:
        per_frequency = position_ids[self.axes].T.astype(np.float32)  # [T, rotary_dim / 2]
        angles = per_frequency * self.inverse_frequencies
        return TableRotation(mx.array(np.cos(angles)), mx.array(np.sin(angles)))


def frequency_axes(sections: tuple[int, int, int]) -> IntArray:
    """Axis (0 time, 1 row, 2 column) that drives each frequency, interleaved as the model's are."""
    axes = np.zeros(sum(sections), dtype=np.int64)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


def media_position_ids(
    input_ids: IntArray,
    image_grid_thw: IntArray | None,
    video_grid_thw: IntArray | None,
    config: ModelConfig,
    start: int = 0,
) -> tuple[IntArray, int]:
    """Positions of a run of tokens that begins at position `start`, and the position after it.

    Shapes: input_ids [T]; grids [n, 3] in patches, one row a picture or clip -> [3, T].
    Every temporal group of a clip is a block of its own. ValueError if ids and grids disagree.
    """
    merge = config.vision.spatial_merge_size if config.vision else 1
    grids = {
        config.image_token_id: _blocks(image_grid_thw, merge),
        config.video_token_id: _blocks(video_grid_thw, merge),
    }
    media = np.flatnonzero(
        (input_ids == config.image_token_id) | (input_ids == config.video_token_id)
    )
    if config.vision is None:
        media = media[:0]
    parts: list[IntArray] = []
    done, position = 0, start
    while (next_media := int(np.searchsorted(media, done))) < media.size:
        first = int(media[next_media])
        parts.append(_text_positions(position, first - done))
        position += first - done
        token = int(input_ids[first])
        rows, columns = next(grids[token], (0, 0))
        done = first + rows * columns
        if rows == 0 or not np.all(input_ids[first:done] == token) or done > input_ids.size:
            raise ValueError("the media tokens of the prompt do not match the given grids")
        parts.append(_block_positions(position, rows, columns))
        position += max(rows, columns)
    parts.append(_text_positions(position, input_ids.size - done))
    if any(next(blocks, None) for blocks in grids.values()):
        raise ValueError("more grids were given than the prompt has pictures or clip groups")
    return np.concatenate(parts, axis=1), position + input_ids.size - done


def _blocks(grid_thw: IntArray | None, merge: int) -> Iterator[tuple[int, int]]:
    """Rows and columns, in tokens, of each picture or temporal group."""
    for frames, height, width in [] if grid_thw is None else np.asarray(grid_thw).tolist():
        for _ in range(frames):
            yield height // merge, width // merge


def _text_positions(start: int, tokens: int) -> IntArray:
    return np.broadcast_to(np.arange(start, start + tokens, dtype=np.int64), (3, tokens))


def _block_positions(start: int, rows: int, columns: int) -> IntArray:
    row, column = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
    return start + np.stack([np.zeros_like(row), row, column])
