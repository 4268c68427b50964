"""What one sequence has left behind in every layer: keys and values, and DeltaNet states.

Owns storage and its growth, knows nothing of the layers' arithmetic. Two facts shape it. Keys and
values are only ever appended, so a shorter sequence is the same buffers with a smaller length.
A DeltaNet state is a new array after every call, so an earlier one is kept by keeping the
reference. Neither way of going back needs a copy.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlx_model.config import LayerType

_FIRST_TOKENS = 256
_STEP_TOKENS = 4096

LayerArrays = tuple[mx.array | None, mx.array | None]


@dataclass(frozen=True, slots=True)
class CacheMark:
    """Where a sequence stood, for `SequenceCache.rewind`.

    Let go of it before the arrays of a later call are evaluated: as long as the buffers of keys
    and values have another owner, mlx copies them instead of writing one more row.
    """

    length: int
    next_position: int
    layers: tuple[LayerArrays, ...]


class KeyValueCache:
    """Keys and values of one attention layer; the sequence's length lives in SequenceCache."""

    def __init__(self) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    def held(self) -> LayerArrays:
        """The two arrays."""
        return self.keys, self.values

    def hold(self, arrays: LayerArrays) -> None:
        """Take arrays that `held` gave in the place of its own."""
        self.keys, self.values = arrays

    def extend(self, start: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write new rows at token `start` and return all rows up to their end.

        Shapes: keys and values [1, K, T, D] -> [1, K, start + T, D].
        """
        stop = start + keys.shape[2]
        self.keys = _write(self.keys, start, stop, keys)
        self.values = _write(self.values, start, stop, values)
        return self.keys[:, :, :stop], self.values[:, :, :stop]


class DeltaNetCache:
    """Recurrent state and convolution tail of one DeltaNet layer; both are replaced, never edited.

    Shapes: state [1, H, Dv, Dk] in fp32; conv_tail [1, kernel - 1, C], inputs before activation.
    """

    def __init__(self) -> None:
        self.state: mx.array | None = None
        self.conv_tail: mx.array | None = None

    def held(self) -> LayerArrays:
        """The two arrays."""
        return self.state, self.conv_tail

    def hold(self, arrays: LayerArrays) -> None:
        """Take arrays that `held` gave in the place of its own."""
        self.state, self.conv_tail = arrays


class SequenceCache:
    """The caches of all layers of one sequence.

    `length` counts the tokens in it, `next_position` is the M-RoPE position of the next text
    token: pictures cover fewer positions than tokens, so the two differ after one.
    """

    def __init__(self, layer_types: Sequence[LayerType]) -> None:
        self.layers: list[KeyValueCache | DeltaNetCache] = [
            KeyValueCache() if kind == "full_attention" else DeltaNetCache() for kind in layer_types
        ]
        self.length = 0
        self.next_position = 0

    def advance(self, tokens: int, next_position: int) -> None:
        """Count `tokens` that every layer has just taken in."""
        self.length += tokens
        self.next_position = next_position

    def mark(self) -> CacheMark:
        """Remember this moment, to undo a call whose result turns out not to be wanted."""
        layers = tuple(layer.held() for layer in self.layers)
        return CacheMark(self.length, self.next_position, layers)

    def rewind(self, mark: CacheMark) -> None:
        """Forget every call since `mark`; what these have not computed yet never will be."""
        self.length, self.next_position = mark.length, mark.next_position
        for layer, arrays in zip(self.layers, mark.layers, strict=True):
            layer.hold(arrays)

    def arrays(self) -> list[mx.array]:
        """Every array held, for mx.eval and for counting bytes."""
        pairs = [layer.held() for layer in self.layers]
        return [array for pair in pairs for array in pair if array is not None]


def _write(buffer: mx.array | None, start: int, stop: int, rows: mx.array) -> mx.array:
    if buffer is None or buffer.shape[2] < stop:
        buffer = _grown(buffer, start, stop, rows)
    written = copy.copy(buffer)  # assigning would also change what a mark holds
    written[:, :, start:stop] = rows
    return written


def _grown(buffer: mx.array | None, start: int, stop: int, rows: mx.array) -> mx.array:
    """A buffer with room for `stop` tokens that keeps the first `start` of the old one.

    Half as much again, at most 4096 tokens: few copies while short, bounded waste while long.
    """
    room = max(stop + min(stop // 2, _STEP_TOKENS), _FIRST_TOKENS)
    batch, heads, _, width = rows.shape
    if buffer is None or start == 0:
        return mx.zeros((batch, heads, room, width), rows.dtype)
    spare = mx.zeros((batch, heads, room - start, width), rows.dtype)
    return mx.concatenate([buffer[:, :, :start], spare], axis=2)
