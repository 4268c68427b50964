"""Which frames of a clip are looked at, and when they are shown: the reference's arithmetic.

Pure numbers; knows nothing of files or pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Containers round times; a frame due this soon counts as shown.
_ROUNDING_S = 0.002
_MOST_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """How densely a clip, or the part of it from `start_s` to `end_s`, is looked at."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    start_s: float | None = None
    end_s: float | None = None

    @property
    def drift_s(self) -> float:
        """How far a clip's times may stray from an even rate before they are looked at."""
        return 0.5 / self.fps


def plan_by_index(total: int, rate: float, choice: FrameChoice) -> list[int]:
    """Frame numbers of a clip with `total` frames at a constant `rate` (frames a second).

    The same as transformers' Qwen3VLVideoProcessor.sample_frames; with a start or an end the rule
    is applied to the frames in between. Empty when there are none.
    """
    first, last = 0, total - 1
    if choice.start_s is not None:
        first = max(first, int(np.ceil(choice.start_s * rate - 1e-6)))
    if choice.end_s is not None:
        last = min(last, int(np.floor(choice.end_s * rate + 1e-6)))
    return [first + number for number in _spread(last - first + 1, rate, choice)]


def plan_by_time(times_s: Sequence[float], choice: FrameChoice) -> list[int]:
    """Frame numbers of a clip whose frames are shown at `times_s`, for rates that vary.

    All of them where the budget allows. Else moments are spread evenly over the time; each takes
    the frame on screen then, and none is taken twice. Where long stills leave fewer than the
    minimum, the moments move closer together; where that does not help either, frames are counted
    off instead.
    """
    start_s, end_s = choice.start_s, choice.end_s
    if not times_s or (start_s is not None and end_s is not None and start_s > end_s):
        return []
    shown_s = np.array(times_s)
    first, last = 0, len(shown_s) - 1
    if start_s is not None:
        # The frame on screen at the start belongs to the part, although it came up before.
        first = max(0, _on_screen(shown_s, start_s))
    if end_s is not None:
        last = _on_screen(shown_s, end_s)
    times = shown_s[first : last + 1]
    if not len(times):
        return []
    usual_gap = float(np.median(np.diff(shown_s))) if len(shown_s) > 1 else 0.0
    if start_s is not None and start_s > shown_s[-1] + usual_gap:
        return []
    duration = float(times[-1] - times[0]) + usual_gap
    count = min(max(int(duration * choice.fps), choice.min_frames), choice.max_frames, len(times))
    if count == len(times):
        return list(range(first, last + 1))
    fewest = min(choice.min_frames, count)
    for moment_count in (count * 2**doubling for doubling in range(_MOST_DOUBLINGS)):
        moments = np.linspace(times[0], times[-1], moment_count)
        numbers = np.unique([_on_screen(times, moment) for moment in moments])
        if len(numbers) >= fewest:
            break
    if not fewest <= len(numbers) <= count:
        numbers = np.linspace(0, len(times) - 1, fewest).round()
    return [first + int(number) for number in numbers]


def _on_screen(shown_s: npt.NDArray[np.float64], moment_s: float) -> int:
    """The number of the frame that a clip shows at a moment; -1 before the first."""
    return int(np.searchsorted(shown_s, moment_s + _ROUNDING_S, side="right")) - 1


def _spread(total: int, rate: float, choice: FrameChoice) -> list[int]:
    if total <= 0:
        return []
    count = int(total / rate * choice.fps)
    count = min(max(count, choice.min_frames), choice.max_frames, total)
    return [int(i) for i in np.linspace(0, total - 1, count).round()]
