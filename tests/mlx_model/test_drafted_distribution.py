"""Drawn with drafts, the tokens follow the distribution that the settings ask for.

Over a model of four words, whose next word depends on the latest alone, every probability can be
worked out by hand.
"""

import itertools
import threading
from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import CacheMark, SequenceCache
from mlx_model.draft_policy import FixedDrafts
from mlx_model.drafting import DraftedSteps
from mlx_model.generation import decode
from mlx_model.messages import ReplySettings
from mlx_model.sampling import Sampler
from tests.mlx_model.plain_sampling import plain_distribution
from tests.mlx_model.test_sampling import chi_square_is_plausible

WORDS = 4
NEVER = threading.Event()
REPLIES = 700


class FourWords:
    """Stands for a model and its draft head; a hidden state is a word, said by either of them."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.said = random.normal(0, 1.2, (WORDS, WORDS)).astype(np.float32)
        self.guessed = self.said + random.normal(0, 0.7, (WORDS, WORDS)).astype(np.float32)

    def step(self, ids: mx.array, cache: SequenceCache) -> tuple[mx.array, list[CacheMark]]:
        hidden = self._hidden(ids, 0)
        cache.leave_trail()
        cache.advance(ids.shape[1], cache.next_position + ids.shape[1])
        cache.last_hidden = hidden[:, -1:]
        return hidden, cache.trail_marks(hidden)

    def draft(self, ids: mx.array, before: mx.array, place: Any, cache: SequenceCache) -> mx.array:
        return self._hidden(ids[:, -1:], WORDS)

    def take_in_drafted(self, *told: Any) -> None:
        pass

    def logits(self, hidden: mx.array) -> mx.array:
        return hidden @ mx.array(np.concatenate([self.said, self.guessed]))

    def _hidden(self, ids: mx.array, speaker: int) -> mx.array:
        return (mx.arange(2 * WORDS) == ids[..., None] + speaker).astype(mx.float32)


def reply(model: Any, settings: ReplySettings, drafts: int) -> tuple[tuple[int, ...], Any]:
    """Three words after word 0, and what became of the drafts."""
    cache = SequenceCache([])
    hidden, _ = model.step(mx.array([[0]]), cache)
    sampler = Sampler(settings, WORDS)
    steps = DraftedSteps(model, cache, sampler, FixedDrafts(drafts))
    first = model.logits(hidden)[:, -1]
    words = decode(model, cache, first, sampler, frozenset(), 4, 99, NEVER, steps)
    return tuple(words), steps.count


@pytest.mark.parametrize(
    "chosen",
    [{"temperature": 1.0}, {"temperature": 1.3, "top_k": 3, "presence_penalty": 0.7}],
    ids=str,
)
def test_words_come_as_often_as_they_should(chosen: dict[str, Any]) -> None:
    model = FourWords()
    replies = [reply(model, ReplySettings(seed=seed, **chosen), 2) for seed in range(REPLIES)]
    counts = Counter(words[:3] for words, _ in replies)
    settings = ReplySettings(**chosen)
    every = list(itertools.product(range(WORDS), repeat=3))
    expected = []
    for words in every:
        chance, latest = 1.0, 0
        for place, word in enumerate(words):
            row = model.said[latest].tolist()
            chance *= plain_distribution(row, settings, (), words[:place])[word]
            latest = word
        expected.append(chance)
    drawn = [every.index(words) for words in counts.elements()]
    assert chi_square_is_plausible(drawn, np.array(expected))
    right = sum(count.right for _, count in replies)
    assert 0.3 < right / sum(count.made for _, count in replies) < 0.95


def test_drafts_are_right_as_often_as_shared_noise_makes_them() -> None:
    """Sum over words j of 1 / sum over words i of max(p_i / p_j, q_i / q_j)."""
    model, settings = FourWords(), ReplySettings(temperature=1.0)
    p, q = (
        plain_distribution(table[0].tolist(), settings) for table in (model.said, model.guessed)
    )
    chance = sum(1 / np.maximum(p / p[word], q / q[word]).sum() for word in range(WORDS))
    rows = [mx.array(table[:1]) for table in (model.said, model.guessed)]
    right = 0
    for seed in range(REPLIES):
        sampler = Sampler(ReplySettings(temperature=1.0, seed=seed), WORDS)
        drawn, guessed = (sampler.peek(row, [mx.array(1)]) for row in rows)
        right += int(drawn.item()) == int(guessed.item())
    spread = np.sqrt(chance * (1 - chance) / REPLIES)
    assert abs(right / REPLIES - chance) < 4 * spread
    assert abs(float((p * q).sum()) - chance) > 8 * spread  # what noise of its own would give
