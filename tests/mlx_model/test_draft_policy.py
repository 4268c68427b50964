"""When drafts are made and when not, on a clock of the tests' own."""

import random
from collections.abc import Callable

import pytest

from mlx_model.draft_policy import FixedDrafts, MeasuredDrafts


class Machine:
    """Windows that take what they are said to, with drafts that are right as often as said."""

    def __init__(self, policy: MeasuredDrafts, costs: list[float], chance: float) -> None:
        """`costs` are seconds by number of drafts."""
        self.policy = policy
        self.costs = costs
        self.chance = chance
        self.random = random.Random(1)

    def run(self, windows: int) -> list[int]:
        """The drafts of so many windows."""
        made = []
        for _ in range(windows):
            drafts = self.policy.drafts()
            right = 0
            while right < drafts and self.random.random() < self.chance:
                right += 1
            self.policy.learn(drafts, right, self.costs[drafts])
            made.append(drafts)
        return made


CHEAP = [1.0, 1.1, 1.2, 1.3]


def mostly(made: list[int], drafts: int) -> bool:
    return made.count(drafts) > 0.75 * len(made)


def test_it_begins_without_drafts_and_measures_first() -> None:
    policy = MeasuredDrafts(3)
    assert not policy.on
    assert Machine(policy, CHEAP, 1.0).run(8) == [0] * 8


def test_cheap_and_right_drafts_are_made_as_many_as_allowed() -> None:
    for most in (1, 3):
        machine = Machine(MeasuredDrafts(most), CHEAP, 0.95)
        machine.run(100)
        assert mostly(machine.run(300), most)
        assert machine.policy.on


def test_drafts_that_are_never_right_are_given_up() -> None:
    machine = Machine(MeasuredDrafts(3), CHEAP, 0.0)
    machine.run(200)
    made = machine.run(2000)
    assert sum(map(bool, made)) < 0.03 * len(made)
    assert not machine.policy.on


def test_drafts_that_cost_more_than_they_bring_are_given_up() -> None:
    machine = Machine(MeasuredDrafts(3), [1.0, 2.0, 3.0, 4.0], 0.9)
    machine.run(200)
    made = machine.run(2000)
    assert sum(map(bool, made)) < 0.03 * len(made)


def test_a_further_draft_that_does_not_pay_is_not_made() -> None:
    machine = Machine(MeasuredDrafts(3), [1.0, 1.2, 2.4, 3.6], 0.9)
    machine.run(200)
    assert mostly(machine.run(1000), 1)


def test_it_comes_back_when_drafts_begin_to_be_right() -> None:
    machine = Machine(MeasuredDrafts(3), CHEAP, 0.0)
    machine.run(1500)
    machine.chance = 0.95
    machine.run(2500)
    assert mostly(machine.run(500), 3)


def test_it_stops_when_drafts_are_no_longer_right() -> None:
    machine = Machine(MeasuredDrafts(3), CHEAP, 0.95)
    machine.run(1000)
    machine.chance = 0.0
    made = machine.run(150)
    assert sum(map(bool, made[-50:])) < 15


def windows_until_on(machine: Machine) -> int:
    """How many windows with drafts it takes until drafts are in use."""
    tried = 0
    while not machine.policy.on:
        tried += machine.run(1)[0] > 0
    return tried


def test_a_trial_is_not_judged_by_the_text_before_it() -> None:
    machine = Machine(MeasuredDrafts(1), [1.0, 1.5], 0.1)
    machine.run(300)
    machine.chance = 0.9
    assert windows_until_on(machine) < 12, "the first trial that could win has won"


def test_what_the_first_window_of_a_size_costs_more_is_not_held_against_it() -> None:
    machine = Machine(MeasuredDrafts(1), [1.0, 1.5], 0.9)
    machine.run(8)
    machine.costs[1] = 50.0
    machine.run(1)
    machine.costs[1] = 1.5
    assert windows_until_on(machine) < 12


def test_one_long_pause_decides_nothing() -> None:
    machine = Machine(MeasuredDrafts(1), CHEAP, 0.9)
    machine.run(200)
    assert machine.policy.on
    machine.policy.learn(1, 0, 1000.0)
    machine.run(8)
    assert machine.policy.on


def test_none_is_none() -> None:
    assert set(Machine(MeasuredDrafts(0), CHEAP, 1.0).run(100)) == {0}


@pytest.mark.parametrize("drafts", [0, 2])
def test_a_fixed_number_stays(drafts: int) -> None:
    policy = FixedDrafts(drafts)
    for _ in range(50):
        assert policy.drafts() == drafts
        policy.record(drafts, 0)
    assert policy.on == (drafts > 0)


def test_the_time_before_the_first_window_is_not_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = iter([1.0, 3.0, 4.0, 100.0, 102.0])
    monkeypatch.setattr("mlx_model.draft_policy.time.perf_counter", lambda: next(times_s))
    policy, learnt = MeasuredDrafts(1), []
    learn: Callable[..., None] = lambda *window: learnt.append(window)  # noqa: E731
    monkeypatch.setattr(policy, "learn", learn)
    for _ in range(3):
        policy.record(0, 0)
    policy.pause()
    for _ in range(2):
        policy.record(1, 1)
    assert learnt == [(0, 0, 2.0), (0, 0, 1.0), (1, 1, 2.0)]
