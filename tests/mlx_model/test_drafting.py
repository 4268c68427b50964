"""Drafts change nothing but the time: not the text, not what the cache holds afterwards."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import KeyValueCache, SequenceCache
from mlx_model.draft_policy import FixedDrafts
from mlx_model.drafting import DraftedSteps
from mlx_model.generation import PreparedPrompt, Tokens, decode, prefill
from mlx_model.messages import ReplySettings
from mlx_model.model import Model
from mlx_model.sampling import Sampler
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, read_golden, relative_error
from tests.mlx_model.oracle_head import OracleHead
from tests.mlx_model.test_draft_head import loaded, with_head

NEVER = threading.Event()
# How far what a reply leaves behind may be from what single steps leave: their products are of one
# row, which rounds otherwise, and the differences grow with the reply.
SAME = 1e-4


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(GOLDENS / "untied")


@pytest.fixture(scope="module")
def with_real_head(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(with_head(tmp_path_factory.mktemp("head")).save())


def text_prompt(model: Model, seed: int = 1, tokens: int = 40) -> PreparedPrompt:
    ids = np.random.default_rng(seed).integers(0, 90, tokens)
    return PreparedPrompt(ids, model.position_ids(ids)[0])


def read(model: Model, prompt: PreparedPrompt, chunk: int = 16) -> tuple[SequenceCache, mx.array]:
    cache = model.make_cache()
    steps = prefill(model, cache, prompt, chunk, NEVER)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cache, end.value


class Reply:
    """What is said after a prompt, with `drafts` a window (None: by single steps)."""

    def __init__(
        self,
        model: Model,
        drafts: int | None,
        prompt: PreparedPrompt | None = None,
        settings: ReplySettings | None = None,
        stop_ids: Sequence[int] = (),
        max_tokens: int = 60,
        max_context: int = 4096,
        cancel: threading.Event = NEVER,
    ) -> None:
        self.prompt = prompt or text_prompt(model)
        self.cache, logits = read(model, self.prompt)
        sampler = Sampler(
            settings or ReplySettings(), logits.shape[1], np.asarray(self.prompt.input_ids)
        )
        self.steps = None
        if drafts is not None:
            self.steps = DraftedSteps(model, self.cache, sampler, FixedDrafts(drafts))
        self._tokens: Tokens = decode(
            model,
            self.cache,
            logits,
            sampler,
            frozenset(stop_ids),
            max_tokens,
            max_context,
            cancel,
            self.steps,
        )
        self.ids: list[int] = []
        self.reason: str | None = None

    def say(self, count: int = 10_000, sent: Sequence[int] | None = None) -> "Reply":
        for _ in range(count):
            try:
                self.ids.append(self._tokens.send(sent))
            except StopIteration as end:
                self.reason = end.value
                break
            sent = None
        return self

    def close(self) -> "Reply":
        self._tokens.close()
        return self


def give_oracle(
    model: Model, prompt: PreparedPrompt, said: Sequence[int], wrong: Callable[[int], bool]
) -> OracleHead:
    oracle = OracleHead(model, [*prompt.input_ids.tolist(), *said], wrong)
    model.mtp = oracle
    return oracle


def assert_same_cache(found: SequenceCache, wanted: SequenceCache, tolerance: float = SAME) -> None:
    assert (found.length, found.next_position) == (wanted.length, wanted.next_position)
    pairs = [(found.last_hidden, wanted.last_hidden)]
    for layer, other in zip(
        [*found.layers, found.draft], [*wanted.layers, wanted.draft], strict=True
    ):
        rows = slice(0, found.length) if isinstance(layer, KeyValueCache) else slice(None)
        for array, wanted_array in zip(layer.held(), other.held(), strict=True):
            assert (array is None) == (wanted_array is None)
            if array is not None:
                pairs.append((array[:, :, rows], wanted_array[:, :, rows]))
    for array, wanted_array in pairs:
        assert relative_error(array, wanted_array) <= tolerance


def some(row: int) -> bool:
    """Wrong now and then, so that windows of three drafts end in every way."""
    return (row * 2654435761) % 97 < 30


def right(row: int) -> bool:
    return False


def plainly(model: Model, **options: Any) -> Reply:
    model.mtp = None
    return Reply(model, None, **options)


@pytest.fixture(scope="module")
def said(model: Model) -> list[int]:
    return plainly(model, max_tokens=60).say().ids


@pytest.mark.parametrize("seed", [1, 2])
def test_greedy_text_is_the_same_token_for_token(model: Model, seed: int) -> None:
    prompt = text_prompt(model, seed)
    plain = plainly(model, prompt=prompt, max_tokens=350).say()
    for drafts, wrong in [(3, some), (1, some), (2, right)]:
        give_oracle(model, prompt, plain.ids, wrong)
        drafted = Reply(model, drafts, prompt, max_tokens=350).say()
        assert drafted.ids == plain.ids
        count = drafted.steps.count
        assert count.made > 100
        assert (count.right < count.made) == (wrong is some)
        assert_same_cache(drafted.cache, plain.cache)


def test_windows_of_the_tests_end_in_every_way(model: Model, said: list[int]) -> None:
    prompt = text_prompt(model)
    give_oracle(model, prompt, said, some)
    ends: Counter[int] = Counter()
    reply = Reply(model, 3)
    done = reply.steps.done
    reply.steps.done = lambda window, place, right, goes_on: (
        ends.update([place]),
        done(window, place, right, goes_on),
    )
    reply.say()
    assert set(ends) == {0, 1, 2, 3}


def test_a_head_of_its_own_is_told_all_and_changes_nothing(with_real_head: Model) -> None:
    model = with_real_head
    plain = Reply(model, None).say()  # its rows are written one by one, by every call
    for drafts in (0, 1, 3):
        drafted = Reply(model, drafts).say()
        assert drafted.ids == plain.ids
        assert_same_cache(drafted.cache, plain.cache)


def test_the_draft_head_learns_every_row_once_it_is_certain(model: Model, said: list[int]) -> None:
    prompt = text_prompt(model)
    oracle = give_oracle(model, prompt, said, some)
    reply = Reply(model, 0).say()
    assert oracle.told == list(range(reply.cache.length))


@pytest.mark.parametrize("drafts", [1, 3])
@pytest.mark.parametrize("place", range(14, 19))
def test_a_stop_token_ends_the_reply_wherever_it_is_in_a_window(
    model: Model, said: list[int], drafts: int, place: int
) -> None:
    while said[place] in said[:place]:
        place += 1
    plain = plainly(model, stop_ids=[said[place]]).say()
    assert plain.ids == said[:place]
    give_oracle(model, text_prompt(model), said, right)
    drafted = Reply(model, drafts, stop_ids=[said[place]]).say()
    assert (drafted.ids, drafted.reason) == (plain.ids, "stop")
    assert_same_cache(drafted.cache, plain.cache)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 12])
@pytest.mark.parametrize("limit", ["max_tokens", "max_context"])
def test_a_reply_ends_at_its_limit_wherever_that_is_in_a_window(
    model: Model, said: list[int], count: int, limit: str
) -> None:
    options = {limit: count + (40 if limit == "max_context" else 0)}
    plain = plainly(model, **options).say()
    give_oracle(model, text_prompt(model), said, right)
    drafted = Reply(model, 3, **options).say()
    assert (drafted.ids, drafted.reason) == (plain.ids, plain.reason)
    assert_same_cache(drafted.cache, plain.cache)


@pytest.mark.parametrize("count", range(7, 12))
@pytest.mark.parametrize("ending", ["cancel", "close"])
def test_whoever_ends_it_inside_a_window_finds_what_was_said_in_the_cache(
    model: Model, said: list[int], count: int, ending: str
) -> None:
    cancel = threading.Event()
    give_oracle(model, text_prompt(model), said, some)
    drafted = Reply(model, 3, cancel=cancel).say(count)
    if ending == "cancel":
        cancel.set()
        assert drafted.say().reason == "cancelled"
    drafted.close()
    assert drafted.ids == said[:count]
    plain = plainly(model, max_tokens=count).say()
    assert_same_cache(drafted.cache, plain.cache)


@pytest.mark.parametrize("count", range(7, 12))
def test_tokens_sent_inside_a_window_are_read_in_their_place(
    with_real_head: Model, model: Model, said: list[int], count: int
) -> None:
    sent = [7, 8, 9]
    plain = plainly(model).say(count).say(8, sent).close()
    give_oracle(model, text_prompt(model), said[:count] + sent + plain.ids[count:], some)
    drafted = Reply(model, 3).say(count).say(8, sent).close()
    assert drafted.ids == plain.ids
    assert_same_cache(drafted.cache, plain.cache)
    plain = Reply(with_real_head, None).say(count).say(8, sent).close()
    drafted = Reply(with_real_head, 2).say(count).say(8, sent).close()
    assert drafted.ids == plain.ids
    assert_same_cache(drafted.cache, plain.cache)


@pytest.mark.parametrize("count", [8, 9, 10])
def test_going_on_after_a_window_says_what_a_cold_run_says(
    with_real_head: Model, model: Model, said: list[int], count: int
) -> None:
    give_oracle(model, text_prompt(model), said, some)
    reply = Reply(model, 3, max_tokens=count).say()
    held = [*reply.prompt.input_ids.tolist(), *reply.ids[:-1]]
    assert reply.cache.length == len(held)
    mark = reply.cache.mark()
    more = np.array([reply.ids[-1:]])
    model.mtp = None
    warm = model.last_logits(more, reply.cache)
    cold = model.make_cache()
    model.last_logits(np.array([held]), cold)
    assert relative_error(warm, model.last_logits(more, cold)) < 1e-4
    reply.cache.rewind(mark)
    np.testing.assert_array_equal(warm, model.last_logits(more, reply.cache))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_what_is_taken_back_leaves_no_trace(model: Model, kept: int) -> None:
    model.mtp = None
    caches = []
    for tail in ([6, 7, 8], [60, 70, 80]):
        cache, _ = read(model, text_prompt(model))
        ids = [5, 9, 3, *tail][:kept] + tail[: 4 - kept]
        _, marks = model.step(mx.array([ids]), cache)
        mx.eval(cache.arrays())
        cache.rewind(marks[kept - 1])
        caches.append(cache)
    assert_same_cache(*caches, tolerance=0)
    found, wanted = (model.last_logits(mx.array([[4]]), cache) for cache in caches)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_what_is_kept_of_a_step_is_what_single_steps_leave(model: Model, kept: int) -> None:
    model.mtp = None
    ids = mx.array([[5, 9, 3, 6]])
    cache, _ = read(model, text_prompt(model))
    cache.rewind(model.step(ids, cache)[1][kept - 1])
    single, _ = read(model, text_prompt(model))
    for place in range(kept):
        model.step(ids[:, place : place + 1], single)
    assert_same_cache(cache, single, 2e-5)


SETTINGS = [
    {"temperature": 0.8},
    {"temperature": 1.2, "top_k": 8, "presence_penalty": 1.0},
    {"temperature": 1.0, "top_p": 0.8, "repetition_penalty": 1.3},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 0.0, "repetition_penalty": 1.3, "presence_penalty": 0.5},
]


@pytest.mark.parametrize("chosen", SETTINGS, ids=str)
def test_the_same_seed_says_the_same_with_drafts_and_without(
    with_real_head: Model, model: Model, chosen: dict[str, Any]
) -> None:
    settings = ReplySettings(seed=11, **chosen)
    for drafts in (1, 3):
        plain = Reply(with_real_head, None, settings=settings, max_tokens=30).say()
        drafted = Reply(with_real_head, drafts, settings=settings, max_tokens=30).say()
        assert drafted.ids == plain.ids
        give_oracle(model, text_prompt(model), plain.ids, some)
        drafted = Reply(model, drafts, settings=settings, max_tokens=30).say()
        assert drafted.ids == plain.ids
        assert 0 < drafted.steps.count.right < drafted.steps.count.made


def test_drafts_after_a_picture(with_real_head: Model) -> None:
    model = with_real_head
    golden = read_golden("untied", "image")
    ids = golden.prompt[0]
    media = np.flatnonzero(ids == model.config.image_token_id)
    prompt = PreparedPrompt(
        ids,
        golden.position_ids[:, : ids.size],
        [(int(media[0]), int(media[-1]) + 1)],
        model.encode_media(golden.pixel_values, golden.image_grid_thw),
    )
    plain = Reply(model, None, prompt, max_tokens=20).say()
    drafted = Reply(model, 2, prompt, max_tokens=20).say()
    assert drafted.ids == plain.ids
    assert_same_cache(drafted.cache, plain.cache)


def test_rows_are_written_in_place(model: Model, said: list[int]) -> None:
    def addresses(cache: SequenceCache) -> list[int]:
        return [
            np.asarray(array).__array_interface__["data"][0]
            for layer in cache.layers
            if isinstance(layer, KeyValueCache)
            for array in layer.held()
        ]

    give_oracle(model, text_prompt(model), said, some)
    reply = Reply(model, 3, max_tokens=50)
    before = addresses(reply.cache)
    assert addresses(reply.say().cache) == before
