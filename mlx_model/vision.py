"""The vision tower and its merger: patches of pictures and clip groups in, token embeddings out.

Knows nothing of the language model. Rows arrive in merge-block order (the four patches of one
token side by side), as the processor lays them out. Axes: P patches, H heads, D head width.
"""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_model.config import VisionConfig

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

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """Shapes: x [frames, P, hidden]; cos and sin [P, D], the same for each frame."""
        frames, patches, hidden = x.shape
        qkv = self.qkv(x).reshape(frames, patches, 3, self.heads, -1)
        queries, keys, values = qkv.transpose(2, 0, 3, 1, 4)  # [frames, H, P, D] each
        mixed = mx.fast.scaled_dot_product_attention(
            _rotated(queries, cos, sin), _rotated(keys, cos, sin), values, scale=self.scale
        )
        return self.proj(mixed.swapaxes(1, 2).reshape(frames, patches, hidden))


class VisionMLP(nn.Module):
    """Feed-forward part of a block, with the tanh form of GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_fc2(nn.gelu_approx(self.linear_fc1(x)))


class VisionBlock(nn.Module):
    """One layer of the tower."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=_NORM_EPS)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=_NORM_EPS)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


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
        """Encode pictures and clips one after the other, so that scratch follows the largest.

        Shapes: pixel_values [P, patch width]; grid_thw [n, 3] in patches -> [tokens, out_hidden].
        ValueError if rows and grids disagree.
        """
        grids = [(int(t), int(h), int(w)) for t, h, w in grid_thw]
        if sum(t * h * w for t, h, w in grids) != pixel_values.shape[0]:
            raise ValueError("the number of patches does not match the given grids")
        encoded, start = [], 0
        for frames, height, width in grids:
            stop = start + frames * height * width
            encoded.append(self._encode(pixel_values[start:stop], frames, height, width))
            start = stop
        return encoded[0] if len(encoded) == 1 else mx.concatenate(encoded, axis=0)

    def _encode(self, pixel_values: mx.array, frames: int, height: int, width: int) -> mx.array:
        rows, columns = patch_coordinates(height, width, self.config.spatial_merge_size)
        x = self.patch_embed(pixel_values).reshape(frames, height * width, -1)
        x = x + self._positions(rows, columns, height, width).astype(x.dtype)
        head_dim = self.config.hidden_size // self.config.num_heads
        angles = _rope_angles(rows, columns, head_dim)
        cos, sin = mx.array(np.cos(angles)), mx.array(np.sin(angles))
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.merger(x)

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


def _rope_angles(
    rows: NDArray[np.int64], columns: NDArray[np.int64], head_dim: int
) -> NDArray[np.float32]:
    """Angles of the two-axis rotation: rows, then columns, and both again. Shapes: [P, D]."""
    exponents = np.arange(0, head_dim // 2, 2, dtype=np.float32) / (head_dim // 2)
    inverse_frequencies = 1.0 / np.power(np.float32(_ROPE_THETA), exponents)
    axes = [axis.astype(np.float32)[:, None] * inverse_frequencies for axis in (rows, columns)]
    return np.concatenate(axes * 2, axis=1)


def _rotated(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    turned = mx.concatenate([-second, first], axis=-1)
    return (x * cos + turned * sin).astype(x.dtype)
