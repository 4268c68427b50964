"""Prefill and decode over a model that is told what to say."""

import threading
from collections.abc import Generator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

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


def answer(
    script: list[int],
    max_tokens: int = 50,
    max_context: int = 1000,
    cancel: threading.Event | None = None,
    on_call: Any = lambda number: None,
    settings: ReplySettings | None = None,
) -> tuple[list[int], str, ScriptedModel]:
    """Decode after a prompt of three tokens; the calls of the model are those of decoding."""
    cancel = cancel or threading.Event()
    model = ScriptedModel(script, prompt_tokens=3)
    cache = model.make_cache()
    _, logits = run(prefill(model, cache, prompt_of(3), 64, cancel))
    model.calls.clear()
    model.on_call = on_call
    sampler = Sampler(settings or ReplySettings(), 400)
    stop_ids = frozenset({STOP})
    tokens, reason = run(
        decode(model, cache, logits, sampler, stop_ids, max_tokens, max_context, cancel)
    )
    return tokens, reason, model


def is_computed(steps: Generator[Any, None, Any]) -> tuple[Any, bool]:
    """What the rest of `steps` returns, and whether the model computed anything for it."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    _, value = run(steps)
    return value, mx.get_peak_memory() - before >= SCRATCH_BYTES


def decoding(
    script: list[int], cancel: threading.Event, max_tokens: int = 50, max_context: int = 1000
) -> Generator[int, None, str]:
    model = ScriptedModel(script, prompt_tokens=3)
    cache = model.make_cache()
    _, logits = run(prefill(model, cache, prompt_of(3), 64, cancel))
    sampler = Sampler(ReplySettings(), 400)
    return decode(model, cache, logits, sampler, frozenset({STOP}), max_tokens, max_context, cancel)


def test_decode_ends_at_a_stop_token_and_keeps_it() -> None:
    tokens, reason, model = answer([11, 12, 13, STOP, 14])
    assert (tokens, reason) == ([11, 12, 13], "stop")
    assert [call.ids for call in model.calls[:3]] == [[11], [12], [13]]
    assert all(call.positions is None for call in model.calls)


def test_the_memory_probe_sees_a_step_of_the_model() -> None:
    tokens = decoding([11, 12, STOP], threading.Event())
    assert next(tokens) == 11
    assert is_computed(tokens) == ("stop", True)


def test_nothing_is_computed_after_the_stop_token() -> None:
    # Drawing the stop token takes the step before it, and no other.
    tokens = decoding([STOP, 12], threading.Event())
    assert is_computed(tokens) == ("stop", False)


def test_nothing_is_computed_after_cancel() -> None:
    cancel = threading.Event()
    tokens = decoding([11, 12, 13], cancel)
    assert next(tokens) == 11
    cancel.set()
    assert is_computed(tokens) == ("cancelled", False)


@pytest.mark.parametrize(("limits", "reason"), [((1, 1000), "length"), ((9, 4), "context_full")])
def test_nothing_is_computed_after_the_last_allowed_token(
    limits: tuple[int, int], reason: str
) -> None:
    tokens = decoding([11, 12, 13], threading.Event(), *limits)
    assert next(tokens) == 11
    assert is_computed(tokens) == (reason, False)


def test_a_reply_may_be_empty() -> None:
    assert answer([STOP])[:2] == ([], "stop")
    assert answer([11], max_tokens=0)[:2] == ([], "length")


def test_length_counts_tokens_and_computes_none_beyond() -> None:
    tokens, reason, model = answer([11, 12, 13, STOP], max_tokens=2)
    assert (tokens, reason) == ([11, 12], "length")
    assert len(model.calls) == 1


def test_a_stop_token_right_after_the_last_allowed_one_is_still_length() -> None:
    assert answer([11, 12, STOP], max_tokens=2)[:2] == ([11, 12], "length")
    assert answer([11, STOP], max_tokens=2)[:2] == ([11], "stop")


def test_context_full_is_told_apart_from_length() -> None:
    script = [11, 12, 13, 14, STOP]
    tokens, reason, model = answer(script, max_context=6)
    assert (tokens, reason) == ([11, 12, 13], "context_full")  # 3 of the prompt + 3 = 6
    assert len(model.calls) == 2
    assert answer(script, max_tokens=3, max_context=6)[1] == "length"
    assert answer(script, max_context=8)[:2] == ([11, 12, 13, 14], "stop")


def test_cancel_computes_nothing_more() -> None:
    cancel = threading.Event()
    tokens, reason, model = answer(
        list(range(11, 40)), cancel=cancel, on_call=lambda n: cancel.set() if n == 4 else None
    )
    assert reason == "cancelled"
    assert len(model.calls) == 4
    assert tokens == [11, 12, 13, 14]


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
