"""The layers cut for mx.compile do to one token what the layers themselves do."""

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import SequenceCache
from mlx_model.decode_step import DecodeStep, _Stretch
from mlx_model.device_math import on_metal
from mlx_model.engine import Engine
from mlx_model.events import Finished
from mlx_model.messages import Message, ReplyRequest, ReplySettings
from mlx_model.model import Model
from mlx_model.rope import LineRotation
from tests.mlx_model.goldens import golden_model
from tools.train_demo.tokenizer import DEMO_MODEL

needs_warming_up = pytest.mark.skipif(on_metal(), reason="ON METAL STEPS ARE ALWAYS COMPILED")

PROMPT = np.arange(3, 23)[None]
REPLY = (5, 17, 40, 9, 2)


def read(model: Model) -> SequenceCache:
    cache = model.make_cache()
    mx.eval(model.last_logits(PROMPT, cache))
    return cache


def stepped(model: Model, cache: SequenceCache, token: int, step: DecodeStep) -> mx.array:
    """What `last_logits` does with one token, through `step`."""
    language = model.model.language_model
    x = language.embed_tokens(mx.array([[token]]))
    rotation = model._rotary.line(cache.next_position, 1)
    hidden = step(x.astype(mx.float32), rotation, cache)
    cache.advance(1, cache.next_position + 1)
    return model.logits(hidden)[:, 0]


def step_of(model: Model, dtype: mx.Dtype, compiled: bool) -> DecodeStep:
    language = model.model.language_model
    return DecodeStep(language.layers, language.norm, dtype, model._rotary.line(0, 1), compiled)


def compare(variant: str, dtype: mx.Dtype, compiled: bool) -> None:
    model = golden_model(variant, "calm", dtype)
    plain, cut = read(model), read(model)
    step = step_of(model, dtype, compiled)
    for token in REPLY:
        expected = model.last_logits(np.array([[token]]), plain)
        found = stepped(model, cut, token, step)
        assert found.dtype == expected.dtype == dtype
        assert mx.array_equal(found, expected)
    for layer, other in zip(cut.layers, plain.layers, strict=True):
        for array, same in zip(layer.held(), other.held(), strict=True):
            assert mx.array_equal(array, same)


def compare_windows(variant: str, compiled: bool) -> None:
    model = golden_model(variant, "calm", mx.float32)
    step = step_of(model, mx.float32, compiled)
    language = model.model.language_model
    for kept in (1, 3, 4):
        plain, cut = read(model), read(model)
        ids = mx.array([REPLY[:4]])
        expected, marks = model.step(ids, plain)
        cut.leave_trail()
        assert cut.leaves_trail
        rotation = model._rotary.line(cut.next_position, 4)
        found = step(language.embed_tokens(ids).astype(mx.float32), rotation, cut)
        cut.advance(4, cut.next_position + 4)
        assert mx.array_equal(found, expected)
        plain.rewind(marks[kept - 1])
        cut.rewind(cut.trail_marks(found)[kept - 1])
        assert not cut.leaves_trail
        for layer, other in zip(cut.layers, plain.layers, strict=True):
            for array, same in zip(layer.held(), other.held(), strict=True):
                assert mx.array_equal(array, same)


@pytest.mark.parametrize("variant", ["tied", "untied", "mixture_tied"])
def test_cut_layers_give_the_same_bits(variant: str) -> None:
    compare(variant, mx.float32, compiled=False)


@pytest.mark.parametrize("variant", ["tied", "mixture_tied"])
def test_cut_layers_leave_the_same_trail_of_a_window(variant: str) -> None:
    compare_windows(variant, compiled=False)


def test_cut_layers_compute_in_the_models_type() -> None:
    compare("tied", mx.bfloat16, compiled=False)


@pytest.mark.parametrize("variant", ["tied", "mixture_tied"])
def test_compiled_layers_give_the_same_bits(variant: str) -> None:
    compare(variant, mx.float32, compiled=True)
    compare_windows(variant, compiled=True)


def fresh() -> Model:
    """One that no other test has warmed up, nor will find warm."""
    model: Model = golden_model.__wrapped__("tied", "calm", mx.float32)
    return model


def launches(model: Model, tmp_path: Path) -> int:
    """How many operations the graph of one more token has."""
    cache = read(model)
    logits = model.last_logits(np.array([[REPLY[0]]]), cache)
    mx.export_to_dot(str(tmp_path / "step.dot"), logits, *cache.arrays())
    return (tmp_path / "step.dot").read_text().count("label")


@needs_warming_up
def test_a_warm_model_makes_less_of_a_step_and_gives_the_same_bits(tmp_path: Path) -> None:
    warm, cold = fresh(), fresh()
    warm.warm_up(threading.Event())
    assert launches(warm, tmp_path) < 0.8 * launches(cold, tmp_path)
    ours, theirs = read(warm), read(cold)
    for token in REPLY:
        ids = np.array([[token]])
        assert mx.array_equal(warm.last_logits(ids, ours), cold.last_logits(ids, theirs))
    assert all(map(mx.array_equal, ours.arrays(), theirs.arrays()))


class StopsAfter(threading.Event):
    """Set from the time on that it has been looked at so often."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@needs_warming_up
@pytest.mark.parametrize("looks", [0, 1, 2])
def test_warming_up_stops_when_asked_and_begins_again(tmp_path: Path, looks: int) -> None:
    model = fresh()
    cold = launches(model, tmp_path)
    model.warm_up(StopsAfter(looks))
    assert launches(model, tmp_path) == cold
    model.warm_up(threading.Event())
    assert launches(model, tmp_path) < cold


@needs_warming_up
def test_an_engine_warms_its_model_up_if_the_machine_has_the_strength(tmp_path: Path) -> None:
    engine = Engine.load(DEMO_MODEL)
    cold = launches(engine.model, tmp_path)
    engine.has_spare_power = lambda: False
    engine.warm_up(threading.Event())
    assert launches(engine.model, tmp_path) == cold
    engine.has_spare_power = lambda: True
    engine.warm_up(threading.Event())
    assert launches(engine.model, tmp_path) < cold


@pytest.mark.parametrize("packed", [False, True])
def test_after_warming_up_no_reply_has_anything_compiled(
    monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    if packed:
        monkeypatch.setattr("mlx_model.engine.unpack_small", lambda model: False)
    engine = Engine.load(DEMO_MODEL)
    traced: list[int] = []
    run = _Stretch.run

    def noted(stretch: _Stretch, x: mx.array, *arrays: list[mx.array]) -> list[mx.array]:
        traced.append(x.shape[1])
        return run(stretch, x, *arrays)

    monkeypatch.setattr(_Stretch, "run", noted)
    engine.warm_up(threading.Event())
    assert set(traced) == set(range(1, engine.limits.max_drafts + 2))
    traced.clear()
    question = Message.text("user", "Who are you?")
    for drafts in range(engine.limits.max_drafts + 1):
        settings = ReplySettings(max_tokens=12, drafts=drafts)
        *_, last = engine.reply(ReplyRequest((question,), settings), threading.Event())
        assert isinstance(last, Finished)
        assert last.stats.generated_tokens > 3
    assert traced == []


def test_a_compiler_that_fails_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = fresh(), []

    def broken(*_: object) -> Iterator[None]:
        asked.append(1)
        raise RuntimeError("no room for kernels")

    monkeypatch.setattr(type(model.model.language_model), "warm_up", broken)
    with pytest.raises(RuntimeError):
        model.warm_up(threading.Event())
    model.warm_up(threading.Event())
    assert asked == [1]
    mx.eval(model.last_logits(np.array([[REPLY[0]]]), read(model)))  # and it goes on without


def test_a_model_with_its_step_is_freed_at_once() -> None:
    mx.synchronize()
    before = mx.get_active_memory()
    model = fresh()
    weights = mx.get_active_memory() - before
    language = model.model.language_model
    language._step = step_of(model, mx.float32, compiled=True)
    stepped(model, read(model), REPLY[0], language._step)  # traced; nobody looks at the result
    released = [weakref.ref(part) for part in (language, *language.layers)]
    gc.collect()
    gc.disable()
    try:
        del model, language
        assert [part() for part in released] == [None] * len(released)
        assert mx.get_active_memory() - before < weights / 10
    finally:
        gc.enable()


def test_a_line_rotation_may_start_at_an_array() -> None:
    x = mx.random.normal((1, 2, 1, 16), key=mx.random.key(0))
    line = LineRotation(7, 1e4, 8)
    assert mx.array_equal(line.of(line.arrays()).apply(x), line.apply(x))
    assert mx.array_equal(line.part(2, 1).apply(x), LineRotation(9, 1e4, 8).apply(x))
