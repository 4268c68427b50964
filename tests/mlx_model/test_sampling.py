"""Which tokens may be drawn, and that the seed alone decides which one is."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.messages import ReplySettings
from mlx_model.sampling import Sampler, keep_likely

LOGITS = np.array([0.0, 2.0, -1.0, 1.0, 3.0, 0.5], dtype=np.float32)


def draw(settings: ReplySettings, count: int, logits: np.ndarray = LOGITS) -> list[int]:
    sampler = Sampler(settings, logits.size)
    row = mx.array(logits)[None]
    return [int(sampler(row).item()) for _ in range(count)]


def probabilities(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def test_temperature_zero_takes_the_likeliest_whatever_the_filters() -> None:
    settings = ReplySettings(temperature=0.0, top_k=3, top_p=0.1, min_p=0.5, seed=1)
    assert draw(settings, 3) == [4, 4, 4]


def test_padding_rows_are_never_drawn() -> None:
    logits = mx.array([[0.0, 1.0, 0.5, 50.0, 60.0]])
    greedy = Sampler(ReplySettings(), 3)
    assert int(greedy(logits).item()) == 1
    hot = Sampler(ReplySettings(temperature=5.0, seed=7), 3)
    assert {int(hot(logits).item()) for _ in range(200)} == {0, 1, 2}


def test_the_seed_decides() -> None:
    settings = ReplySettings(temperature=1.5, seed=11)
    first = draw(settings, 40)
    mx.eval(mx.random.normal((5,), key=mx.random.key(3)))
    assert draw(settings, 40) == first
    assert draw(ReplySettings(temperature=1.5, seed=12), 40) != first


def test_without_a_seed_every_reply_differs() -> None:
    settings = ReplySettings(temperature=3.0)
    assert draw(settings, 40) != draw(settings, 40)


def test_the_largest_seed_is_taken() -> None:
    assert draw(ReplySettings(temperature=1.0, seed=2**64 - 1), 1)[0] in range(6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_temperature(temperature: float) -> None:
    count = 3000
    drawn = draw(ReplySettings(temperature=temperature, seed=5), count)
    measured = np.bincount(drawn, minlength=6) / count
    expected = probabilities(LOGITS / temperature)
    assert np.abs(measured - expected).max() < 4 * np.sqrt(0.25 / count)


def test_top_k_keeps_the_k_likeliest() -> None:
    assert set(draw(ReplySettings(temperature=3.0, top_k=3, seed=2), 300)) == {4, 1, 3}
    assert set(draw(ReplySettings(temperature=3.0, top_k=1, seed=2), 20)) == {4}
    assert set(draw(ReplySettings(temperature=5.0, top_k=99, seed=2), 400)) == set(range(6))


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    likeliest_first = np.sort(probabilities(LOGITS))[::-1]
    just_two = float(likeliest_first[:2].sum())
    for top_p, kept in [(just_two - 0.01, {4, 1}), (just_two + 0.01, {4, 1, 3}), (0.0, {4})]:
        settings = ReplySettings(temperature=1.0, top_p=top_p, seed=4)
        assert set(draw(settings, 400)) == kept


def test_top_p_counts_among_what_top_k_left() -> None:
    # Among the two likeliest alone the first has 73 %: 70 % is reached without the second.
    settings = ReplySettings(temperature=1.0, top_k=2, top_p=0.7, seed=4)
    assert set(draw(settings, 200)) == {4}


def test_min_p_is_relative_to_the_likeliest() -> None:
    # exp(-1) = 0.37 of the likeliest, exp(-2) = 0.14
    for min_p, kept in [(0.3, {4, 1}), (0.1, {4, 1, 3}), (1.0, {4})]:
        settings = ReplySettings(temperature=1.0, min_p=min_p, seed=4)
        assert set(draw(settings, 600)) == kept


def test_filters_leave_the_proportions_of_what_they_keep() -> None:
    scores, token_ids = keep_likely(mx.array(LOGITS), 4, 0.99, 0.01)
    assert token_ids is not None
    kept = {int(i): float(s) for i, s in zip(np.array(token_ids), np.array(scores), strict=True)}
    assert {i: s for i, s in kept.items() if s > -np.inf} == {4: 3.0, 1: 2.0, 3: 1.0, 5: 0.5}


def test_presence_penalty_lowers_each_accepted_token_once() -> None:
    sampler = Sampler(ReplySettings(presence_penalty=1.6), 6)
    row = mx.array(LOGITS)[None]
    assert int(sampler(row).item()) == 4
    sampler.accept(4)
    sampler.accept(4)
    assert int(sampler(row).item()) == 1  # 3 - 1.6 < 2
    sampler.accept(1)
    assert int(sampler(row).item()) == 4  # 3 - 1.6 > 2 - 1.6, so 4 was lowered only once
