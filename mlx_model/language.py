"""The language model without its head: decoder layers over token or media embeddings."""

import mlx.core as mx
import mlx.nn as nn

from mlx_model.attention import Attention
from mlx_model.cache import DeltaNetCache, KeyValueCache, SequenceCache
from mlx_model.config import LayerType, TextConfig
from mlx_model.delta_net import GatedDeltaNet
from mlx_model.experts import MixtureOfExperts
from mlx_model.layers import MLP, RMSNorm
from mlx_model.rope import Rotation


class DecoderLayer(nn.Module):
    """A token mixer and an MLP or a mixture of them, each behind a norm, added to the stream."""

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
        self, x: mx.array, rotation: Rotation, cache: KeyValueCache | DeltaNetCache, start: int
    ) -> mx.array:
        """Shapes: x [1, T, hidden] -> the same."""
        normed = self.input_layernorm(x)
        if isinstance(cache, KeyValueCache):
            x = x + self.self_attn(normed, rotation, cache, start)
        else:
            x = x + self.linear_attn(normed, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    """Embeddings in, hidden states after the final norm out."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config, kind) for kind in config.layer_types]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def __call__(
        self, embeddings: mx.array, rotation: Rotation, cache: SequenceCache, last_only: bool
    ) -> mx.array:
        """Run T tokens after those in `cache`, whose layers take them in; its counts do not move.

        Shapes: embeddings [1, T, hidden] -> [1, T, hidden], or [1, 1, hidden] with `last_only`.
        """
        x = embeddings
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x = layer(x, rotation, layer_cache, cache.length)
        return self.norm(x[:, -1:] if last_only else x)
