"""Prefill and decode over token ids, one sequence; knows no text, no files and no conversation.

Both are generators, so that the caller hears of each piece of work and can stop between two. The
model is whatever has `last_logits`; cancelling is looked at before every piece, and nothing is
computed once the end is known.
"""

import threading
from collections.abc import Generator, Iterator, Sequence
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
    their rows one after the other, None for a prompt without media.

    Shapes:
        input_ids [T], position_ids [3, T], media_embeddings [media tokens, hidden]
    """

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    media_spans: Sequence[tuple[int, int]] = ()
    media_embeddings: mx.array | None = None

    def media_between(self, start: int, stop: int) -> mx.array | None:
        """The embeddings of the media tokens in [start, stop), None if there are none."""
        if self.media_embeddings is None:
            return None
        first = sum(_overlap(span, 0, start) for span in self.media_spans)
        count = sum(_overlap(span, start, stop) for span in self.media_spans)
        return self.media_embeddings[first : first + count] if count else None


def _overlap(span: tuple[int, int], start: int, stop: int) -> int:
    return max(0, min(span[1], stop) - max(span[0], start))


def chunk_bounds(start: int, stop: int, chunk_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) at multiples of `chunk_tokens` counted from position 0.

    The grid is absolute because KV rows differ in their last bits with the chunk they were
    computed in: a prompt continued from a cache is then cut where it was cut from the beginning.
    """
    while start < stop:
        end = min((start // chunk_tokens + 1) * chunk_tokens, stop)
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
    for start, stop in chunk_bounds(cache.length, total, chunk_tokens):
        if cancel.is_set():
            return None
        logits = model.last_logits(
            mx.array(prompt.input_ids[None, start:stop]),
            cache,
            media_embeddings=prompt.media_between(start, stop),
            position_ids=prompt.position_ids[:, start:stop],
        )
        mx.eval(logits, cache.arrays())
        yield Progress("reading", stop, total)
    mx.clear_cache()
    return logits


def decode(
    model: TokenModel,
    cache: Cache,
    logits: mx.array,
    sampler: Sampler,
    stop_token_ids: frozenset[int],
    max_tokens: int,
    max_context: int,
    cancel: threading.Event,
) -> Generator[int, None, FinishReason]:
    """Continue after `logits` [1, vocab], yielding each token id except the one that stops.

    Returns why it ended: "stop" (a stop token), "length" (`max_tokens` yielded), "context_full"
    (prompt and reply fill `max_context` tokens) or "cancelled". The cache may then count one token
    that it does not hold, with rows that are not computed: the stop token itself, or the last one
    yielded before "cancelled".
    """
    if max_tokens < 1:
        return "length"
    token = sampler(logits)
    for count in range(1, max_tokens + 1):
        if cancel.is_set():
            return "cancelled"
        mx.async_eval(token)
        # The next step is written down while mlx computes this token, which hides the time that
        # Python needs for it. Only looking at its result would compute it.
        last = count == max_tokens or cache.length + 1 >= max_context
        following = None if last else model.last_logits(token.reshape(1, 1), cache)
        token_id = _integer(token)
        if token_id in stop_token_ids:
            return "stop"
        sampler.accept(token_id)
        yield token_id
        if following is None:
            break
        token = sampler(following)
        if count % CLEAR_EVERY == 0:
            mx.clear_cache()
    return "length" if count == max_tokens else "context_full"


def _integer(scalar: mx.array) -> int:
    return int(scalar.item())  # type: ignore[arg-type]
