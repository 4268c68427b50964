"""Reads prompts into sequences, beginning with whatever is known of them.

Owns what one model remembers: the histories it has read, and the media it has looked at. Knows
prompts and media, but not where they come from or what is said after them.
"""

import threading
import time
from collections.abc import Collection, Generator, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.cache import SequenceCache
from mlx_model.events import Progress
from mlx_model.generation import PreparedPrompt, prefill
from mlx_model.limits import MachineLimits
from mlx_model.looking import MediaQueue, encode
from mlx_model.model import Model
from mlx_model.prompt import Prompt
from mlx_model.state.branch import Keys
from mlx_model.state.content_keys import content_keys
from mlx_model.state.disk_memory import DiskMemory
from mlx_model.state.history_tree import HistoryTree
from mlx_model.state.media_memory import MediaMemory
from mlx_model.state.thinning import spread_lengths

# A state is kept at distances of so many chunks, twice as many, and so on from a prompt's end.
_STATE_CHUNKS = 8


class Memory:
    """What one model has read and seen.

    Attributes:
        histories: the states after prompts and answers, and their rows.
        media: what is known of pictures and clips.
        disk: what outlives the program, if anything does.
    """

    def __init__(self, model: Model, limits: MachineLimits) -> None:
        self.histories: HistoryTree[SequenceCache] = HistoryTree(
            model.make_cache, limits.state_bytes
        )
        self.media = MediaMemory(limits.feature_bytes)
        self.disk: DiskMemory | None = None

    def outlive(self, disk: DiskMemory) -> None:
        """From now on, what is worth it goes to the disk and comes from there."""
        self.disk = disk
        self.media.recall = disk.sight

    def put_away(self, cancel: threading.Event) -> bool:
        """Write what the disk does not have yet; False when stopped."""
        if self.disk is None:
            return True
        is_done = self.disk.put_away(self.histories, cancel)
        return self.disk.put_sights(self.media.unsaved, cancel) and is_done

    def resume(self, keys: Keys, cancel: threading.Event) -> SequenceCache:
        """A sequence that holds the longest known beginning of `keys`.

        When cancelled, what the disk knows is left there.
        """
        if self.disk is not None:
            self.disk.bring_back(keys, self.histories, cancel)
        return self.histories.resume(keys)

    def clear(self) -> None:
        """Forget everything but what is on the disk, as if the model had just been loaded."""
        self.histories.clear()
        self.media.clear()


class Reading:
    """One prompt on its way into a sequence.

    Attributes:
        cache: the sequence; it holds the prompt when `steps` is through.
        reused_tokens, read_tokens: how many tokens were known, and how many have been read.
        seconds: what the reading took, without the looking.
    """

    def __init__(
        self, model: Model, memory: Memory, limits: MachineLimits, cancel: threading.Event
    ) -> None:
        self._model = model
        self._memory = memory
        self._limits = limits
        self._cancel = cancel
        self.cache: SequenceCache
        self.reused_tokens = 0
        self.read_tokens = 0
        self.seconds = 0.0

    def steps(
        self, prompt: Prompt, media: MediaQueue
    ) -> Generator[Progress, None, mx.array | None]:
        """Bring the prompt in; returns the logits [1, vocab] of its last token.

        None when cancelled. However it ends, what was read until then is kept. Raises MediaError
        for a picture that cannot be read after all.
        """
        limits = self._limits
        keys = content_keys(prompt, media.digests)
        self.cache = self._memory.resume(keys, self._cancel)
        self.reused_tokens = self.cache.length
        total = keys.size
        hidden = self.cache.last_hidden
        if self.cache.length == total and hidden is not None:
            yield Progress("reading", total, total)
            return self._model.logits(hidden)[:, 0]
        _leave_out(media, prompt, self.cache.length)
        embeddings = yield from encode(
            self._model, media, limits.vision_piece_work, self._cancel, self._memory.media
        )
        if self._cancel.is_set():
            return None
        spread = spread_lengths(total, _STATE_CHUNKS * limits.prefill_chunk_tokens)
        lengths = {*prompt.resume_points, *spread, total}
        prepared = prepare(self._model, prompt, media, embeddings, self.cache.length, lengths)
        return (yield from self._read(prepared, keys))

    def go_on(self, said: Sequence[int]) -> None:
        """The sequence was gone on with by these tokens, or by as many of them as it holds."""
        cache, histories = self.cache, self._memory.histories
        count = cache.length - histories.length
        try:
            if count > 0:
                histories.advance(np.array(said[:count], dtype=np.int64))
                histories.keep(cache.checkpoint(), lasting=False)
        except Exception:
            histories.abandon()
            raise

    def _read(
        self, prepared: PreparedPrompt, keys: NDArray[np.int64]
    ) -> Generator[Progress, None, mx.array | None]:
        histories, cache = self._memory.histories, self.cache
        limits = self._limits
        heads = self._model.config.text.num_attention_heads
        steps = prefill(
            self._model,
            cache,
            prepared,
            limits.prefill_chunk_tokens,
            self._cancel,
            limits.most_scores(heads),
        )
        started_s = time.perf_counter()
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                logits: mx.array | None = end.value
                if logits is None:
                    self._keep_what_was_read()
                return logits
            except Exception:
                self._give_up_what_failed()
                raise
            self.seconds = time.perf_counter() - started_s
            if cache.length > histories.length:
                self.read_tokens += cache.length - histories.length
                histories.advance(keys[histories.length : cache.length])
                if cache.length in prepared.cuts:
                    histories.keep(cache.checkpoint())
            try:
                yield progress
            except GeneratorExit:
                self._keep_what_was_read()
                raise

    def _keep_what_was_read(self) -> None:
        """Reading ends in the middle: whoever wants the same prompt goes on from here."""
        self._memory.histories.keep(self.cache.checkpoint(), lasting=False)

    def _give_up_what_failed(self) -> None:
        """After a failure: are the rows still what they were, or never to be computed any more?"""
        try:
            mx.eval(self.cache.arrays())
        except Exception:  # noqa: BLE001  the failure itself is on its way to the caller
            self._memory.histories.abandon()


def prepare(
    model: Model,
    prompt: Prompt,
    media: MediaQueue,
    embeddings: mx.array | None,
    known: int = 0,
    cuts: Collection[int] = (),
) -> PreparedPrompt:
    """The prompt with its positions, and with what was encoded of its media.

    `embeddings` are those of the media that are not among the first `known` tokens as a whole.
    """
    position_ids, _ = model.position_ids(
        prompt.input_ids, _stacked(media.image_grids), _stacked(media.video_grids)
    )
    left_out = _known_media(prompt, known)
    spans = [
        (span.start, span.stop) for span in prompt.media if (span.kind, span.index) not in left_out
    ]
    return PreparedPrompt(prompt.input_ids, position_ids, spans, embeddings, cuts)


def _known_media(prompt: Prompt, known: int) -> set[tuple[str, int]]:
    """The media all of whose tokens are among the first `known`."""
    ends = {(span.kind, span.index): span.stop for span in prompt.media}
    return {medium for medium, stop in ends.items() if stop <= known}


def _leave_out(media: MediaQueue, prompt: Prompt, known: int) -> None:
    for _ in _known_media(prompt, known):
        media.waiting.popleft()


def _stacked(grids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    return np.concatenate(grids) if grids else None
