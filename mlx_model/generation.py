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
# Shorter chunks of a prompt cost more time than the memory that they save is worth.
_LEAST_CHUNK = 128


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
    start: int,
    stop: int,
    chunk_tokens: int,
    cuts: Collection[int] = (),
    most_scores: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) at `cuts` and at multiples of `chunk_tokens` counted from position 0.

    Far into a long prompt, where a chunk's tokens times those that they attend to would be more
    than `most_scores`, chunks are half as long, a quarter and so on, down to 128 tokens.

    The grid is absolute because KV rows differ in their last bits with the chunk they were
    computed in: a prompt continued from a cache is then cut where it was cut from the beginning.
    """
    ahead = sorted(cut for cut in cuts if start < cut < stop)
    for cut in [*ahead, stop]:
        while start < cut:
            end = min(_grid_end(start, chunk_tokens, most_scores), cut)
            yield start, end
            start = end


def _grid_end(start: int, size: int, most_scores: int | None) -> int:
    """Where the chunk of the grid ends that `start` lies in."""
    if most_scores is not None:
        while size >= 2 * _LEAST_CHUNK and size % 2 == 0:
            if size * (start // size + 1) * size <= most_scores:
                break
            size //= 2  # whatever `start` in the longer chunk, so the grid stays the same
    return (start // size + 1) * size


def prefill(
    model: TokenModel,
    cache: Cache,
    prompt: PreparedPrompt,
    chunk_tokens: int,
    cancel: threading.Event,
    most_scores: int | None = None,
) -> Generator[Progress, None, mx.array | None]:
    """Read the prompt into `cache`, which may already hold its beginning, as `chunk_bounds` cuts.

    Yields the tokens read after each chunk; returns the logits [1, vocab] of the last token, or
    None when cancelled.
    """
    total = prompt.input_ids.size
    logits: mx.array | None = None
    yield Progress("reading", cache.length, total)
    for start, stop in chunk_bounds(cache.length, total, chunk_tokens, prompt.cuts, most_scores):
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


@dataclass(frozen=True, slots=True)
class Window:
    """What one step of the model has drawn: a token, and more if drafts were read along with it.

    `drawn` are unevaluated scalars: the token after the one that was read, then those after each
    of `drafts`. They hold up to the first that differs from its draft. `marks` say where the cache
    stood before each of them: a window lets go of them when the next one is computed.
    """

    drawn: Sequence[mx.array]
    marks: Sequence[Any]
    drafts: Sequence[mx.array] = ()

    def arrays(self) -> list[mx.array]:
        """What is to be computed of it."""
        return [*self.drawn, *self.drafts]

    def token_ids(self) -> list[int]:
        """The tokens that hold; waits until they are computed."""
        drawn = [_integer(token) for token in self.drawn]
        drafts = [_integer(draft) for draft in self.drafts]
        right = 0
        while right < len(drafts) and drafts[right] == drawn[right]:
            right += 1
        return drawn[: right + 1]


class Steps(Protocol):
    """How `decode` goes from one window to the next, and who keeps count of it."""

    def first(self, logits: mx.array) -> Window:
        """The window that follows the whole of the cache."""

    def following(self, window: Window, place: int, ahead: bool, room: int) -> Window:
        """The window after token number `place` of `window`, which the cache then holds.

        `ahead`: the tokens up to there have not been accepted yet, nor computed.
        It draws at most `room` tokens.
        """

    def done(self, window: Window, place: int, right: int, goes_on: bool) -> None:
        """Nothing of `window` was used after token number `place`.

        Its first `right` drafts are what was drawn. Unless it `goes_on` with a window that follows,
        decoding ends or is interrupted there, and the cache stands before that token.
        """


class SingleSteps:
    """One token at a time."""

    def __init__(self, model: TokenModel, cache: Cache, sampler: Sampler) -> None:
        self._model = model
        self._cache = cache
        self._sampler = sampler

    def first(self, logits: mx.array) -> Window:
        """See Steps."""
        return Window([self._sampler.peek(logits)], [self._cache.mark()])

    def following(self, window: Window, place: int, ahead: bool, room: int) -> Window:
        """See Steps."""
        token = window.drawn[place]
        logits = self._model.last_logits(token.reshape(1, 1), self._cache)
        pending = window.drawn if ahead else ()
        return Window([self._sampler.peek(logits, pending)], [self._cache.mark()])

    def done(self, window: Window, place: int, right: int, goes_on: bool) -> None:
        """Nothing is kept up beside the cache."""


def decode(
    model: TokenModel,
    cache: Cache,
    logits: mx.array,
    sampler: Sampler,
    stop_token_ids: frozenset[int],
    max_tokens: int,
    max_context: int,
    cancel: threading.Event,
    steps: Steps | None = None,
) -> Tokens:
    """Continue after `logits` [1, vocab], yielding each token id except the one that stops.

    The caller may send token ids in return: the reply then goes on with these, and the next token
    is drawn after the last of them. They are neither yielded nor counted in `max_tokens`.
    `steps` are single ones unless given; whatever they are, the tokens are the same.

    Returns why it ended: "stop" (a stop token), "length" (`max_tokens` yielded), "context_full"
    (no room for another token within `max_context`) or "cancelled" (before anything else ended
    it). However it ends, also when the caller closes it, `cache` counts exactly the tokens whose
    state it holds computed: all tokens yielded after "stop", else all but the last one.
    """
    reason = _ending("length" if max_tokens < 1 else None, cancel)
    if reason is not None:
        return reason
    steps = steps or SingleSteps(model, cache, sampler)
    window = steps.first(logits)
    yielded = cleared = 0
    while True:
        # Only now, when the step before it has been waited for: with two steps under way mlx
        # would copy whole buffers of keys and values instead of writing a row into them.
        mx.async_eval(window.arrays(), cache.arrays())
        last, place, right = len(window.drawn) - 1, 0, 0
        left = max_tokens - yielded - len(window.drawn)
        room = min(left, max_context - 1 - cache.length)
        limit = None if room > 0 else _limit(left)
        following: Window | None = None
        try:
            # The next step is written down while mlx computes this one, which hides the time that
            # Python needs for it. Only looking at its result would compute it.
            ahead = None if limit else steps.following(window, last, True, room)
            token_ids = window.token_ids()
            right = len(token_ids) - 1
            for place, token_id in enumerate(token_ids):
                if token_id in stop_token_ids:
                    return "stop"
                sampler.advance()
                sampler.accept(token_id)
                yielded += 1
                sent = yield token_id
                reason = _ending(limit if place == last else None, cancel)
                if reason is not None:
                    return reason
                if sent:
                    break
            if not sent:
                if place < last:
                    cache.rewind(window.marks[place])
                    ahead = steps.following(window, place, False, room + last - place)
                following = ahead
        finally:
            if following is None:
                cache.rewind(window.marks[place])
            steps.done(window, place, right, goes_on=following is not None)
        if following is None:
            if cache.length + 1 + len(sent or ()) >= max_context:
                return "context_full"
            following = steps.first(_fed(model, cache, sampler, token_id, sent or ()))
        # What was written down in vain goes as well: it still holds buffers.
        window, ahead = following, None
        cleared = _cleared(yielded, cleared)


def _ending(limit: FinishReason | None, cancel: threading.Event) -> FinishReason | None:
    """Why there is no further token, None if there is one; a limit comes before a cancel."""
    return limit or ("cancelled" if cancel.is_set() else None)


def _limit(left: int) -> FinishReason:
    """Which limit is reached when so many tokens are left of those asked for."""
    return "length" if left < 1 else "context_full"


def _cleared(yielded: int, cleared: int) -> int:
    """Give freed buffers back from time to time; after how many tokens that was done last."""
    if yielded - cleared < CLEAR_EVERY:
        return cleared
    mx.clear_cache()
    return yielded


def _fed(
    model: TokenModel, cache: Cache, sampler: Sampler, token_id: int, sent: Sequence[int]
) -> mx.array:
    """The logits after `token_id` and the tokens that the caller sent, all in one step."""
    for sent_id in sent:
        sampler.accept(sent_id)
    return model.last_logits(mx.array([[token_id, *sent]]), cache)


def _integer(scalar: mx.array) -> int:
    return int(scalar.item())  # type: ignore[arg-type]
