"""A draft head that knows what will be said, and is wrong where it is told to be."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from mlx_model.cache import DraftCache
from mlx_model.model import Model
from mlx_model.rope import Rotation


class OracleHead:
    """Takes the place of a model's draft head; its guesses depend on the row alone.

    `told` collects the rows that it has been told of, in order.
    """

    def __init__(
        self, model: Model, ids: Sequence[int], wrong: Callable[[int], bool] = lambda row: False
    ) -> None:
        """`ids` is the whole sequence; after row r it guesses number r + 1, unless `wrong`(r)."""
        self._wrong = wrong
        self.told: list[int] = []
        width = model.config.text.hidden_size
        head = np.array(model.logits(mx.eye(width)[None])[0]).T.astype(np.float64)
        mixing = np.linalg.inv(head.T @ head + 1e-6 * np.eye(width))
        # What the model's head turns into each of the tokens, and into no other.
        self._states = 30 * head[list(ids)] @ mixing
        assert np.array_equal((self._states @ head.T).argmax(axis=1), ids)

    def __call__(
        self,
        embeddings: mx.array,
        hidden: mx.array,
        rotation: Rotation,
        cache: DraftCache,
        start: int,
    ) -> mx.array:
        row = start + embeddings.shape[1] - 1
        state = self._states[min(row + 1, len(self._states) - 1)]
        if self._wrong(row):
            state = -state
        # What it reads is part of the graph, as it is of a real head's.
        nothing = 0 * (hidden[:, -1:] + embeddings[:, -1:]).sum()
        return mx.array(state.astype(np.float32))[None, None] + nothing

    def take_in(
        self,
        embeddings: mx.array,
        hidden: mx.array,
        rotation: Rotation,
        cache: DraftCache,
        start: int,
    ) -> None:
        self.told.extend(range(start, start + embeddings.shape[1]))
