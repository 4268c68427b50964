"""The whole model: media embeddings take the place of their tokens, the head turns hidden states
into logits. Owns which positions a call uses; what a sequence has seen lives in its cache.
"""

import threading
from collections.abc import Callable, Generator

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_model.cache import CacheMark, SequenceCache
from mlx_model.config import ModelConfig
from mlx_model.draft_head import DraftHead, DraftPlace
from mlx_model.language import LanguageModel
from mlx_model.layers import Linear
from mlx_model.rope import RotaryPositions, media_position_ids
from mlx_model.vision import VisionModel

Tokens = mx.array | NDArray[np.int64]
Pixels = mx.array | NDArray[np.float32]
Grids = NDArray[np.int64]


class Trunk(nn.Module):
    """The two towers, under the names that the checkpoint gives them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vision is not None:
            self.visual = VisionModel(config.vision)
        self.language_model = LanguageModel(config.text)


class Model(nn.Module):
    """A Qwen3.5 model. Attribute names are checkpoint keys; one sequence at a time (batch 1).

    `mtp` is its draft head, if it was given one. Every call but `step` then also keeps up what the
    head has to know of the sequence.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.text.tie_word_embeddings:
            self.lm_head = Linear(config.text.hidden_size, config.text.vocab_size)
        self.mtp: DraftHead | None = None
        self._rotary = RotaryPositions(config.text.rope)
        self._warming_failed = False

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
        hidden = self._read(embeddings, positions, next_position, cache)
        return self.logits(hidden)

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
            position_ids = _line(cache.next_position, tokens)
        next_position = int(position_ids.max()) + 1
        hidden = self._read(embeddings, position_ids, next_position, cache, last_only=True)
        logits = self.logits(hidden[:, -1:])[:, 0]
        # The last token's logits do not need the states that it leaves behind; without this they
        # would stay unevaluated, and hold the whole chunk's arrays, until the next call.
        return logits if tokens == 1 else mx.depends([logits], cache.arrays())[0]

    def step(self, input_ids: mx.array, cache: SequenceCache) -> tuple[mx.array, list[CacheMark]]:
        """Read a few tokens of text so that any number of them can be taken back.

        The draft head hears nothing of them: `take_in_drafted` tells it later, of many at once.
        Returns what the model makes of each, and marks after each. Not evaluated.
        Shapes: input_ids [1, T] -> [1, T, hidden]
        """
        tokens = input_ids.shape[1]
        if tokens > 1:
            cache.leave_trail()
        rotation = self._rotary.line(cache.next_position, tokens)
        embeddings = self._embed(input_ids)
        hidden = self.model.language_model(embeddings, rotation, cache, last_only=False)
        cache.advance(tokens, cache.next_position + tokens)
        cache.last_hidden = hidden[:, -1:]
        return hidden, cache.trail_marks(hidden) if tokens > 1 else [cache.mark()]

    def warm_up(self, cancel: threading.Event, most_drafts: int = 0) -> None:
        """Have what steps consist of compiled, if it is not yet, so that no reply waits for it.

        That is single tokens, and windows of up to `most_drafts` more if there is a draft head. On
        Metal the first step of each kind does that otherwise. On the CPU backend it may take 15
        seconds, the first time after the machine was started; steps go without until it is done, a
        little slower. Looks at `cancel` between pieces of it; does not try again after an error.
        """
        language = self.model.language_model
        if language.is_warm or self._warming_failed or cancel.is_set():
            return
        drafts = most_drafts if self.mtp is not None else 0
        steps = [
            (self._embed(mx.zeros((1, tokens), mx.int32)), self._rotary.line(1, tokens))
            for tokens in range(1, drafts + 2)
        ]
        cache = self.make_cache()
        self._warming_failed = True
        mx.eval(self.last_logits(np.zeros((1, 1), np.int64), cache))
        for _ in language.warm_up(steps, cache):
            if cancel.is_set():
                break
        self._warming_failed = False
        mx.clear_cache()

    def draft(
        self, input_ids: mx.array, before: mx.array, place: DraftPlace, cache: SequenceCache
    ) -> mx.array:
        """What the draft head makes of the token after `input_ids`, from rows that it takes in.

        `before` holds what was made of the token before each. Not evaluated.
        Shapes: input_ids [1, T]; before [1, T, hidden] -> [1, 1, hidden], which `logits` reads
        """
        assert self.mtp is not None
        rotation = self._rotary.rotation(place.positions(input_ids.shape[1]))
        return self.mtp(self._embed(input_ids), before, rotation, cache.draft, place.row)

    def take_in_drafted(
        self, input_ids: mx.array, before: mx.array, place: DraftPlace, cache: SequenceCache
    ) -> None:
        """Tell the draft head of tokens that `step` has read. Arguments as of `draft`."""
        assert self.mtp is not None
        rotation = self._rotary.rotation(place.positions(input_ids.shape[1]))
        self.mtp.take_in(self._embed(input_ids), before, rotation, cache.draft, place.row)

    def _read(
        self,
        embeddings: mx.array,
        position_ids: NDArray[np.int64],
        next_position: int,
        cache: SequenceCache,
        last_only: bool = False,
    ) -> mx.array:
        """Run the tokens and count them; their hidden states, or at least that of the last."""
        rotation = self._rotary.rotation(position_ids)
        last_only = last_only and self.mtp is None
        hidden: mx.array = self.model.language_model(embeddings, rotation, cache, last_only)
        if self.mtp is not None:
            before = cache.last_hidden
            if before is None:
                before = mx.zeros_like(hidden[:, :1])
            before = mx.concatenate([before, hidden[:, :-1]], axis=1)
            shifted = np.column_stack([cache.last_position, position_ids[:, :-1]])
            turned = self._rotary.rotation(shifted)
            self.mtp.take_in(embeddings, before, turned, cache.draft, cache.length)
        time, row, column = map(int, position_ids[:, -1])
        cache.last_hidden = hidden[:, -1:]
        cache.advance(position_ids.shape[1], next_position, (time, row, column))
        return hidden

    def _tower(self) -> VisionModel:
        if self.config.vision is None:
            raise ValueError("this model has no vision tower")
        return self.model.visual

    def _embed(self, input_ids: Tokens) -> mx.array:
        ids = input_ids if isinstance(input_ids, mx.array) else mx.array(input_ids.astype(np.int32))
        embeddings: mx.array = self.model.language_model.embed_tokens(ids)
        return embeddings


def _line(start: int, tokens: int) -> NDArray[np.int64]:
    """Positions of text. Shapes: -> [3, T]"""
    return np.broadcast_to(np.arange(start, start + tokens, dtype=np.int64), (3, tokens))


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
