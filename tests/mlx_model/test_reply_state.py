"""What a reply leaves in the cache of a real model: exactly the state of its tokens, in place."""

import threading
from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import KeyValueCache, SequenceCache
from mlx_model.generation import PreparedPrompt, Tokens, decode, prefill
from mlx_model.messages import ReplySettings
from mlx_model.model import Model
from mlx_model.sampling import Sampler
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, relative_error

PROMPT = np.random.default_rng(1).integers(0, 90, 40)
NEVER = threading.Event()


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(GOLDENS / "untied")


def read_prompt(model: Model) -> tuple[SequenceCache, mx.array]:
    cache = model.make_cache()
    positions, _ = model.position_ids(PROMPT)
    steps = prefill(model, cache, PreparedPrompt(PROMPT, positions), 16, NEVER)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cache, end.value


class Reply:
    """Greedy tokens after the prompt, and the cache that they go to."""

    def __init__(
        self,
        model: Model,
        stop_ids: Sequence[int] = (),
        max_tokens: int = 99,
        cancel: threading.Event = NEVER,
    ) -> None:
        self.cache, logits = read_prompt(model)
        sampler = Sampler(ReplySettings(), logits.shape[1])
        stops = frozenset(stop_ids)
        self._steps: Tokens = decode(
            model, self.cache, logits, sampler, stops, max_tokens, 4096, cancel
        )
        self.ids: list[int] = []

    def say(self, count: int, sent: Sequence[int] | None = None) -> "Reply":
        for _ in range(count):
            try:
                self.ids.append(self._steps.send(sent))
            except StopIteration:
                break
            sent = None
        return self

    def close(self) -> "Reply":
        self._steps.close()
        return self


def assert_holds(model: Model, cache: SequenceCache, steps: Sequence[Sequence[int]]) -> None:
    """The cache is bit for bit that of the prompt and of `steps` read one after the other."""
    expected, _ = read_prompt(model)
    for ids in steps:
        mx.eval(model.last_logits(mx.array([ids]), expected), expected.arrays())
    assert (cache.length, cache.next_position) == (expected.length, expected.next_position)
    for layer, other in zip(cache.layers, expected.layers, strict=True):
        for array, wanted in zip(layer.held(), other.held(), strict=True):
            assert array is not None
            assert wanted is not None
            rows = slice(None, cache.length) if isinstance(layer, KeyValueCache) else slice(None)
            np.testing.assert_array_equal(array[:, :, rows], wanted[:, :, rows])


def test_after_a_stop_token_the_cache_holds_all_tokens_before_it(model: Model) -> None:
    said = Reply(model).say(9).close().ids
    stop = said[6]
    assert stop not in said[:6]
    reply = Reply(model, [stop]).say(99)
    assert reply.ids == said[:6]
    assert_holds(model, reply.cache, [[token] for token in said[:6]])


def test_after_any_other_end_the_cache_lacks_the_last_token(model: Model) -> None:
    limited = Reply(model, max_tokens=5).say(99)
    closed = Reply(model).say(5).close()
    cancel = threading.Event()
    cancelled = Reply(model, cancel=cancel).say(5)
    cancel.set()
    cancelled.say(1)
    for reply in (limited, closed, cancelled):
        assert len(reply.ids) == 5
        assert_holds(model, reply.cache, [[token] for token in reply.ids[:4]])


def test_tokens_that_were_sent_leave_the_state_of_having_read_them(model: Model) -> None:
    sent = [7, 8, 9, 7]
    reply = Reply(model).say(3).say(3, sent).close()
    first, second, third, *rest = reply.ids
    steps = [[first], [second], [third, *sent], *([token] for token in rest[:-1])]
    assert_holds(model, reply.cache, steps)


def test_what_follows_sent_tokens_is_what_follows_them_in_a_prompt(model: Model) -> None:
    sent = [7, 8, 9, 7]
    reply = Reply(model).say(3).say(4, sent).close()
    ids = [*PROMPT.tolist(), *reply.ids[:3], *sent]
    for token in reply.ids[3:]:
        logits = model(np.array([ids]))[0, -1]
        assert int(mx.argmax(logits).item()) == token
        ids.append(token)
    cold = model.make_cache()
    mx.eval(model.last_logits(np.array([ids[:-1]]), cold), cold.arrays())
    for array, wanted in zip(reply.cache.arrays(), cold.arrays(), strict=True):
        rows = min(array.shape[2], wanted.shape[2], cold.length)
        assert relative_error(array[:, :, :rows], wanted[:, :, :rows]) < 1e-3


def test_going_on_from_the_cache_says_what_would_have_come(model: Model) -> None:
    whole = Reply(model).say(12).close().ids
    cut = Reply(model, max_tokens=5).say(99)
    cache, ids = cut.cache, cut.ids
    while len(ids) < 12:
        logits = model.last_logits(mx.array([ids[-1:]]), cache)
        ids.append(int(mx.argmax(logits).item()))
    assert ids == whole


@pytest.mark.parametrize("count", [2, 4, 6])
def test_rows_are_written_in_place(model: Model, count: int) -> None:
    """Whoever still held a buffer, or computed two steps at once, would make mlx copy it."""

    def address(cache: SequenceCache) -> list[int]:
        return [
            np.asarray(array).__array_interface__["data"][0]
            for layer in cache.layers
            if isinstance(layer, KeyValueCache)
            for array in layer.held()
        ]

    reply = Reply(model, max_tokens=count)
    addresses = address(reply.cache)
    assert len(addresses) == 4
    assert address(reply.say(99).cache) == addresses
