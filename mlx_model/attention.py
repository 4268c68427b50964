"""The full-attention mixer: grouped queries, normed and partly rotated heads, a gated output."""

import mlx.core as mx
import mlx.nn as nn

from mlx_model.cache import KeyValueCache
from mlx_model.config import TextConfig
from mlx_model.device_math import softmax_attention
from mlx_model.layers import Linear, RMSNorm
from mlx_model.rope import Rotation


class Attention(nn.Module):
    """Causal attention. Axes: T new tokens, H query heads, K key and value heads, D head width."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        width = config.hidden_size
        # Each head's rows in q_proj are its query, then its output gate.
        self.q_proj = Linear(width, self.heads * self.head_dim * 2)
        self.k_proj = Linear(width, self.kv_heads * self.head_dim)
        self.v_proj = Linear(width, self.kv_heads * self.head_dim)
        self.o_proj = Linear(self.heads * self.head_dim, width)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def __call__(
        self, x: mx.array, rotation: Rotation, cache: KeyValueCache, start: int
    ) -> mx.array:
        """Shapes: x [1, T, hidden] -> the same; `start` tokens are in `cache` already."""
        queries, gates = self.queries(x, rotation)
        keys, values = self.remember(x, rotation, cache, start)
        return self.output(self.attend(queries, keys, values), gates)

    def queries(self, x: mx.array, rotation: Rotation) -> tuple[mx.array, mx.array]:
        """Shapes: x [1, T, hidden] -> queries [1, H, T, D] and output gates [1, T, H, D]."""
        both = self.q_proj(x).reshape(1, x.shape[1], self.heads, 2 * self.head_dim)
        queries, gates = mx.split(both, 2, axis=-1)
        return rotation.apply(self.q_norm(queries).swapaxes(1, 2)), gates

    def keys_and_values(self, x: mx.array, rotation: Rotation) -> tuple[mx.array, mx.array]:
        """Shapes: x [1, T, hidden] -> [1, K, T, D] twice."""
        shape = 1, x.shape[1], self.kv_heads, self.head_dim
        keys = rotation.apply(self.k_norm(self.k_proj(x).reshape(shape)).swapaxes(1, 2))
        return keys, self.v_proj(x).reshape(shape).swapaxes(1, 2)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """Shapes: queries [1, H, T, D]; keys and values [1, K, all tokens, D] -> [1, H, T, D]."""
        return softmax_attention(queries, keys, values, self.scale, causal=True)

    def output(self, mixed: mx.array, gates: mx.array) -> mx.array:
        """Shapes: mixed [1, H, T, D]; gates [1, T, H, D] -> [1, T, hidden]."""
        gated = mixed.swapaxes(1, 2) * mx.sigmoid(gates)
        return self.o_proj(gated.reshape(1, gates.shape[1], -1))

    def remember(
        self, x: mx.array, rotation: Rotation, cache: KeyValueCache, start: int
    ) -> tuple[mx.array, mx.array]:
        """Put the keys and values of new tokens into `cache`; returns all that it holds.

        Shapes: x [1, T, hidden] -> [1, K, start + T, D] twice.
        """
        return cache.extend(start, *self.keys_and_values(x, rotation))
