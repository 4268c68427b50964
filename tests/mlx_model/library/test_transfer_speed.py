"""Speed over the last seconds, and what it says about the rest."""

import pytest

from mlx_model.library.transfer_speed import TransferSpeed


class Clock:
    """Seconds that pass when they are told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_known_at_first(clock: Clock) -> None:
    speed = TransferSpeed(clock)
    assert speed.bytes_per_s == 0
    clock.now_s += 5
    assert speed.seconds_left(1000) is None


def test_a_steady_line(clock: Clock) -> None:
    speed = TransferSpeed(clock)
    for _ in range(30):
        clock.now_s += 0.5
        speed.add(1000)
    assert speed.bytes_per_s == pytest.approx(2000)
    assert speed.seconds_left(60_000) == pytest.approx(30)


def test_a_slow_start_is_forgotten(clock: Clock) -> None:
    speed = TransferSpeed(clock)
    for count in [1] * 20 + [5000] * 10:
        clock.now_s += 1
        speed.add(count)
    assert speed.bytes_per_s == pytest.approx(5000)


def test_a_stall_slows_it_down(clock: Clock) -> None:
    speed = TransferSpeed(clock)
    for _ in range(10):
        clock.now_s += 1
        speed.add(5000)
    clock.now_s += 8
    assert speed.bytes_per_s == pytest.approx(2500)
