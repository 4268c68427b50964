"""Which frames are looked at: the reference's numbers, and what it has no rule for."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_model.frame_plan import FrameChoice, plan_by_index, plan_by_time
from tests.mlx_model.preprocessing_cases import SAMPLINGS, sampling_row

TABLES = json.loads(
    (Path(__file__).parents[1] / "goldens/preprocessing/tables.json").read_text(encoding="utf-8")
)


def group_times(numbers: list[int], rate: float) -> list[str]:
    """Times as the prompt shows them, from frame numbers."""
    times = [number / rate for number in numbers]
    times += times[-1:] * (len(times) % 2)
    return [f"{(a + b) / 2:.1f}" for a, b in zip(times[::2], times[1::2], strict=True)]


def test_frame_numbers_and_times_are_the_references() -> None:
    for case, golden in zip(SAMPLINGS, TABLES["samplings"], strict=True):
        total, rate, fps, fewest, most = case
        numbers = plan_by_index(total, rate, FrameChoice(fps, fewest, most))
        assert sampling_row(numbers, group_times(numbers, rate)) == golden, case


def test_the_documented_example() -> None:
    numbers = plan_by_index(250, 25.0, FrameChoice())
    assert len(numbers) == 20
    assert group_times(numbers, 25.0)[:3] == ["0.3", "1.3", "2.4"]


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [(None, None, 0, 249), (2.0, None, 50, 249), (None, 3.0, 0, 75), (2.0, 3.0, 50, 75)],
)
def test_a_part_begins_and_ends_at_its_points(
    start: float | None, end: float | None, first: int, last: int
) -> None:
    numbers = plan_by_index(250, 25.0, FrameChoice(start_s=start, end_s=end))
    assert (numbers[0], numbers[-1]) == (first, last)


def test_a_part_outside_the_clip_is_empty() -> None:
    assert plan_by_index(250, 25.0, FrameChoice(start_s=11.0)) == []
    assert plan_by_index(250, 25.0, FrameChoice(start_s=3.0, end_s=2.0)) == []
    times = [number / 25 for number in range(250)]
    assert plan_by_time(times, FrameChoice(start_s=11.0)) == []
    assert plan_by_time(times, FrameChoice(start_s=3.0, end_s=2.0)) == []
    assert plan_by_time([], FrameChoice()) == []


def test_even_times_give_nearly_what_frame_numbers_give() -> None:
    times = [number / 25 for number in range(250)]
    by_time, by_index = plan_by_time(times, FrameChoice()), plan_by_index(250, 25.0, FrameChoice())
    assert len(by_time) == len(by_index)
    assert max(abs(a - b) for a, b in zip(by_time, by_index, strict=True)) <= 1


def test_slides_are_each_seen_once_and_a_burst_does_not_crowd_them_out() -> None:
    # Three slides of ten seconds, then two seconds at 60 frames a second.
    times = [0.0, 10.0, 20.0, *(30 + number / 60 for number in range(120))]
    numbers = plan_by_time(times, FrameChoice())
    assert numbers[:3] == [0, 1, 2]
    assert numbers[-1] == len(times) - 1
    assert len(numbers) <= 8


def test_a_frame_on_screen_when_the_part_begins_belongs_to_it() -> None:
    times = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert plan_by_time(times, FrameChoice(start_s=15.0, end_s=35.0)) == [1, 2, 3]


def test_too_few_moments_fall_back_to_counting() -> None:
    # All frames within a tenth of a second, then one a minute later.
    times = [*(number / 100 for number in range(10)), 60.0]
    assert len(plan_by_time(times, FrameChoice(max_frames=4))) == 4


gaps = st.lists(st.floats(0.001, 20), min_size=1, max_size=200)


@settings(deadline=None)
@given(gaps, st.floats(0.1, 10), st.integers(1, 8), st.integers(1, 100))
def test_any_plan_is_in_order_without_repeats_and_within_the_limits(
    gaps: list[float], fps: float, fewest: int, spare: int
) -> None:
    times = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    choice = FrameChoice(fps, fewest, fewest + spare)
    for numbers in (plan_by_time(times, choice), plan_by_index(len(times), 1.0, choice)):
        assert numbers == sorted(set(numbers))
        assert numbers[0] >= 0
        assert numbers[-1] < len(times)
        assert min(fewest, len(times)) <= len(numbers) <= fewest + spare
