"""Passes through an open clip and takes the wanted frames on the way, one in memory at a time.

Owns progress, cancelling and noticing where a clip is not what its header or list says; opening
clips and choosing frames are for others.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlx_model.frame_readers import FrameReader

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
PrepareFrame = Callable[[Pixels, int], Pixels]
# To the frame shown at that second: the second at which it has arrived.
Jump = Callable[[float], float | None]

# Times this close are the same, up to the container's rounding.
ROUNDING_S = 0.002
# Headers count a frame or two too many; the last frames are kept in case one was the last.
MISCOUNT = 3
_PROGRESS_EVERY = 16


class MediaCancelledError(Exception):
    """Reading was stopped by the person; not an error to show."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the caller hears from a walk and how it is stopped."""

    on_progress: Progress | None = None
    cancel: threading.Event | None = None
    prepare_frame: PrepareFrame | None = None

    def check(self) -> None:
        """Raises MediaCancelledError once the caller has had enough."""
        if self.cancel is not None and self.cancel.is_set():
            raise MediaCancelledError

    def passed(self, done: int, total: int) -> None:
        """Tell the caller now and then how far the walk is."""
        if self.on_progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
            self.on_progress(done, total)

    def prepared(self, frame: Pixels, frame_count: int) -> Pixels:
        """The frame as the caller wants to keep it."""
        return self.prepare_frame(frame, frame_count) if self.prepare_frame else frame


@dataclass(slots=True)
class Walk:
    """One pass through a clip: the frames taken, their numbers, and when each passed one shows."""

    frames: list[Pixels] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    shown_s: list[float] = field(default_factory=list)
    outcome: Literal["done", "uneven", "ended"] = "done"


def walk(
    reader: FrameReader,
    wanted: Sequence[int],
    watch: Watch,
    rate: float,
    drift_s: float = math.inf,
) -> Walk:
    """Front to back, taking the wanted frames; stops where times drift from number / rate."""
    walk = Walk()
    last = wanted[-1] if wanted else -1
    chosen = frozenset(wanted)
    spare: tuple[int, Pixels] | None = None
    for number in range(last + 1):
        watch.check()
        time_s = reader.grab()
        if time_s is None:
            if last - number >= MISCOUNT or not number:
                walk.outcome = "ended"
            elif spare is not None and spare[0] == number - 1:
                walk.numbers.append(spare[0])
                walk.frames.append(spare[1])
            break
        walk.shown_s.append(time_s)
        if abs(time_s - number / rate) > max(drift_s, 1 / rate):
            walk.outcome = "uneven"
            break
        if number in chosen:
            walk.numbers.append(number)
            walk.frames.append(watch.prepared(reader.frame(), len(wanted)))
        elif last - number <= MISCOUNT:
            spare = (number, watch.prepared(reader.frame(), len(wanted)))
        watch.passed(number + 1, last + 1)
    return walk


def walk_listed(
    reader: FrameReader,
    listed: Sequence[tuple[int, float]],
    wanted: Sequence[int],
    watch: Watch,
    jump: Jump | None = None,
) -> list[Pixels] | None:
    """The wanted ones of frames that are listed as (number, seconds) in the order they are shown.

    `jump` is asked to bridge gaps in the numbers; without it the reader itself has such gaps. None
    as soon as the reader shows another time than the list.
    """
    chosen, frames, before = frozenset(wanted), list[Pixels](), -1
    for done, (number, expected_s) in enumerate(listed, start=1):
        watch.check()
        gap = number > before + 1
        time_s = jump(expected_s) if jump and gap else reader.grab()
        if time_s is None or abs(time_s - expected_s) > ROUNDING_S:
            return None
        if number in chosen:
            frames.append(watch.prepared(reader.frame(), len(wanted)))
        before = number
        watch.passed(done, len(listed))
    return frames


def all_times(reader: FrameReader, watch: Watch) -> list[float]:
    """The times of all frames, each stepped to for it; they never go back."""
    times: list[float] = []
    while (time_s := reader.grab()) is not None:
        watch.check()
        times.append(max(time_s, times[-1]) if times else time_s)
    return times
