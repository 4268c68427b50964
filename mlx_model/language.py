"""The language model without its head: decoder layers over token or media embeddings."""

from collections.abc import Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn

from mlx_model.cache import SequenceCache
from mlx_model.config import TextConfig
from mlx_model.decode_step import DecodeStep
from mlx_model.decoder_layer import DecoderLayer
from mlx_model.device_math import on_metal
from mlx_model.layers import RMSNorm
from mlx_model.rope import LineRotation, Rotation


class LanguageModel(nn.Module):
    """Embeddings in, hidden states after the final norm out.

    Between the layers the hidden states are in fp32, whatever the layers compute in.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config, kind) for kind in config.layer_types]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._step: DecodeStep | None = None
        # Whether all kernels of steps are there; on Metal steps do not wait for that.
        self.is_warm = False

    def __call__(
        self, embeddings: mx.array, rotation: Rotation, cache: SequenceCache, last_only: bool
    ) -> mx.array:
        """Run T tokens after those in `cache`, whose layers take them in; its counts do not move.

        Shapes: embeddings [1, T, hidden] -> [1, T, hidden], or [1, 1, hidden] with `last_only`.
        """
        dtype = embeddings.dtype
        x = embeddings.astype(mx.float32)
        is_step = (x.shape[1] == 1 and cache.length) or cache.leaves_trail
        if is_step and self._compiles(rotation):
            return self._compiled(dtype, rotation)(x, rotation, cache)
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x = layer(x, rotation, layer_cache, cache.length, dtype)
        return self.norm(x[:, -1:] if last_only else x, dtype)

    def warm_up(
        self, steps: Sequence[tuple[mx.array, Rotation]], cache: SequenceCache
    ) -> Iterator[None]:
        """Have what these steps consist of compiled: one array is evaluated before each yield.

        Off Metal the model takes compiled steps once this has run to its end. Each step is
        embeddings [1, T, hidden] and their rotation. Its tokens come after one or more in `cache`,
        which is of no use afterwards.
        """
        for embeddings, rotation in steps:
            step = self._compiled(embeddings.dtype, rotation)
            if embeddings.shape[1] > 1:
                cache.leave_trail()
            for x in step.stretches(embeddings.astype(mx.float32), rotation, cache):
                for array in [*cache.arrays(), x]:
                    mx.eval(array)
                    yield
        self.is_warm = True

    def _compiled(self, dtype: mx.Dtype, like: Rotation) -> DecodeStep:
        if self._step is None:
            self._step = DecodeStep(self.layers, self.norm, dtype, like)
        return self._step

    def _compiles(self, rotation: Rotation) -> bool:
        # Off Metal a C++ compiler makes each kernel, for which no reply is to wait.
        return isinstance(rotation, LineRotation) if on_metal() else self.is_warm
