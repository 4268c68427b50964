"""What a sequence leaves behind: growth, going back without copies, nothing lost on the way."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import DeltaNetCache, KeyValueCache, SequenceCache
from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, relative_error


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(GOLDENS / "untied")


def rows(start: int, tokens: int) -> mx.array:
    """Rows that say which token they belong to. Shapes: [1, 2, tokens, 4]."""
    numbers = mx.arange(start, start + tokens, dtype=mx.float32)[None, None, :, None]
    return mx.broadcast_to(numbers, (1, 2, tokens, 4))


def test_rows_survive_every_growth() -> None:
    cache = KeyValueCache()
    length = 0
    for tokens in (5, 1, 250, 1, 600, 1, 1, 3000):
        keys, values = cache.extend(length, rows(length, tokens), -rows(length, tokens))
        length += tokens
        assert keys.shape == values.shape == (1, 2, length, 4)
        np.testing.assert_array_equal(keys, rows(0, length))
        np.testing.assert_array_equal(values, -rows(0, length))


def test_growth_is_rare_and_bounded() -> None:
    cache = KeyValueCache()
    rooms = []
    for start in range(0, 20000, 50):
        cache.extend(start, rows(start, 50), rows(start, 50))
        mx.eval(cache.keys, cache.values)
        rooms.append(cache.keys.shape[2])
    assert len(set(rooms)) < 15
    assert all(room - (50 * i + 50) <= 4096 for i, room in enumerate(rooms))


def test_a_shorter_length_overwrites_what_was_longer() -> None:
    cache = KeyValueCache()
    cache.extend(0, rows(0, 300), rows(0, 300))
    keys, _ = cache.extend(100, rows(500, 2), rows(500, 2))
    np.testing.assert_array_equal(keys[0, 0, :, 0], [*range(100), 500, 501])


def test_a_new_cache_follows_the_models_layers(model: Model) -> None:
    cache = model.make_cache()
    kinds = [type(layer) for layer in cache.layers]
    assert kinds == [DeltaNetCache, KeyValueCache, DeltaNetCache, KeyValueCache]
    assert (cache.length, cache.next_position, cache.arrays()) == (0, 0, [])


def test_states_are_fp32_and_evaluated_with_the_logits(model: Model) -> None:
    cache = model.make_cache()
    mx.eval(model.last_logits(np.arange(20)[None], cache))
    states = [layer.state for layer in cache.layers if isinstance(layer, DeltaNetCache)]
    assert all(state.dtype == mx.float32 for state in states)
    assert len(cache.arrays()) == 9  # two a layer, and the last hidden state


def test_going_back_by_reference_and_length_equals_starting_anew(model: Model) -> None:
    prefix, branch_a, branch_b = (
        np.random.default_rng(seed).integers(0, 100, (1, tokens))
        for seed, tokens in ((1, 90), (2, 200), (3, 7))
    )
    cache = model.make_cache()
    mx.eval(model.last_logits(prefix, cache))
    mark = (cache.length, cache.next_position, states_of(cache))
    first = model.last_logits(branch_a, cache)
    mx.eval(first, model.last_logits(np.array([[5]]), cache))

    for branch in (branch_b, branch_a):
        cache.length, cache.next_position = mark[:2]
        for layer, state in zip(cache.layers, mark[2], strict=True):
            if isinstance(layer, DeltaNetCache) and state is not None:
                layer.state, layer.conv_tail = state
        found = model.last_logits(branch, cache)
        cold = model.make_cache()
        mx.eval(model.last_logits(prefix, cold))
        assert relative_error(found, model.last_logits(branch, cold)) == 0.0
    assert relative_error(found, first) == 0.0


def states_of(cache: SequenceCache) -> list[tuple[mx.array, mx.array] | None]:
    return [
        (layer.state, layer.conv_tail) if isinstance(layer, DeltaNetCache) else None
        for layer in cache.layers
    ]


def test_rewinding_forgets_a_call_that_was_not_computed(model: Model) -> None:
    cache = model.make_cache()
    mx.eval(model.last_logits(np.arange(20)[None], cache), cache.arrays())
    before = [np.array(array) for array in cache.arrays()]
    mark = cache.mark()
    heavy = (mx.ones(1 << 24).max() * 3).astype(mx.int32)
    model.last_logits(heavy.reshape(1, 1), cache)
    assert (cache.length, cache.next_position) == (21, 21)
    cache.rewind(mark)
    assert (cache.length, cache.next_position) == (20, 20)
    active = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(cache.arrays())
    assert mx.get_peak_memory() - active < 1 << 24
    for array, wanted in zip(cache.arrays(), before, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_rewinding_forgets_a_call_that_was_computed_and_grew_the_buffers(model: Model) -> None:
    cache = model.make_cache()
    mx.eval(model.last_logits(np.arange(20)[None], cache), cache.arrays())
    mark = cache.mark()
    mx.eval(model.last_logits(np.full((1, 400), 7), cache), cache.arrays())
    cache.rewind(mark)
    cold = model.make_cache()
    mx.eval(model.last_logits(np.arange(20)[None], cold), cold.arrays())
    found, wanted = (model.last_logits(np.array([[5, 6]]), one) for one in (cache, cold))
    np.testing.assert_array_equal(found, wanted)


def test_a_checkpoint_keeps_nothing_but_its_own_in_memory(model: Model) -> None:
    mx.clear_cache()
    before = mx.get_active_memory()
    cache = model.make_cache()
    mx.eval(model.last_logits(np.full((1, 2000), 7), cache), cache.arrays())
    held = sum(array.nbytes for array in cache.arrays())
    checkpoint = cache.checkpoint()
    del cache
    assert checkpoint.nbytes < held // 10
    assert mx.get_active_memory() - before < 2 * checkpoint.nbytes


def test_rows_come_back_where_they_were_copied_from(model: Model) -> None:
    """Copies keep the buffers from nothing: they are no second owner."""
    ids = np.random.default_rng(3).integers(0, 90, (1, 60))
    cache = model.make_cache()
    mx.eval(model.last_logits(ids[:, :40], cache), cache.arrays())
    checkpoint = cache.checkpoint()
    expected = np.array(model.last_logits(ids[:, 40:], cache))
    segment = cache.copy_rows(0, 40)
    assert segment.bits == 32
    assert segment.nbytes == 40 * segment.part(0, 1).nbytes

    other = model.make_cache()
    other.write_rows(0, segment.part(0, 25))
    other.write_rows(25, segment.part(25, 40))
    other.restore(checkpoint)
    np.testing.assert_array_equal(model.last_logits(ids[:, 40:], other), expected)
    assert (other.length, other.next_position) == (60, 60)


def test_a_copy_of_rows_names_the_width_of_its_numbers() -> None:
    half = load_model(GOLDENS / "untied", mx.bfloat16)
    cache = half.make_cache()
    mx.eval(half.last_logits(np.arange(20)[None], cache), cache.arrays())
    segment = cache.copy_rows(5, 15)
    assert segment.bits == 16
    assert segment.nbytes == 10 * cache.copy_rows(0, 1).nbytes
