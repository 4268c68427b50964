"""States lie dense near the end of a history and rarer towards its start."""

import itertools

import pytest

from mlx_model.state.thinning import least_missed, spread_lengths


def test_lengths_lie_at_doubling_distances_from_the_end() -> None:
    assert spread_lengths(100, 100) == []
    assert spread_lengths(1000, 100) == [200, 600, 800, 900]
    assert spread_lengths(1050, 100) == [200, 600, 800, 900]


@pytest.mark.parametrize("total", [1, 4096, 5000, 262_144])
def test_they_are_few_and_on_the_grid(total: int) -> None:
    lengths = spread_lengths(total, 4096)
    assert len(lengths) <= 7
    assert all(0 < length < total and length % 4096 == 0 for length in lengths)
    assert all(a < b for a, b in itertools.pairwise(lengths))


def test_the_gap_that_is_read_again_least_likely_is_made_first() -> None:
    assert least_missed([10, 20, 30, 40], 0) == 0
    assert least_missed([10, 39, 40], 0) == 0, "far from the end"
    assert least_missed([30, 31, 40], 0) == 1, "a gap of one token"
    assert least_missed([5, 6], 0) == 0, "never the last"


def test_thinning_ends_with_gaps_that_grow_with_the_distance() -> None:
    lengths = list(range(10, 2000, 10))
    while len(lengths) > 8:
        del lengths[least_missed(lengths, 0)]
    gaps = [b - a for a, b in itertools.pairwise([0, *lengths])]
    assert lengths[-1] == 1990
    assert gaps[-1] <= 20
    assert all(before >= after for before, after in itertools.pairwise(gaps[1:]))
