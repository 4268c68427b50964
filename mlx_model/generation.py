"""Prefill and decode over token ids, one sequence; knows no text, no files and no conversation.

Both are generators, so that the caller hears of each piece of work and can stop between two. The
model is whatever has `last_logits`; cancelling is looked at before every piece, and nothing is
computed once the end is known.
"""

import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.events import FinishReason, Progress
from mlx_model.sampling import Sampler

# Tokens after which freed buffers go back to the system: a growing KV cache leaves many behind.
CLEAR_EVERY = 512


class Cache(Protocol):
    """What one sequence has left behind in the model; `length` counts its tokens."""

    length: int

    def arrays(self) -> list[mx.array]:
        """Every array that the next call reads."""

    def mark(self) -> Any:
        """Remember this moment."""

    def rewind(self, mark: Any) -> None:
        """Forget every call since `mark`."""


class TokenModel(Protocol):
    """What generation asks of a model; `mlx_model.model.Model` is the real one."""

    def last_logits(
        self,
        input_ids: mx.array,
        cache: Any,
        media_embeddings: mx.array | None = None,
        position_ids: NDArray[np.int64] | None = None,
    ) -> mx.array:
        """Append `input_ids` [1, T] to the cache; the logits [1, vocab] of the last of them."""


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt ready for the model.

    `media_spans` are the (start, stop) runs of media tokens in order; `media_embeddings` holds
    their rows one after the other, None for a prompt without media. Media in what a cache holds
    already may be left out of both. Reading pauses at the lengths in `cuts`, too.

    Shapes:
        input_ids [T], position_ids [3, T], media_embeddings [media tokens, hidden]
    """

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    media_spans: Sequence[tuple[int, int]] = ()
    media_embeddings: mx.array | None = None
    cuts: Collection[int] = ()

    def media_between(self, start: int, stop: int) -> mx.array | None:
        """The embeddings of the media tokens in [start, stop), None if there are none."""
        if self.media_embeddings is None:
            return None
        first = sum(_overlap(span, 0, start) for span in self.media_spans)
        count = sum(_overlap(span, start, stop) for span in self.media_spans)
        return self.media_embeddings[first : first + count] if count else None


def _overlap(span: tuple[int, int], start: int, stop: int) -> int:
    return max(0, min(span[1], stop) - max(span[0], start))


def chunk_bounds(
    start: int, stop: int, chunk_tokens: int, cuts: Collection[int] = ()
) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) at `cuts` and at multiples of `chunk_tokens` counted from position 0.

    The grid is absolute because KV rows differ in their last bits with the chunk they were
    computed in: a prompt continued from a cache is then cut where it was cut from the beginning.
    """
    ahead = sorted(cut for cut in cuts if start < cut < stop)
    for cut in [*ahead, stop]:
        while start < cut:
            end = min((start // chunk_tokens + 1) * chunk_tokens, cut)
            yield start, end
            start = end


def prefill(
    model: TokenModel,
    cache: Cache,
    prompt: PreparedPrompt,
    chunk_tokens: int,
    cancel: threading.Event,
) -> Generator[Progress, None, mx.array | None]:
    """Read the prompt into `cache`, which may already hold its beginning.

    Yields the tokens read after each chunk; returns the logits [1, vocab] of the last token, or
    None when cancelled.
    """
    total = prompt.input_ids.size
    logits: mx.array | None = None
    yield Progress("reading", cache.length, total)
    for start, stop in chunk_bounds(cache.length, total, chunk_tokens, prompt.cuts):
        if cancel.is_set():
            return None
        mark = cache.mark()
        try:
            logits = model.last_logits(
                mx.array(prompt.input_ids[None, start:stop]),
                cache,
                media_embeddings=prompt.media_between(start, stop),
                position_ids=prompt.position_ids[:, start:stop],
            )
        except BaseException:
            cache.rewind(mark)
            raise
        del mark
        mx.eval(logits, cache.arrays())
        yield Progress("reading", stop, total)
    mx.clear_cache()
    return logits


# What `decode` yields, takes in return, and returns.
Tokens = Generator[int, Sequence[int] | None, FinishReason]


def decode(
    model: TokenModel,
    cache: Cache,
    logits: mx.array,
    sampler: Sampler,
    stop_token_ids: frozenset[int],
    max_tokens: int,
    max_context: int,
    cancel: threading.Event,
) -> Tokens:
    """Continue after `logits` [1, vocab], yielding each token id except the one that stops.

    The caller may send token ids in return: the reply then goes on with these, and the next token
    is drawn after the last of them. They are neither yielded nor counted in `max_tokens`.

    Returns why it ended: "stop" (a stop token), "length" (`max_tokens` yielded), "context_full"
    (no room for another token within `max_context`) or "cancelled" (before anything else ended
    it). However it ends, also when the caller closes it, `cache` counts exactly the tokens whose
    state it holds computed: all tokens yielded after "stop", else all but the last one.
    """
    if max_tokens < 1:
        return "length"
    if cancel.is_set():
        return "cancelled"
    token = sampler(logits)
    drawn = 0
    while True:
        # Only now, when the step before it has been waited for: with two steps under way mlx
        # would copy whole buffers of keys and values instead of writing a row into them.
        mx.async_eval(token, cache.arrays())
        drawn += 1
        more = drawn < max_tokens and cache.length + 1 < max_context
        mark = cache.mark()
        following: mx.array | None = None
        try:
            # The next step is written down while mlx computes this token, which hides the time
            # that Python needs for it. Only looking at its result would compute it.
            ahead = model.last_logits(token.reshape(1, 1), cache) if more else None
            token_id = _integer(token)
            if token_id in stop_token_ids:
                return "stop"
            sampler.accept(token_id)
            sent = yield token_id
            if not sent and not cancel.is_set():
                following = ahead
        finally:
            if following is None:
                cache.rewind(mark)
        del mark, ahead
        if following is None:
            if not more:
                return "length" if drawn == max_tokens else "context_full"
            if not sent or cancel.is_set():
                return "cancelled"
            if cache.length + 1 + len(sent) >= max_context:
                return "context_full"
            following = _fed(model, cache, sampler, token_id, sent)
        token = sampler(following)
        if drawn % CLEAR_EVERY == 0:
            mx.clear_cache()


def _fed(
    model: TokenModel, cache: Cache, sampler: Sampler, token_id: int, sent: Sequence[int]
) -> mx.array:
    """The logits after `token_id` and the tokens that the caller sent, all in one step."""
    for sent_id in sent:
        sampler.accept(sent_id)
    return model.last_logits(mx.array([[token_id, *sent]]), cache)


def _integer(scalar: mx.array) -> int:
    return int(scalar.item())  # type: ignore[arg-type]
