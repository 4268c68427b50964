"""The whole model: media embeddings take the place of their tokens, the head turns hidden states
into logits. Owns which positions a call uses; what a sequence has seen lives in its cache.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_model.cache import SequenceCache
from mlx_model.config import ModelConfig
from mlx_model.language import LanguageModel
from mlx_model.layers import Linear
from mlx_model.rope import RotaryPositions, Rotation, media_position_ids
from mlx_model.vision import VisionModel

Tokens = mx.array | NDArray[np.int64]
Pixels = mx.array | NDArray[np.float32]
Grids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """What the language model read and made of a sequence. Shapes: arrays [1, T, hidden]."""

    embeddings: mx.array
    rotation: Rotation
    hidden: mx.array


class Trunk(nn.Module):
    """The two towers, under the names that the checkpoint gives them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vision is not None:
            self.visual = VisionModel(config.vision)
        self.language_model = LanguageModel(config.text)


class Model(nn.Module):
    """A Qwen3.5 model. Attribute names are checkpoint keys; one sequence at a time (batch 1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.text.tie_word_embeddings:
            self.lm_head = Linear(config.text.hidden_size, config.text.vocab_size)
        self._rotary = RotaryPositions(config.text.rope)

    def make_cache(self) -> SequenceCache:
        """An empty cache for one sequence."""
        return SequenceCache(self.config.text.layer_types)

    def __call__(
        self,
        input_ids: Tokens,
        pixel_values: Pixels | None = None,
        image_grid_thw: Grids | None = None,
        pixel_values_videos: Pixels | None = None,
        video_grid_thw: Grids | None = None,
        cache: SequenceCache | None = None,
    ) -> mx.array:
        """Logits of every token, given whole pictures and clips.

        Shapes: input_ids [1, T]; pixels [P, patch width]; grids [n, 3] -> [1, T, vocab].
        """
        run = self.run(
            input_ids, pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw, cache
        )
        return self.logits(run.hidden)

    def run(
        self,
        input_ids: Tokens,
        pixel_values: Pixels | None = None,
        image_grid_thw: Grids | None = None,
        pixel_values_videos: Pixels | None = None,
        video_grid_thw: Grids | None = None,
        cache: SequenceCache | None = None,
    ) -> Run:
        """The same up to the head: what it reads, and what the draft head reads."""
        ids = np.asarray(input_ids, dtype=np.int64)
        cache = self.make_cache() if cache is None else cache
        embeddings = self._embed(input_ids)
        for token, pixels, grid in (
            (self.config.image_token_id, pixel_values, image_grid_thw),
            (self.config.video_token_id, pixel_values_videos, video_grid_thw),
        ):
            if (pixels is None) != (grid is None):
                raise ValueError("media need both their pixels and their grids")
            if pixels is not None and grid is not None:
                embeddings = _placed(embeddings, ids[0] == token, self.encode_media(pixels, grid))
        positions, next_position = media_position_ids(
            ids[0], image_grid_thw, video_grid_thw, self.config, cache.next_position
        )
        rotation = self._rotary.rotation(positions)
        hidden = self.model.language_model(embeddings, rotation, cache, last_only=False)
        cache.advance(ids.shape[1], next_position)
        cache.last_hidden = hidden[:, -1:]
        return Run(embeddings, rotation, hidden)

    def logits(self, hidden: mx.array) -> mx.array:
        """Shapes: hidden [1, T, hidden], after the final norm -> [1, T, vocab]."""
        tied = self.config.text.tie_word_embeddings
        head = self.model.language_model.embed_tokens.as_linear if tied else self.lm_head
        logits: mx.array = head(hidden)
        return logits

    def encode_media(self, pixel_values: Pixels, grid_thw: Grids) -> mx.array:
        """Embeddings of pictures or clips, lazily: the caller evaluates them.

        Shapes: pixel_values [P, patch width]; grid_thw [n, 3] in patches -> [tokens, hidden].
        """
        pixels = pixel_values if isinstance(pixel_values, mx.array) else mx.array(pixel_values)
        return self._tower()(pixels, grid_thw)

    def media_work(self, grid_thw: Grids) -> int:
        """The operations that encoding one picture or clip takes; its grid is [1, 3]."""
        return self._tower().work(grid_thw[0])

    def encode_media_in_pieces(
        self, rows: Callable[[slice], Pixels], grid_thw: Grids, piece_work: int
    ) -> Generator[int, None, mx.array]:
        """What `encode_media` makes of one picture or clip, evaluated piece by piece.

        Asks for its patches, as [rows, patch width], when it needs them. Yields the work of each
        piece, at most about `piece_work`, when it is done; returns [tokens, hidden].
        """
        return self._tower().pieces(lambda part: mx.array(rows(part)), grid_thw[0], piece_work)

    def position_ids(
        self,
        input_ids: Tokens,
        image_grid_thw: Grids | None = None,
        video_grid_thw: Grids | None = None,
    ) -> tuple[NDArray[np.int64], int]:
        """Positions of a whole prompt, and the position of the token after it.

        Shapes: input_ids [1, T] or [T]; grids [n, 3] in patches -> [3, T].
        """
        ids = np.asarray(input_ids, dtype=np.int64).reshape(-1)
        return media_position_ids(ids, image_grid_thw, video_grid_thw, self.config)

    def last_logits(
        self,
        input_ids: Tokens,
        cache: SequenceCache,
        media_embeddings: mx.array | None = None,
        position_ids: NDArray[np.int64] | None = None,
    ) -> mx.array:
        """Take in one chunk of a prompt, or one new token; only its last row reaches the head.

        Without `position_ids` the tokens are text that follows what `cache` holds; an `input_ids`
        that is still being computed is then not waited for. After a chunk that ends inside a
        picture the next chunk must bring its own positions. Evaluating the result evaluates the
        cache with it.
        Shapes: input_ids [1, T]; media_embeddings [n, hidden], one row for each media token of
        this chunk; position_ids [3, T] -> [1, vocab].
        """
        tokens = input_ids.shape[1]
        embeddings = self._embed(input_ids)
        if media_embeddings is not None:
            ids = np.asarray(input_ids)[0]
            config = self.config
            media = (ids == config.image_token_id) | (ids == config.video_token_id)
            embeddings = _placed(embeddings, media, media_embeddings)
        if position_ids is None:
            rotation = self._rotary.line(cache.next_position, tokens)
            next_position = cache.next_position + tokens
        else:
            rotation = self._rotary.rotation(position_ids)
            next_position = int(position_ids.max()) + 1
        hidden = self.model.language_model(embeddings, rotation, cache, last_only=True)
        cache.advance(tokens, next_position)
        cache.last_hidden = hidden
        logits = self.logits(hidden)[:, 0]
        # The last token's logits do not need the states that it leaves behind; without this they
        # would stay unevaluated, and hold the whole chunk's arrays, until the next call.
        return logits if tokens == 1 else mx.depends([logits], cache.arrays())[0]

    def _tower(self) -> VisionModel:
        if self.config.vision is None:
            raise ValueError("this model has no vision tower")
        return self.model.visual

    def _embed(self, input_ids: Tokens) -> mx.array:
        ids = input_ids if isinstance(input_ids, mx.array) else mx.array(input_ids.astype(np.int32))
        embeddings: mx.array = self.model.language_model.embed_tokens(ids)
        return embeddings


def _placed(embeddings: mx.array, where: NDArray[np.bool_], rows: mx.array) -> mx.array:
    """Embeddings with `rows` in the places marked by `where` [T]; ValueError on another count."""
    if int(where.sum()) != rows.shape[0]:
        raise ValueError(
            f"{int(where.sum())} media tokens were given {rows.shape[0]} media embeddings"
        )
    if rows.shape[0] == 0:
        return embeddings
    # Each media token takes the row of its own rank; text tokens read row 0 and drop it.
    rank = np.maximum(np.cumsum(where) - 1, 0).astype(np.int32)
    spread = rows[mx.array(rank)].astype(embeddings.dtype)
    return mx.where(mx.array(where)[None, :, None], spread[None], embeddings)
