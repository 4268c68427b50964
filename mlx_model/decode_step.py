"""One token, or a window of drafts, through all decoder layers, in as few launches as mx.compile
makes of it.

Cuts the layers where attention writes to the cache and reads it, since its buffers grow; what lies
between two cuts is a function of arrays alone, which mx.compile traces once and then replays. Knows
no embeddings and no head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlx_model.cache import DeltaNetCache, KeyValueCache, SequenceCache
from mlx_model.decoder_layer import DecoderLayer
from mlx_model.delta_net import GatedDeltaNet
from mlx_model.layers import RMSNorm
from mlx_model.rope import Rotation

Arrays = list[mx.array]


class DecodeStep:
    """The layers of one language model, for one token after others, or a few that leave a trail.

    The weights are taken as they are at the first call. It refers to layers that do not refer to
    it: a model is freed at once, on the thread that lets go of it.
    """

    def __init__(
        self,
        layers: Sequence[DecoderLayer],
        norm: RMSNorm,
        dtype: mx.Dtype,
        like: Rotation,
        compiled: bool = True,
    ) -> None:
        """`norm` is the last one; the layers compute in `dtype` and turn as `like` does."""
        _make_ready(layers, norm)
        self._stretches = [
            (stretch, mx.compile(stretch.run) if compiled else stretch.run)
            for stretch in _cut(layers, norm, dtype, like)
        ]

    def __call__(self, x: mx.array, rotation: Rotation, cache: SequenceCache) -> mx.array:
        """Shapes: x [1, T, hidden] in fp32 -> the same after the last norm, in `dtype`."""
        *_, hidden = self.stretches(x, rotation, cache)
        return hidden

    def stretches(
        self, x: mx.array, rotation: Rotation, cache: SequenceCache
    ) -> Iterator[mx.array]:
        """The same piece by piece: the hidden states at each cut, and in the end the result.

        Shapes: x [1, T, hidden] in fp32 -> the same at each cut, [1, T, hidden] in `dtype` at last.
        """
        tokens = x.shape[1]
        angles = rotation.arrays()
        attended: Arrays = []
        layers = iter(cache.layers)
        for stretch, run in self._stretches:
            passed = [_delta_net(next(layers)) for _ in stretch.linear]
            states = [array for layer in passed for array in layer.held() if array is not None]
            x, *made = run(x, attended, states, angles)
            for layer in passed:
                ours, made = made[: 2 * tokens], made[2 * tokens :]
                trail = list(zip(ours[::2], ours[1::2], strict=True))
                layer.hold(trail[-1])
                if layer.trail is not None:
                    layer.trail.extend(trail)
            if stretch.attention is not None:
                queries, keys, values, gates = made
                held = next(layers)
                assert isinstance(held, KeyValueCache)
                keys, values = held.extend(cache.length, keys, values)
                attended = [stretch.attention.self_attn.attend(queries, keys, values), gates]
            yield x


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The layers between two looks at keys and values.

    The rest of the attention layer `before`, the DeltaNet layers `linear`, then the beginning of
    `attention`; or, at the end, the last norm.
    """

    before: DecoderLayer | None
    linear: tuple[DecoderLayer, ...]
    attention: DecoderLayer | None
    norm: RMSNorm
    dtype: mx.Dtype
    like: Rotation

    def run(self, x: mx.array, attended: Arrays, states: Arrays, angles: Arrays) -> Arrays:
        """The hidden states, what each DeltaNet layer leaves of each token, what attention needs.

        Shapes: x [1, T, hidden]; attended: what `Attention.output` takes, or nothing.
        """
        if self.before is not None:
            x = x + self.before.self_attn.output(attended[0], attended[1])
            x = self.before.add_mlp(x, self.dtype)
        made: Arrays = []
        for number, layer in enumerate(self.linear):
            cache = DeltaNetCache()
            cache.hold((states[2 * number], states[2 * number + 1]))
            cache.trail = [] if x.shape[1] > 1 else None
            x = x + layer.linear_attn(layer.input_layernorm(x, self.dtype), cache)
            x = layer.add_mlp(x, self.dtype)
            left = cache.trail or [cache.held()]
            made += [array for pair in left for array in pair if array is not None]
        if self.attention is None:
            return [self.norm(x, self.dtype), *made]
        rotation = self.like.of(angles)
        normed = self.attention.input_layernorm(x, self.dtype)
        queries, gates = self.attention.self_attn.queries(normed, rotation)
        keys, values = self.attention.self_attn.keys_and_values(normed, rotation)
        return [x, *made, queries, keys, values, gates]


def _make_ready(layers: Sequence[DecoderLayer], norm: RMSNorm) -> None:
    """Let modules make what they keep: made within a traced function, it could not be kept."""
    made = [norm.scale()]
    for layer in layers:
        for _, module in layer.named_modules():
            if isinstance(module, RMSNorm):
                made.append(module.scale())
            elif isinstance(module, GatedDeltaNet) and (both := module.small_maps()) is not None:
                made += both.values()
    mx.eval([array for array in made if isinstance(array, mx.array)])


def _cut(
    layers: Sequence[DecoderLayer], norm: RMSNorm, dtype: mx.Dtype, like: Rotation
) -> Iterator[_Stretch]:
    before: DecoderLayer | None = None
    linear: list[DecoderLayer] = []
    for layer in layers:
        if "self_attn" in layer:
            yield _Stretch(before, tuple(linear), layer, norm, dtype, like)
            before, linear = layer, []
        else:
            linear.append(layer)
    yield _Stretch(before, tuple(linear), None, norm, dtype, like)


def _delta_net(layer: DeltaNetCache | KeyValueCache) -> DeltaNetCache:
    assert isinstance(layer, DeltaNetCache)
    return layer
