"""What one sequence has left behind in every layer: keys and values, and DeltaNet states.

Owns storage and its growth, knows nothing of the layers' arithmetic. Two facts shape it. Keys and
values are only ever appended, so a shorter sequence is the same buffers with a smaller length.
A DeltaNet state is a new array after every call, so an earlier one is kept by keeping the
reference. Neither way of going back needs a copy: a `Checkpoint` is a length and some references.
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
    last_hidden: mx.array | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that goes on from token `length` of a sequence, but for its rows of keys and values.

    The arrays are never written to, so a checkpoint costs what its DeltaNet layers hold; it has no
    part in the buffers of keys and values, which mlx would copy if they had a second owner.
    `last_position` is time, row and column of the last token, which may be one of a picture.

    Shapes: states of each DeltaNet layer as in DeltaNetCache; last_hidden [1, 1, hidden].
    """

    length: int
    next_position: int
    last_position: tuple[int, int, int]
    states: tuple[LayerArrays, ...]
    last_hidden: mx.array | None

    @property
    def nbytes(self) -> int:
        """What it keeps in memory."""
        hidden = 0 if self.last_hidden is None else self.last_hidden.nbytes
        return hidden + _nbytes(self.states)


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of some consecutive tokens, copied out of the buffers and never written to.

    `layers` are the keys and values of each attention layer, `bits` the width of their numbers.
    Shapes: [1, K, T, D].
    """

    layers: tuple[LayerArrays, ...]
    bits: int

    @property
    def nbytes(self) -> int:
        """What it keeps in memory."""
        return _nbytes(self.layers)

    def part(self, start: int, stop: int) -> "Segment":
        """Rows [start, stop) of its own, as a copy that keeps nothing else in memory."""
        return Segment(_copied(self.layers, start, stop), self.bits)


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


class DraftCache(KeyValueCache):
    """Keys and values of a draft head: row j joins token j with what was made of j - 1.

    Row 0, which has no token before it, is there so that rows and tokens count alike; no draft
    reads it.
    """

    def extend(self, start: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The same, but what is returned begins with row 1."""
        keys, values = super().extend(start, keys, values)
        return keys[:, :, 1:], values[:, :, 1:]


class DeltaNetCache:
    """Recurrent state and convolution tail of one DeltaNet layer; both are replaced, never edited.

    `trail`, if there is one, collects both after every single token of a call.
    Shapes: state [1, H, Dv, Dk] in fp32; conv_tail [1, kernel - 1, C], inputs before activation.
    """

    def __init__(self) -> None:
        self.state: mx.array | None = None
        self.conv_tail: mx.array | None = None
        self.trail: list[LayerArrays] | None = None

    def held(self) -> LayerArrays:
        """The two arrays."""
        return self.state, self.conv_tail

    def hold(self, arrays: LayerArrays) -> None:
        """Take arrays that `held` gave in the place of its own."""
        self.state, self.conv_tail = arrays


class SequenceCache:
    """The caches of all layers of one sequence.

    `length` counts the tokens in it, `next_position` is the M-RoPE position of the next text
    token: pictures cover fewer positions than tokens, so the two differ after one. `draft` belongs
    to the draft head of the model; without one it stays empty.
    """

    def __init__(self, layer_types: Sequence[LayerType]) -> None:
        self.layers: list[KeyValueCache | DeltaNetCache] = [
            KeyValueCache() if kind == "full_attention" else DeltaNetCache() for kind in layer_types
        ]
        self.draft = DraftCache()
        self.length = 0
        self.next_position = 0
        # After the final norm, [1, 1, hidden]: what the head and the draft head go on from.
        self.last_hidden: mx.array | None = None
        self._ended_media: tuple[int, tuple[int, int, int]] | None = None

    def advance(
        self, tokens: int, next_position: int, last: tuple[int, int, int] | None = None
    ) -> None:
        """Count `tokens` that every layer has just taken in; `last` is where the last of them is.

        It may be left out for text, which is where all three axes meet.
        """
        self.length += tokens
        self.next_position = next_position
        self._ended_media = None if last is None else (self.length, last)

    @property
    def last_position(self) -> tuple[int, int, int]:
        """Time, row and column of the last token."""
        if self._ended_media is not None and self._ended_media[0] == self.length:
            return self._ended_media[1]
        return (self.next_position - 1,) * 3

    def mark(self) -> CacheMark:
        """Remember this moment, to undo a call whose result turns out not to be wanted."""
        arrays = tuple(layer.held() for layer in self._every_layer())
        return CacheMark(self.length, self.next_position, arrays, self.last_hidden)

    def rewind(self, mark: CacheMark) -> None:
        """Forget every call since `mark`; what these have not computed yet never will be."""
        self.length, self.next_position = mark.length, mark.next_position
        self.last_hidden = mark.last_hidden
        for layer, arrays in zip(self._every_layer(), mark.layers, strict=True):
            layer.hold(arrays)
        self._take_trails()  # of a call that failed

    def leave_trail(self) -> None:
        """Make the next call, of a few tokens, one of which every beginning can be kept."""
        for layer in self._delta_nets():
            layer.trail = []

    @property
    def leaves_trail(self) -> bool:
        """Whether the next call is such a one."""
        return any(layer.trail is not None for layer in self._delta_nets())

    def trail_marks(self, hidden: mx.array) -> list[CacheMark]:
        """Marks after each token of the latest call, ahead of which `leave_trail` was called.

        Shapes: hidden [1, T, hidden], what was made of the T tokens
        """
        tokens = hidden.shape[1]
        trails = self._take_trails()
        marks = []
        for place in range(tokens):
            passed = iter([trail[place] for trail in trails])
            arrays = tuple(
                next(passed) if isinstance(layer, DeltaNetCache) else layer.held()
                for layer in self._every_layer()
            )
            missing = tokens - 1 - place
            length, next_position = self.length - missing, self.next_position - missing
            marks.append(CacheMark(length, next_position, arrays, hidden[:, place : place + 1]))
        return marks

    def arrays(self) -> list[mx.array]:
        """Every array held, for mx.eval and for counting bytes."""
        pairs = [layer.held() for layer in self._every_layer()]
        held = [array for pair in pairs for array in pair]
        return [array for array in [*held, self.last_hidden] if array is not None]

    def checkpoint(self) -> Checkpoint:
        """What it takes to come back to this moment, while the rows up to here are kept."""
        states: list[LayerArrays] = []
        for layer in self._delta_nets():
            tail = layer.conv_tail
            # The tail is a view into the inputs of its whole chunk, which would stay with it.
            states.append((layer.state, None if tail is None else mx.contiguous(tail)))
        hidden = None if self.last_hidden is None else mx.contiguous(self.last_hidden)
        mx.eval(states, hidden)
        return Checkpoint(
            self.length, self.next_position, self.last_position, tuple(states), hidden
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Come back to `checkpoint`, whose rows must be in the buffers; copies nothing."""
        self.length, self.next_position = checkpoint.length, checkpoint.next_position
        self._ended_media = checkpoint.length, checkpoint.last_position
        self.last_hidden = checkpoint.last_hidden
        for layer, arrays in zip(self._delta_nets(), checkpoint.states, strict=True):
            layer.hold(arrays)

    def rest(self) -> None:
        """Let go of all but the rows, until `restore`."""
        self.last_hidden = None
        for layer in self._delta_nets():
            layer.hold((None, None))

    def copy_rows(self, start: int, stop: int) -> Segment:
        """A copy of the keys and values of tokens [start, stop)."""
        held = [layer.held() for layer in self._key_values()]
        widths = [8 * keys.itemsize for keys, _ in held if keys is not None]
        return Segment(_copied(held, start, stop), max(widths, default=0))

    def write_rows(self, start: int, segment: Segment) -> None:
        """Put rows that were copied out back in their place, after `start` tokens."""
        for layer, (keys, values) in zip(self._key_values(), segment.layers, strict=True):
            if keys is not None and values is not None:
                layer.extend(start, keys, values)
        mx.eval(self.arrays())  # an unwritten row would keep the buffer before it alive

    @property
    def row_bytes(self) -> int:
        """What the buffers of keys and values take, room for later rows included."""
        return _nbytes([layer.held() for layer in self._key_values()])

    def _take_trails(self) -> list[list[LayerArrays]]:
        trails = [layer.trail for layer in self._delta_nets() if layer.trail is not None]
        for layer in self._delta_nets():
            layer.trail = None
        return trails

    def _every_layer(self) -> list[KeyValueCache | DeltaNetCache]:
        return [*self.layers, self.draft]

    def _key_values(self) -> list[KeyValueCache]:
        return [layer for layer in self._every_layer() if isinstance(layer, KeyValueCache)]

    def _delta_nets(self) -> list[DeltaNetCache]:
        return [layer for layer in self.layers if isinstance(layer, DeltaNetCache)]


def _nbytes(layers: Sequence[LayerArrays]) -> int:
    return sum(array.nbytes for pair in layers for array in pair if array is not None)


def _copied(layers: Sequence[LayerArrays], start: int, stop: int) -> tuple[LayerArrays, ...]:
    def copied(rows: mx.array | None) -> mx.array | None:
        return None if rows is None else mx.contiguous(rows[:, :, start:stop])

    copies = tuple((copied(keys), copied(values)) for keys, values in layers)
    mx.eval(copies)
    return copies


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
