"""The vision tower and its merger: patches of pictures and clip groups in, token embeddings out.

Knows nothing of the language model. Rows arrive in merge-block order (the four patches of one
token side by side), as the processor lays them out. Axes: P patches, H heads, D head width.

All patches of a frame look at each other. For a large photograph that is more work than anyone can
wait for in one call, and more scores than memory holds; so the tower is written as steps over some
of a frame's rows, and a frame that is small, or wanted whole, has all its rows in one step.
"""

import math
from collections.abc import Callable, Generator, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_model.config import VisionConfig
from mlx_model.device_math import gelu_tanh, softmax_attention
from mlx_model.vision_work import RowWork, cuts, frame_work, row_work

# Some of the patches of a picture or clip, as [rows, patch width].
PatchRows = Callable[[slice], mx.array]
# The work of one step and the arrays, not yet evaluated, that it makes. A step that only gets hold
# of memory counts as no work but takes its time: it is a piece of its own.
Step = tuple[int, Sequence[mx.array]]
# Makes arrays of some rows of a frame; `InRows` has it make those of all rows, cut by cut, and
# joins them, given the work of one row.
RowFunction = Callable[[slice], list[mx.array]]
InRows = Callable[[RowFunction, int], Generator[Step, None, list[mx.array]]]

_NORM_EPS = 1e-6
_ROPE_THETA = 10000.0


class PatchProjection(nn.Module):
    """The patch convolution, which covers each patch once and so is a plain product."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        side = config.patch_size
        shape = (config.hidden_size, config.in_channels, config.temporal_patch_size, side, side)
        self.weight = mx.zeros(shape)
        self.bias = mx.zeros((config.hidden_size,))

    def __call__(self, patches: mx.array) -> mx.array:
        """Shapes: patches [P, channels * frames * side * side] -> [P, hidden]."""
        flat = self.weight.reshape(self.weight.shape[0], -1)
        return mx.addmm(self.bias, patches.astype(flat.dtype), flat.T)


class PatchEmbed(nn.Module):
    """Names the projection as the checkpoint does."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = PatchProjection(config)

    def __call__(self, patches: mx.array) -> mx.array:
        return self.proj(patches)


class VisionAttention(nn.Module):
    """Full attention among the patches of one frame."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.scale = (config.hidden_size // config.num_heads) ** -0.5
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def project(self, x: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
        """Queries, keys and values of some rows.

        Shapes: x [frames, P, hidden]; cos and sin [P, D], the same for each frame
        -> [frames, H, P, D] each.
        """
        frames, patches, _ = x.shape
        qkv = self.qkv(x).reshape(frames, patches, 3, self.heads, -1)
        queries, keys, values = qkv.transpose(2, 0, 3, 1, 4)
        return [_rotated(queries, cos, sin), _rotated(keys, cos, sin), values]

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """What the rows of the queries see. Shapes: [frames, H, P, D] -> [frames, P, hidden]."""
        mixed = softmax_attention(queries, keys, values, self.scale)
        frames, _, patches, _ = mixed.shape
        return self.proj(mixed.swapaxes(1, 2).reshape(frames, patches, -1))


class VisionMLP(nn.Module):
    """Feed-forward part of a block, with the tanh form of GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_fc2(gelu_tanh(self.linear_fc1(x)))


class VisionBlock(nn.Module):
    """One layer of the tower."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=_NORM_EPS)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=_NORM_EPS)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)

    def steps(
        self, x: mx.array, cos: mx.array, sin: mx.array, in_rows: InRows, work: RowWork
    ) -> Generator[Step, None, mx.array]:
        """What each row offers the others, then what each makes of all that is offered.

        Shapes: x and the result [frames, P, hidden]; cos and sin [P, D].
        """

        def project(rows: slice) -> list[mx.array]:
            return self.attn.project(self.norm1(x[:, rows]), cos[rows], sin[rows])

        def attend(rows: slice) -> list[mx.array]:
            y = x[:, rows] + self.attn.attend(queries[:, :, rows], keys, values)
            return [y + self.mlp(self.norm2(y))]

        queries, keys, values = yield from in_rows(project, work.project)
        (y,) = yield from in_rows(attend, work.attend)
        return y


class PatchMerger(nn.Module):
    """Makes one token of each block of patches, with the exact (erf) form of GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        merged = config.hidden_size * config.spatial_merge_size**2
        self.norm = nn.LayerNorm(config.hidden_size, eps=_NORM_EPS)
        self.linear_fc1 = nn.Linear(merged, merged)
        self.linear_fc2 = nn.Linear(merged, config.out_hidden_size)
        self.merged = merged

    def __call__(self, x: mx.array) -> mx.array:
        """Shapes: x [frames, P, hidden] -> [frames * P / block, out_hidden]."""
        blocks = self.norm(x).reshape(-1, self.merged)
        return self.linear_fc2(nn.gelu(self.linear_fc1(blocks)))


class VisionModel(nn.Module):
    """The tower with its merger; pictures and clips differ only in their number of frames."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = [VisionBlock(config) for _ in range(config.depth)]
        self.merger = PatchMerger(config)

    def __call__(self, pixel_values: mx.array, grid_thw: NDArray[np.int64]) -> mx.array:
        """Encode whole pictures and clips one after the other, lazily.

        Shapes: pixel_values [P, patch width]; grid_thw [n, 3] in patches -> [tokens, out_hidden].
        ValueError if rows and grids disagree.
        """
        if int(grid_thw.prod(axis=1).sum()) != pixel_values.shape[0]:
            raise ValueError("the number of patches does not match the given grids")
        encoded: list[mx.array] = []
        first = 0
        for grid in grid_thw:
            pixels = pixel_values[first : first + int(grid.prod())]
            *_, (_, tokens) = self._steps(pixels.__getitem__, grid, self.work(grid))
            encoded += tokens
            first += pixels.shape[0]
        return _joined(encoded)

    def work(self, grid: NDArray[np.int64]) -> int:
        """The operations (see `vision_work`) that one picture or clip of this (t, h, w) takes."""
        frames, height, width = (int(side) for side in grid)
        return frames * frame_work(self.config, height * width)

    def pieces(
        self, rows: PatchRows, grid: NDArray[np.int64], piece_work: int
    ) -> Generator[int, None, mx.array]:
        """Encode one picture or clip of the grid (t, h, w), at most `piece_work` at a time.

        Yields the work of each piece when it is done; returns the embeddings [tokens, out_hidden].
        The rows of one token are a piece even where they alone are more work than that.
        """
        work, made = 0, list[mx.array]()
        for step_work, arrays in self._steps(rows, grid, piece_work):
            if made and (not work or not step_work or work + step_work > piece_work):
                mx.eval(made)
                yield work
                work, made = 0, []
            work += step_work
            made += arrays
        mx.eval(made)
        yield work
        return made[-1]

    def _steps(
        self, rows: PatchRows, grid: NDArray[np.int64], budget: int
    ) -> Generator[Step, None, None]:
        """From patches to embeddings, which are the one array that the last step makes.

        Frames do not see each other, so as many go together as the budget has room for; one that
        is beyond it is cut.
        """
        groups, height, width = (int(side) for side in grid)
        area = height * width
        together = max(1, budget // (area * row_work(self.config, area).most))
        tokens = []
        for first in range(0, groups, together):
            frames = min(together, groups - first)
            steps = self._frame_steps(rows, first, (frames, height, width), budget)
            tokens.append((yield from steps))
        if len(tokens) > 1:
            yield 0, [_joined(tokens)]

    def _frame_steps(
        self, rows: PatchRows, first: int, grid: tuple[int, int, int], budget: int
    ) -> Generator[Step, None, mx.array]:
        """The same for the frames from number `first` on that go together."""
        frames, height, width = grid
        area, merge = height * width, self.config.spatial_merge_size
        work = row_work(self.config, area)
        row_of, column_of = patch_coordinates(height, width, merge)
        cos, sin = _rotation(row_of, column_of, self.config.hidden_size // self.config.num_heads)

        def in_rows(make: RowFunction, work_of_row: int) -> Generator[Step, None, list[mx.array]]:
            whole: list[mx.array] = []
            for part in cuts(area, frames * work_of_row, budget, merge**2):
                made = make(part)
                if part == slice(0, area):
                    yield frames * area * work_of_row, made
                    return made
                for array in made[len(whole) :]:  # only for the first part
                    whole.append(_room_for(array, part, area))
                    yield 0, whole[-1:]
                for array, room in zip(made, whole, strict=True):
                    _put(array, room, part)
                yield frames * (part.stop - part.start) * work_of_row, whole
            return whole

        def embed(part: slice) -> list[mx.array]:
            last = first + frames - 1
            pixels = rows(slice(first * area + part.start, last * area + part.stop))
            x = self.patch_embed(pixels).reshape(frames, part.stop - part.start, -1)
            positions = self._positions(row_of[part], column_of[part], height, width)
            return [x + positions.astype(x.dtype)]

        (x,) = yield from in_rows(embed, work.embed)
        for block in self.blocks:
            x = yield from block.steps(x, cos, sin, in_rows, work)
        (tokens,) = yield from in_rows(lambda part: [self.merger(x[:, part])], work.merge)
        return tokens

    def _positions(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], height: int, width: int
    ) -> mx.array:
        """The learned table, stretched to height x width: four taps a patch, weighed in fp32."""
        side = math.isqrt(self.config.num_position_embeddings)
        total: mx.array | None = None
        for row_tap, row_weight in table_taps(rows, height, side):
            for column_tap, column_weight in table_taps(columns, width, side):
                table_rows = self.pos_embed(
                    mx.array((row_tap * side + column_tap).astype(np.int32))
                )
                weight = mx.array(row_weight * column_weight)[:, None]
                term = table_rows.astype(mx.float32) * weight
                total = term if total is None else total + term
        assert total is not None
        return total


def patch_coordinates(
    height: int, width: int, merge: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each patch of a frame, in merge-block order. Shapes: [P] each."""
    grid = np.arange(height * width, dtype=np.int64)
    blocks = grid.reshape(height // merge, merge, width // merge, merge).swapaxes(1, 2)
    rows, columns = np.divmod(blocks.reshape(-1), width)
    return rows, columns


def table_taps(
    index: NDArray[np.int64], size: int, side: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Where `index` of `size` falls in a table of `side` entries: lower and upper tap with weights.

    The first and last patch sit exactly on the first and last entry (aligned corners).
    """
    source = index.astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    lower = np.floor(source)
    upper_weight = (source - lower).astype(np.float32)
    low = lower.astype(np.int64)
    return [(low, 1 - upper_weight), (np.minimum(low + 1, side - 1), upper_weight)]


def _rotation(
    rows: NDArray[np.int64], columns: NDArray[np.int64], head_dim: int
) -> tuple[mx.array, mx.array]:
    """Cosines and sines of the two-axis rotation: of rows, of columns, and both again.

    Shapes: [P, D] each.
    """
    exponents = np.arange(0, head_dim // 2, 2, dtype=np.float32) / (head_dim // 2)
    inverse_frequencies = 1.0 / np.power(np.float32(_ROPE_THETA), exponents)
    places = np.arange(max(rows.max(), columns.max()) + 1, dtype=np.float32)
    angles = places[:, None] * inverse_frequencies

    def of_patches(table: NDArray[np.float32]) -> mx.array:
        return mx.array(np.concatenate([table[rows], table[columns]] * 2, axis=1))

    return of_patches(np.cos(angles)), of_patches(np.sin(angles))


def _rotated(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    turned = mx.concatenate([-second, first], axis=-1)
    return (x * cos + turned * sin).astype(x.dtype)


def _room_for(rows: mx.array, part: slice, area: int) -> mx.array:
    """An array for all rows of a frame, of which `rows` are those of `part`."""
    *before, count, width = rows.shape
    return mx.zeros((*before, count * area // (part.stop - part.start), width), rows.dtype)


def _put(rows: mx.array, room: mx.array, part: slice) -> None:
    """Write the rows of `part` into `room`, in place: joining them in the end would need the memory
    twice.
    """
    first = part.start * rows.shape[-2] // (part.stop - part.start)
    room[..., first : first + rows.shape[-2], :] = rows


def _joined(parts: Sequence[mx.array]) -> mx.array:
    """Rows, which are the last axis but one, one after the other."""
    return parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=-2)
