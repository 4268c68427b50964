"""One layer of the language model: a token mixer and an MLP or a mixture of them."""

import mlx.core as mx
import mlx.nn as nn

from mlx_model.attention import Attention
from mlx_model.cache import DeltaNetCache, KeyValueCache
from mlx_model.config import LayerType, TextConfig
from mlx_model.delta_net import GatedDeltaNet
from mlx_model.experts import MixtureOfExperts
from mlx_model.layers import MLP, RMSNorm
from mlx_model.rope import Rotation


class DecoderLayer(nn.Module):
    """Mixer and MLP, each behind a norm, added to the stream of hidden states."""

    def __init__(self, config: TextConfig, kind: LayerType) -> None:
        super().__init__()
        if kind == "full_attention":
            self.self_attn = Attention(config)
        else:
            self.linear_attn = GatedDeltaNet(config)
        experts = config.experts
        self.mlp = MLP(config) if experts is None else MixtureOfExperts(config, experts)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def __call__(
        self,
        x: mx.array,
        rotation: Rotation,
        cache: KeyValueCache | DeltaNetCache,
        start: int,
        dtype: mx.Dtype | None = None,
    ) -> mx.array:
        """Mixer and MLP compute in `dtype`, which is that of x unless given.

        Shapes: x [1, T, hidden] -> the same.
        """
        normed = self.input_layernorm(x, dtype)
        if isinstance(cache, KeyValueCache):
            x = x + self.self_attn(normed, rotation, cache, start)
        else:
            x = x + self.linear_attn(normed, cache)
        return self.add_mlp(x, dtype)

    def add_mlp(self, x: mx.array, dtype: mx.Dtype | None = None) -> mx.array:
        """The second half. Shapes: x [1, T, hidden] -> the same."""
        return x + self.mlp(self.post_attention_layernorm(x, dtype))
