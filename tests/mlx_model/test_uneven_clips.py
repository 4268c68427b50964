"""Clips whose frames are shown at uneven times: which are taken and what seconds are told.

Each row of the table is a real file. The frames carry their numbers, so the picture that comes
back, not only its time, is the one that a player shows then.
"""

from pathlib import Path

import numpy as np
import pytest

from mlx_model.clips import SampledVideo, probe_video, sample_video
from mlx_model.errors import MediaError
from mlx_model.frame_plan import FrameChoice, plan_by_index
from tests.mlx_model.numbered_frames import number_of
from tests.mlx_model.timed_clips import write_timed

# Half a second of movement at 30 frames a second, from `start`.
BURST = [number / 30 for number in range(16)]

# name: (shown at seconds, wanted a second, fewest) -> [(frame, seconds told)]
TABLE: dict[str, tuple[list[float], float, int, list[tuple[int, float]]]] = {
    # Five slides of ten seconds: each is seen, once.
    "slides": (
        [0, 10, 20, 30, 40],
        2.0,
        4,
        [(0, 0.0), (1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)],
    ),
    # A still of eight and a half seconds between two movements is seen once. Two moments a second
    # meet three frames, fewer than the fewest; four a second also meet the middle of each movement.
    "screen recording": (
        [*BURST, *(9 + time for time in BURST)],
        2.0,
        4,
        [(0, 0.0), (7, 7 / 30), (15, 0.5), (23, 9 + 7 / 30), (31, 9.5)],
    ),
    "screen recording, fewer will do": (
        [*BURST, *(9 + time for time in BURST)],
        2.0,
        2,
        [(0, 0.0), (15, 0.5), (31, 9.5)],
    ),
    # Nothing for five seconds in the middle: the frame before it stays on screen, and is met by
    # five of the nine moments.
    "a gap": (
        [*(n / 10 for n in range(20)), *(7 + n / 10 for n in range(20))],
        1.0,
        4,
        [(0, 0.0), (11, 1.1), (19, 1.9), (27, 7.7), (39, 8.9)],
    ),
    # One frame a second, then ten: the last second does not crowd out the others.
    "a clip that speeds up": (
        [*(float(n) for n in range(8)), *(8 + n / 10 for n in range(11))],
        1.0,
        4,
        [(n, float(n)) for n in range(7)] + [(7, 7.0), (18, 9.0)],
    ),
    # Few enough to take them all, whenever they are shown.
    "one long still": (
        [0.0, 0.1, 0.2, 0.3, 60.0],
        0.1,
        4,
        [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 60.0)],
    ),
    # No moments could tell the first ten frames apart: frames are counted off instead.
    "a flash before a long still": (
        [*(n / 100 for n in range(10)), 600.0],
        0.001,
        4,
        [(0, 0.0), (3, 0.03), (7, 0.07), (10, 600.0)],
    ),
}


def frames_and_times(clip: SampledVideo) -> list[tuple[int, float]]:
    numbers = [number_of(frame) for frame in clip.frames]
    return list(zip(numbers, clip.times_s, strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_uneven_times(tmp_path: Path, name: str) -> None:
    times_s, fps, fewest, expected = TABLE[name]
    path = write_timed(tmp_path / "a.mp4", times_s)

    found = frames_and_times(sample_video(path, fps=fps, min_frames=fewest))

    assert [frame for frame, _ in found] == [frame for frame, _ in expected]
    told = [time_s for _, time_s in found]
    assert told == pytest.approx([time_s for _, time_s in expected], abs=1e-3)


def test_the_pictures_are_those_on_screen(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        times_s = np.cumsum(rng.choice([0.02, 0.03, 0.2, 1.5, 6.0], size=60)).tolist()
        times_s = [time_s - times_s[0] for time_s in times_s]
        path = write_timed(tmp_path / "a.mp4", times_s)
        found = frames_and_times(sample_video(path))
        assert [times_s[number] for number, _ in found] == pytest.approx(
            [told for _, told in found], abs=2e-3
        )
        assert len({number for number, _ in found}) == len(found)


def test_a_phones_almost_even_times_are_even(tmp_path: Path) -> None:
    # 29.97 frames a second, each up to 4 ms early or late: the reference's frames, the real times.
    rng = np.random.default_rng(9)
    shaken = rng.uniform(-0.004, 0.004, size=150)
    times_s = [max(0.0, n * 1001 / 30000 + shaken[n]) for n in range(150)]
    times_s[0] = 0.0
    path = write_timed(tmp_path / "a.mp4", times_s)
    found = frames_and_times(sample_video(path))
    rate = probe_video(path).frames_per_s
    assert [number for number, _ in found] == plan_by_index(150, rate, FrameChoice())
    for number, told_s in found:
        assert told_s == pytest.approx(times_s[number], abs=2e-3)


@pytest.mark.parametrize("late_s", [0.5, 2.5])
def test_a_film_that_begins_late_counts_from_its_first_frame(tmp_path: Path, late_s: float) -> None:
    times_s = [n / 25 for n in range(50)]
    path = write_timed(tmp_path / "a.mp4", times_s, late_s)
    found = frames_and_times(sample_video(path))
    assert found[0] == (0, 0.0)
    assert [told for _, told in found] == pytest.approx([times_s[n] for n, _ in found], abs=1e-3)


def test_two_frames_at_the_same_time(tmp_path: Path) -> None:
    # Each frame comes twice, as from a recorder that repeats what it has: seconds never go back.
    times_s = [n // 2 / 10 for n in range(40)]
    path = write_timed(tmp_path / "a.mp4", times_s)
    found = frames_and_times(sample_video(path))
    assert [told for _, told in found] == sorted(told for _, told in found)
    for number, told_s in found:
        assert told_s == pytest.approx(times_s[number], abs=0.06)


def test_a_part_of_an_uneven_clip(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mp4", [0, 10, 20, 30, 80, 81, 82])
    found = frames_and_times(sample_video(path, start_s=15.0, end_s=35.0))
    assert found == [(1, 10.0), (2, 20.0), (3, 30.0)]


def test_a_part_that_ends_before_it_begins_is_empty(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mp4", [0, 10, 20, 30, 80, 81, 82])
    with pytest.raises(MediaError, match="chosen part"):
        sample_video(path, start_s=35.0, end_s=15.0)
