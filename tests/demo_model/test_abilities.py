"""What the shipped demo model can do, from file to text at 4 bits: `make demo-table` in small.

60 held-out scenes an ability, at five points below the bar; most answers count only word for word.
"""

from collections.abc import Iterator

import pytest

from mlx_model import Engine
from tools.train_demo.evaluate import BARS, WAVED_OFF_BAR, Judges, score
from tools.train_demo.tokenizer import DEMO_MODEL

SCENES, MARGIN = 60, 0.05
# What a guess at the most likely answer would get, with room for the spread over so few scenes.
CHANCE = {
    "colour": 0.3,
    "count": 0.45,
    "presence": 0.65,
    "list": 0.1,
    "direction": 0.4,
    "word": 0.05,
    "page": 0.05,
    "box": 0.15,
    "point": 0.25,
    "time": 0.5,
    "happenings": 0.5,
    "two pictures": 0.25,
    "picture and clip": 0.4,
}


@pytest.fixture(scope="module")
def judges() -> Iterator[Judges]:
    # Two processes that have the same kernels compiled at once would read each other's halves.
    score(Engine.load(DEMO_MODEL), "small talk", range(1))
    with Judges(jobs=2) as both:
        yield both


@pytest.mark.parametrize("ability", BARS)
def test_the_bar_of_each_ability_is_reached(judges: Judges, ability: str) -> None:
    scored = judges.score(DEMO_MODEL, ability, SCENES)
    assert scored.accuracy >= BARS[ability] - MARGIN
    assert ability == "outside" or scored.waved_off <= WAVED_OFF_BAR * SCENES


@pytest.mark.parametrize("ability", CHANCE)
def test_shuffled_pixels_leave_nothing_but_guessing(judges: Judges, ability: str) -> None:
    scored = judges.score(DEMO_MODEL, ability, SCENES, shuffled=True)
    assert scored.accuracy <= CHANCE[ability]
