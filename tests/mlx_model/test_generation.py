"""Prefill and decode over a model that is told what to say."""

import threading
from collections.abc import Callable, Generator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_model.events import Progress
from mlx_model.generation import PreparedPrompt, chunk_bounds, decode, prefill
from mlx_model.messages import ReplySettings
from mlx_model.sampling import Sampler
from tests.mlx_model.scripted_model import SCRATCH_BYTES, ScriptedCache, ScriptedModel

STOP = 7


def run(steps: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    """What a generator yields, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def prompt_of(count: int) -> PreparedPrompt:
    ids = np.arange(100, 100 + count, dtype=np.int64)
    return PreparedPrompt(ids, np.stack([np.arange(count) + 1000 * axis for axis in range(3)]))


@pytest.mark.parametrize(
    ("start", "stop", "chunk", "bounds"),
    [
        (0, 10, 4, [(0, 4), (4, 8), (8, 10)]),
        (0, 8, 4, [(0, 4), (4, 8)]),
        (5, 10, 4, [(5, 8), (8, 10)]),  # continued from a cache: the same grid
        (8, 9, 4, [(8, 9)]),
        (0, 3, 512, [(0, 3)]),
        (3, 3, 4, []),
    ],
)
def test_chunks_lie_on_a_grid_that_starts_at_zero(
    start: int, stop: int, chunk: int, bounds: list[tuple[int, int]]
) -> None:
    assert list(chunk_bounds(start, stop, chunk)) == bounds


@given(
    start=st.integers(0, 40_000),
    stop=st.integers(0, 40_000),
    size=st.sampled_from([128, 512, 2048, 100]),
    most_scores=st.sampled_from([1, 10**6, 2**23, 10**8]),
)
def test_shorter_chunks_far_into_a_prompt_lie_on_one_grid(
    start: int, stop: int, size: int, most_scores: int
) -> None:
    whole = dict(chunk_bounds(0, stop, size, (), most_scores))
    for first, last in whole.items():
        assert last - first <= size
        shortest = last - first <= 128 or size == 100
        assert shortest or (last - first) * last <= most_scores
    rest = list(chunk_bounds(start, stop, size, (), most_scores))
    # The first chunk begins where the sequence was; all others are those of the whole prompt.
    assert all(whole[first] == last for first, last in rest[1:])
    assert {last for _, last in rest} <= set(whole.values())


def test_long_prompts_are_read_in_shorter_chunks() -> None:
    sizes = [stop - start for start, stop in chunk_bounds(0, 8192, 512, (), 2048 * 512)]
    assert sizes == [512] * 4 + [256] * 8 + [128] * 32
    ends = {stop for _, stop in chunk_bounds(0, 8192, 512, (), 2048 * 512)}
    starts = range(0, 8192, 3)
    assert all(next(chunk_bounds(n, 8192, 512, (), 2048 * 512))[1] in ends for n in starts)


def test_prefill_reads_every_token_once_with_its_position() -> None:
    model = ScriptedModel([1], prompt_tokens=10)
    progress, logits = run(prefill(model, ScriptedCache(), prompt_of(10), 4, threading.Event()))
    assert [token for call in model.calls for token in call.ids] == list(range(100, 110))
    assert [len(call.ids) for call in model.calls] == [4, 4, 2]
    assert model.calls[1].positions == [
        [4, 5, 6, 7],
        [1004, *range(1005, 1008)],
        [*range(2004, 2008)],
    ]
    assert progress == [Progress("reading", done, 10) for done in (0, 4, 8, 10)]
    assert int(mx.argmax(logits).item()) == 1


def test_prefill_goes_on_where_the_cache_ends() -> None:
    model = ScriptedModel([1], prompt_tokens=10)
    progress, _ = run(prefill(model, ScriptedCache(6), prompt_of(10), 4, threading.Event()))
    assert [call.ids for call in model.calls] == [[106, 107], [108, 109]]
    assert progress[0] == Progress("reading", 6, 10)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 64])
def test_each_chunk_gets_the_embeddings_of_its_own_media_tokens(chunk: int) -> None:
    spans = [(1, 4), (4, 5), (8, 10)]
    rows = mx.arange(6).reshape(6, 1)
    prompt = PreparedPrompt(
        np.zeros(12, np.int64), np.zeros((3, 12), np.int64), spans, media_embeddings=rows
    )
    model = ScriptedModel([1], prompt_tokens=12)
    run(prefill(model, ScriptedCache(), prompt, chunk, threading.Event()))
    expected = dict(zip([1, 2, 3, 4, 8, 9], range(6), strict=True))
    position = 0
    for call in model.calls:
        stop = position + len(call.ids)
        wanted = [[expected[place]] for place in range(position, stop) if place in expected]
        assert call.media == (wanted or None)
        position = stop


def test_cancel_during_prefill_computes_no_further_chunk() -> None:
    cancel = threading.Event()
    model = ScriptedModel([1], prompt_tokens=10, on_call=lambda n: cancel.set() if n == 2 else None)
    progress, logits = run(prefill(model, ScriptedCache(), prompt_of(10), 3, cancel))
    assert logits is None
    assert len(model.calls) == 2
    assert progress[-1] == Progress("reading", 6, 10)


class Reply:
    """A model that was made to say something after a prompt of three tokens, and what came of it.

    `calls` are those of decoding.
    """

    def __init__(
        self,
        script: list[int],
        max_tokens: int = 50,
        max_context: int = 1000,
        cancel: threading.Event | None = None,
        on_call: Any = lambda number: None,
        settings: ReplySettings | None = None,
    ) -> None:
        never = threading.Event()
        self.model = ScriptedModel(script, prompt_tokens=3)
        self.cache = self.model.make_cache()
        _, logits = run(prefill(self.model, self.cache, prompt_of(3), 64, never))
        self.model.calls.clear()
        self.model.on_call = on_call
        self.steps = decode(
            self.model,
            self.cache,
            logits,
            Sampler(settings or ReplySettings(), 400),
            frozenset({STOP}),
            max_tokens,
            max_context,
            cancel or never,
        )
        self.tokens: list[int] = []
        self.reason: str | None = None

    def say(self, count: int = 1000, sent: list[int] | None = None) -> "Reply":
        """Take up to `count` tokens; what is `sent` goes in before the first of them."""
        for _ in range(count):
            try:
                self.tokens.append(self.steps.send(sent))
            except StopIteration as end:
                self.reason = end.value
                break
            sent = None
        return self

    @property
    def calls(self) -> list[list[int]]:
        return [call.ids for call in self.model.calls]

    @property
    def held(self) -> int:
        """How many tokens the cache counts beyond the prompt."""
        return self.cache.length - 3


def answer(script: list[int], **options: Any) -> tuple[list[int], str | None, Reply]:
    reply = Reply(script, **options).say()
    return reply.tokens, reply.reason, reply


def is_computed(action: Callable[[], Any]) -> bool:
    """Whether the model computed anything for `action`."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    action()
    return mx.get_peak_memory() - before >= SCRATCH_BYTES


def test_decode_ends_at_a_stop_token_and_keeps_it() -> None:
    tokens, reason, reply = answer([11, 12, 13, STOP, 14])
    assert (tokens, reason) == ([11, 12, 13], "stop")
    assert reply.calls[:3] == [[11], [12], [13]]
    assert all(call.positions is None for call in reply.model.calls)


def test_the_memory_probe_sees_a_step_of_the_model() -> None:
    assert is_computed(Reply([11, 12, STOP]).say(1).say)


def test_nothing_is_computed_after_the_stop_token() -> None:
    # Drawing the stop token takes the step before it, and no other.
    reply = Reply([STOP, 12])
    assert not is_computed(reply.say)
    assert reply.reason == "stop"


def test_nothing_is_computed_after_cancel() -> None:
    cancel = threading.Event()
    reply = Reply([11, 12, 13], cancel=cancel).say(1)
    cancel.set()
    assert not is_computed(reply.say)
    assert (reply.tokens, reply.reason) == ([11], "cancelled")


def test_cancel_before_the_first_token_computes_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    reply = Reply([11, 12, 13], cancel=cancel)
    assert not is_computed(reply.say)
    assert (reply.tokens, reply.reason, reply.calls) == ([], "cancelled", [])


@pytest.mark.parametrize(("limits", "reason"), [((1, 1000), "length"), ((9, 4), "context_full")])
def test_nothing_is_computed_after_the_last_allowed_token(
    limits: tuple[int, int], reason: str
) -> None:
    reply = Reply([11, 12, 13], *limits).say(1)
    assert not is_computed(reply.say)
    assert (reply.tokens, reply.reason) == ([11], reason)


def test_nothing_is_computed_when_the_caller_has_had_enough() -> None:
    reply = Reply([11, 12, 13]).say(2)
    assert not is_computed(reply.steps.close)
    assert reply.held == 1


def test_a_reply_may_be_empty() -> None:
    assert answer([STOP])[:2] == ([], "stop")
    assert answer([11], max_tokens=0)[:2] == ([], "length")


def test_length_counts_tokens_and_computes_none_beyond() -> None:
    tokens, reason, reply = answer([11, 12, 13, STOP], max_tokens=2)
    assert (tokens, reason) == ([11, 12], "length")
    assert reply.calls == [[11]]


def test_a_stop_token_right_after_the_last_allowed_one_is_still_length() -> None:
    assert answer([11, 12, STOP], max_tokens=2)[:2] == ([11, 12], "length")
    assert answer([11, STOP], max_tokens=2)[:2] == ([11], "stop")


def test_context_full_is_told_apart_from_length() -> None:
    script = [11, 12, 13, 14, STOP]
    tokens, reason, reply = answer(script, max_context=6)
    assert (tokens, reason) == ([11, 12, 13], "context_full")  # 3 of the prompt + 3 = 6
    assert reply.calls == [[11], [12]]
    assert answer(script, max_tokens=3, max_context=6)[1] == "length"
    assert answer(script, max_context=8)[:2] == ([11, 12, 13, 14], "stop")


def test_cancel_computes_nothing_more() -> None:
    cancel = threading.Event()
    tokens, reason, reply = answer(
        list(range(11, 40)), cancel=cancel, on_call=lambda n: cancel.set() if n == 4 else None
    )
    assert (tokens, reason) == ([11, 12, 13, 14], "cancelled")
    assert len(reply.calls) == 4


LIMITED = [
    ({"max_tokens": 2}, "length"),
    ({"max_context": 5}, "context_full"),
    ({"max_tokens": 2, "max_context": 5}, "length"),
]


@pytest.mark.parametrize(("limits", "reason"), LIMITED)
def test_a_cancel_after_the_last_allowed_token_changes_nothing(
    limits: dict[str, int], reason: str
) -> None:
    cancel = threading.Event()
    reply = Reply([11, 12, 13], cancel=cancel, **limits).say(2)
    cancel.set()
    assert reply.say().reason == reason


@pytest.mark.parametrize(("limits", "reason"), LIMITED)
def test_a_cancel_before_the_last_allowed_token_is_a_cancel(
    limits: dict[str, int], reason: str
) -> None:
    cancel = threading.Event()
    reply = Reply([11, 12, 13], cancel=cancel, **limits).say(1)
    cancel.set()
    assert (reply.say().tokens, reply.reason) == ([11], "cancelled")


def test_a_cancel_while_the_stop_token_is_computed_changes_nothing() -> None:
    cancel = threading.Event()
    tokens, reason, _ = answer(
        [11, STOP], cancel=cancel, on_call=lambda n: cancel.set() if n == 2 else None
    )
    assert cancel.is_set()
    assert (tokens, reason) == ([11], "stop")


@pytest.mark.parametrize("limits", [{"max_tokens": 1}, {"max_context": 4}])
def test_a_stop_token_instead_of_the_last_allowed_one_is_stop(limits: dict[str, int]) -> None:
    assert answer([STOP], **limits)[:2] == ([], "stop")


@pytest.mark.parametrize(
    ("options", "taken", "reason", "held"),
    [
        ({}, 9, "stop", 4),  # all that were yielded
        ({"max_tokens": 3}, 9, "length", 2),  # all but the last, which nothing had to follow
        ({"max_context": 6}, 9, "context_full", 2),
        ({}, 3, None, 2),  # closed by the caller
        ({}, 1, None, 0),
    ],
)
def test_the_cache_counts_what_it_has_computed(
    options: dict[str, int], taken: int, reason: str | None, held: int
) -> None:
    reply = Reply([11, 12, 13, 14, STOP], **options).say(taken)
    reply.steps.close()
    assert (reply.reason, reply.held) == (reason, held)
    assert not is_computed(lambda: mx.eval(reply.cache.arrays()))


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_cancelled_reply_leaves_the_last_token_out_of_the_cache(taken: int) -> None:
    cancel = threading.Event()
    reply = Reply([11, 12, 13, 14, STOP], cancel=cancel).say(taken)
    cancel.set()
    assert (reply.say().reason, reply.held) == ("cancelled", taken - 1)
    assert not is_computed(lambda: mx.eval(reply.cache.arrays()))


def test_a_step_that_fails_leaves_the_cache_as_it_was() -> None:
    def fail(number: int) -> None:
        if number == 3:
            reply.cache.length += 1  # half of the layers have taken the token in
            raise RuntimeError("planted")

    reply = Reply([11, 12, 13, 14], on_call=fail).say(2)
    with pytest.raises(RuntimeError, match="planted"):
        reply.say()
    assert reply.held == 2
    assert not is_computed(lambda: mx.eval(reply.cache.arrays()))


def test_what_is_sent_takes_the_place_of_what_would_have_come() -> None:
    # The scripted model says by position: the third token of the reply and so on.
    reply = Reply([11, 12, 13, 14, 15, 16, STOP]).say(2).say(sent=[51, 52])
    assert reply.tokens == [11, 12, 15, 16]
    assert reply.reason == "stop"
    assert [ids for ids in reply.calls if ids != [STOP]] == [[11], [12], [12, 51, 52], [15], [16]]
    assert reply.held == 6


def test_what_is_sent_costs_nothing_of_the_reply_but_room_in_the_context() -> None:
    script = list(range(11, 30))
    reply = Reply(script, max_tokens=3).say(1).say(sent=[51, 52, 53])
    assert (len(reply.tokens), reply.reason) == (3, "length")
    for max_context, reason, tokens in [(8, "length", 2), (7, "context_full", 1)]:
        reply = Reply(script, max_tokens=2, max_context=max_context).say(1).say(sent=[51, 52, 53])
        assert (len(reply.tokens), reply.reason) == (tokens, reason)
    assert reply.held == 0
    assert reply.calls == [[11]]


def test_what_is_sent_after_the_last_token_or_a_cancel_is_not_read() -> None:
    reply = Reply([11, 12, 13], max_tokens=1).say(1)
    assert not is_computed(lambda: reply.say(sent=[51]))
    assert (reply.reason, reply.held) == ("length", 0)
    cancel = threading.Event()
    reply = Reply([11, 12, 13], cancel=cancel).say(1)
    cancel.set()
    assert not is_computed(lambda: reply.say(sent=[51]))
    assert (reply.reason, reply.held) == ("cancelled", 0)


def test_penalties_count_what_was_sent() -> None:
    settings = ReplySettings(presence_penalty=20.0)
    reply = Reply([11, 12, 13, 51, 52], settings=settings).say(1).say(2, sent=[51, 40])
    assert reply.tokens[0] == 11
    assert 51 not in reply.tokens


def test_the_same_seed_gives_the_same_tokens_whatever_the_chunks() -> None:
    def tokens(seed: int, chunk: int) -> list[int]:
        model = ScriptedModel([], prompt_tokens=9)
        cache = model.make_cache()
        never = threading.Event()
        _, logits = run(prefill(model, cache, prompt_of(9), chunk, never))
        sampler = Sampler(ReplySettings(temperature=1.0, seed=seed), 400)
        return run(decode(model, cache, logits, sampler, frozenset(), 30, 1000, never))[0]

    assert tokens(3, 2) == tokens(3, 64)
    assert tokens(3, 2) != tokens(4, 2)


def test_the_presence_penalty_sees_what_was_drawn() -> None:
    settings = ReplySettings(presence_penalty=20.0)
    tokens, _, _ = answer([11, 11, 11, 11, STOP], settings=settings)
    assert tokens[0] == 11
    assert tokens.count(11) == 1
