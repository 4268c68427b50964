"""Properties of the whole model that need no reference."""

import itertools
import threading

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, VARIANTS, relative_error

TEXT = np.random.default_rng(0).integers(0, 100, (1, 150))


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(GOLDENS / request.param)


def test_token_by_token_equals_the_whole(model: Model) -> None:
    whole = model(TEXT[:, :80])[0]
    cache = model.make_cache()
    rows = [model.last_logits(TEXT[:, t : t + 1], cache) for t in range(80)]
    assert relative_error(mx.concatenate(rows), whole) < 1e-4


@settings(max_examples=10, deadline=None, derandomize=True)
@given(stops=st.sets(st.integers(1, 149), max_size=5))
def test_any_split_of_a_prompt_equals_the_whole(model: Model, stops: set[int]) -> None:
    whole = model(TEXT)[0]
    cache = model.make_cache()
    bounds = [0, *sorted(stops), TEXT.shape[1]]
    rows = [
        model(TEXT[:, start:stop], cache=cache)[0] for start, stop in itertools.pairwise(bounds)
    ]
    assert relative_error(mx.concatenate(rows), whole) < 1e-4


def test_the_last_row_alone_is_the_last_of_all_rows(model: Model) -> None:
    cache = model.make_cache()
    last = model.last_logits(TEXT, cache)
    assert last.shape == (1, model.config.text.vocab_size)
    assert relative_error(last[0], model(TEXT)[0, -1]) < 1e-5
    assert (cache.length, cache.next_position) == (150, 150)


def test_a_token_still_being_computed_may_be_fed_back(model: Model) -> None:
    caches = model.make_cache(), model.make_cache()
    token = mx.argmax(model.last_logits(TEXT, caches[0]), axis=-1, keepdims=True)
    lazy = model.last_logits(token, caches[0])
    mx.eval(model.last_logits(TEXT, caches[1]))
    assert relative_error(model.last_logits(np.array(token), caches[1]), lazy) == 0.0


def test_sequences_do_not_leak_into_each_other(model: Model) -> None:
    alone = model.last_logits(TEXT, model.make_cache())
    first, second = model.make_cache(), model.make_cache()
    model.last_logits(TEXT[:, :70], first)
    model.last_logits(TEXT[:, 30:90], second)
    assert relative_error(model.last_logits(TEXT[:, 70:], first), alone) < 1e-4


def test_a_model_loaded_and_run_on_another_thread_gives_the_same(model: Model) -> None:
    found: list[np.ndarray] = []
    variant = "tied" if model.config.text.tie_word_embeddings else "untied"

    def work() -> None:
        other = load_model(GOLDENS / variant)
        found.append(np.array(other.last_logits(TEXT, other.make_cache())))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert relative_error(found[0], model.last_logits(TEXT, model.make_cache())) < 1e-6
