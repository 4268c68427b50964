"""The draft head of a model (`mtp.*`): guesses the token after the next one.

Multi-token prediction as the published checkpoints have it: the embedding of the next token beside
this token's hidden state after the final norm, one full-attention layer, the model's own head.
Source: DeepSeek-V3 technical report (2024), section 2.2; names as in the published checkpoints.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_model.cache import DraftCache
from mlx_model.config import TextConfig
from mlx_model.decoder_layer import DecoderLayer
from mlx_model.layers import Linear, RMSNorm
from mlx_model.rope import Rotation


@dataclass(frozen=True, slots=True)
class DraftPlace:
    """Where a run of rows begins: its first row, and the position of the token before it.

    The tokens of the run itself are text.
    """

    row: int
    position: tuple[int, int, int]

    def after(self, rows: int) -> "DraftPlace":
        """The place so many rows further on; at least one."""
        text = max(self.position) + rows
        return DraftPlace(self.row + rows, (text, text, text))

    def positions(self, rows: int) -> NDArray[np.int64]:
        """What so many rows turn by. Shapes: -> [3, rows]"""
        following = max(self.position) + np.arange(1, rows, dtype=np.int64)
        return np.column_stack([self.position, *np.broadcast_to(following, (3, rows - 1)).T])


class DraftHead(nn.Module):
    """One decoder layer over what the model has made of a sequence; keys as in the checkpoint.

    It reads rows: row j joins token j with what the model made of the token before it, and turns
    by the position of that one. Axes: T rows.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.pre_fc_norm_embedding = RMSNorm(width, config.rms_norm_eps)
        self.pre_fc_norm_hidden = RMSNorm(width, config.rms_norm_eps)
        self.fc = Linear(2 * width, width)
        self.layers = [DecoderLayer(config, "full_attention")]
        self.norm = RMSNorm(width, config.rms_norm_eps)

    def __call__(
        self,
        embeddings: mx.array,
        hidden: mx.array,
        rotation: Rotation,
        cache: DraftCache,
        start: int,
    ) -> mx.array:
        """Take in rows from `start` on; what the last one makes of the token after its own.

        The model's head turns that into logits; in the place of `hidden` it serves for a guess
        further ahead.
        Shapes: embeddings and hidden [1, T, hidden] -> [1, 1, hidden]
        """
        rows = self._joined(embeddings, hidden)
        before = rows.shape[1] - 1
        if before:
            self._remember(rows[:, :before], rotation.part(0, before), cache, start)
        last = rotation.part(before, 1)
        drafts: mx.array = self.norm(self.layers[0](rows[:, before:], last, cache, start + before))
        return drafts

    def take_in(
        self,
        embeddings: mx.array,
        hidden: mx.array,
        rotation: Rotation,
        cache: DraftCache,
        start: int,
    ) -> None:
        """Take in rows from `start` on without a guess, which needs a small part of the layer."""
        self._remember(self._joined(embeddings, hidden), rotation, cache, start)

    def _joined(self, embeddings: mx.array, hidden: mx.array) -> mx.array:
        following = self.pre_fc_norm_embedding(embeddings)
        joined = [following, self.pre_fc_norm_hidden(hidden)]
        rows: mx.array = self.fc(mx.concatenate(joined, axis=-1))
        return rows

    def _remember(self, rows: mx.array, rotation: Rotation, cache: DraftCache, start: int) -> None:
        layer = self.layers[0]
        layer.self_attn.remember(layer.input_layernorm(rows), rotation, cache, start)
