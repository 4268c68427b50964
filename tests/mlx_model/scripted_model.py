"""A model without weights: it answers with the tokens it is told to, and notes every call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.cache import Checkpoint, Segment

SCRATCH_BYTES = 1 << 22


@dataclass
class ScriptedCache:
    """Counts tokens, like the real one, and holds the state that each call leaves behind."""

    length: int = 0
    state: mx.array | None = None
    last_hidden: mx.array | None = None
    row_bytes = 0

    def arrays(self) -> list[mx.array]:
        return [] if self.state is None else [self.state]

    def mark(self) -> tuple[int, mx.array | None]:
        return self.length, self.state

    def rewind(self, mark: tuple[int, mx.array | None]) -> None:
        self.length, self.state = mark

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.length, self.length, (0, 0, 0), (), mx.array([[[float(self.length)]]])
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        self.length, self.last_hidden = checkpoint.length, checkpoint.last_hidden

    def rest(self) -> None:
        self.state = self.last_hidden = None

    def copy_rows(self, start: int, stop: int) -> Segment:
        return Segment((), 0)

    def write_rows(self, start: int, segment: Segment) -> None:
        pass


@dataclass(frozen=True)
class Call:
    """One call of `last_logits`, with plain values."""

    ids: list[int]
    positions: list[list[int]] | None
    media: list[list[float]] | None


@dataclass
class ScriptedModel:
    """The likeliest token after the prompt is script[0], then script[1] and so on.

    All other tokens get small scores of their own, so that sampling has something to choose from.
    Like a real model it only writes the computation down. Doing it takes `SCRATCH_BYTES`, and as
    many again for the state that it leaves behind, which the logits do not need: mlx's own
    bookkeeping then tells whether somebody looked at either.
    `on_call` runs at the start of every call: tests use it to press the stop button.
    """

    script: Sequence[int]
    prompt_tokens: int
    vocabulary: int = 400
    calls: list[Call] = field(default_factory=list)
    on_call: Callable[[int], None] = lambda number: None
    mtp: None = None

    def make_cache(self) -> ScriptedCache:
        return ScriptedCache()

    def last_logits(
        self,
        input_ids: mx.array,
        cache: ScriptedCache,
        media_embeddings: mx.array | None = None,
        position_ids: NDArray[np.int64] | None = None,
    ) -> mx.array:
        self.calls.append(
            Call(
                np.array(input_ids)[0].tolist(),
                None if position_ids is None else position_ids.tolist(),
                None if media_embeddings is None else np.array(media_embeddings).tolist(),
            )
        )
        self.on_call(len(self.calls))
        cache.length += input_ids.shape[1]
        cache.state = mx.ones(SCRATCH_BYTES // 4).min()
        nothing = 0 * mx.ones(SCRATCH_BYTES // 4).max()
        return self._scores(cache.length) + nothing

    def logits(self, hidden: mx.array) -> mx.array:
        """What the hidden state of a checkpoint, which is its length, goes on with."""
        return self._scores(int(hidden.item()))[None]

    def _scores(self, length: int) -> mx.array:
        logits = np.cos(np.arange(self.vocabulary) * (1 + length)).astype(np.float32)
        step = length - self.prompt_tokens
        if 0 <= step < len(self.script):
            logits[self.script[step]] = 10.0
        return mx.array(logits)[None]
