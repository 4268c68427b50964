"""Clips from disk: a few of their frames with their real presentation times, in bounded memory.

Owns the walk through a clip; which frames are taken is decided in `frame_plan`, decoding is in
`frame_readers`. Knows nothing of what a model does with them.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlx_model.errors import MediaError
from mlx_model.frame_plan import FrameChoice, plan_by_index, plan_by_time
from mlx_model.frame_readers import FrameReader, open_reader
from mlx_model.media_file import damaged, display_name

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
PrepareFrame = Callable[[Pixels, int], Pixels]

_PROGRESS_EVERY = 16
# Times this close to a frame's number over the rate are that, up to the container's rounding.
_ROUNDING_S = 0.002
# Headers count a frame or two too many; the last frames are kept in case one was the last.
_MISCOUNT = 3


class MediaCancelledError(Exception):
    """Reading was stopped by the person; not an error to show."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a clip's header says; upright size in pixels. An animation is counted, not believed."""

    width: int
    height: int
    duration_s: float
    frame_count: int
    frames_per_s: float


@dataclass(frozen=True, slots=True)
class SampledVideo:
    """Frames uint8 [H, W, 3] with the seconds at which the clip shows them.

    `width` and `height` are the clip's own, also where the frames were made smaller.
    `ended_early`: the clip stopped well before the length that its header promised.
    """

    frames: list[Pixels]
    times_s: list[float]
    width: int
    height: int
    ended_early: bool = False


@dataclass(slots=True)
class _Walk:
    """One pass through a clip: the frames taken, their numbers, and when each passed one shows."""

    frames: list[Pixels] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    shown_s: list[float] = field(default_factory=list)
    outcome: Literal["done", "uneven", "ended"] = "done"


@dataclass(frozen=True, slots=True)
class _Watch:
    """What the caller hears from a walk and how it is stopped."""

    on_progress: Progress | None
    cancel: threading.Event | None
    prepare_frame: PrepareFrame | None

    def check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise MediaCancelledError

    def passed(self, done: int, total: int) -> None:
        if self.on_progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
            self.on_progress(done, total)

    def prepared(self, frame: Pixels, frame_count: int) -> Pixels:
        return self.prepare_frame(frame, frame_count) if self.prepare_frame else frame


def probe_video(path: str | Path) -> VideoInfo:
    """Size and length; only where the header lacks them is the clip walked through.

    Raises MediaError as `sample_video` does.
    """
    with open_reader(Path(path)) as reader:
        total, rate = reader.frame_count, reader.rate
        duration_s = total / rate if rate else 0.0
        if not duration_s:
            shown_s = _scanned(reader, [], _Watch(None, None, None))
            if not shown_s:
                raise damaged(Path(path))
            total, rate = len(shown_s), rate or _mean_rate(shown_s)
            duration_s = max(total / rate, shown_s[-1])
        return VideoInfo(reader.width, reader.height, duration_s, total, rate)


def planned_frames(
    info: VideoInfo,
    fps: float = 2.0,
    max_frames: int = 768,
    start_s: float | None = None,
    end_s: float | None = None,
    min_frames: int = 4,
) -> int:
    """How many frames `sample_video` will take of a clip with a steady rate."""
    choice = FrameChoice(fps, min_frames, max_frames, start_s, end_s)
    return len(plan_by_index(info.frame_count, info.frames_per_s, choice))


def sample_video(
    path: str | Path,
    fps: float = 2.0,
    max_frames: int = 768,
    start_s: float | None = None,
    end_s: float | None = None,
    min_frames: int = 4,
    on_progress: Progress | None = None,
    cancel: threading.Event | None = None,
    prepare_frame: PrepareFrame | None = None,
) -> SampledVideo:
    """Frames spread over the clip, or over the part of it from `start_s` to `end_s`.

    A clip with a steady rate is read once, front to back, and yields the reference's frame numbers;
    one whose frames are shown at uneven times is read twice and sampled evenly in time.
    `prepare_frame(frame, frame_count)` replaces each frame as it is decoded: with
    `Processor.fit_frame` memory holds small frames only. `on_progress(done, total)` counts frames
    passed over. Raises MediaError with a sentence that names the file, MediaCancelledError once
    `cancel` is set.
    """
    file = Path(path)
    choice = FrameChoice(fps, min_frames, max_frames, start_s, end_s)
    watch = _Watch(on_progress, cancel, prepare_frame)
    drift_s = 0.5 / fps
    with open_reader(file) as reader:
        size, rate = (reader.width, reader.height), reader.rate
        walk = _Walk(outcome="uneven")
        if reader.frame_count and rate:
            wanted = plan_by_index(reader.frame_count, rate, choice)
            walk = _walk(reader, wanted, watch, rate, drift_s)
        shown_s = walk.shown_s
        if walk.outcome != "done":
            shown_s = _scanned(reader, shown_s, watch)
    ended_early = walk.outcome == "ended"
    if walk.outcome != "done":
        if not shown_s:
            raise damaged(file)
        rate = rate or _mean_rate(shown_s)
        wanted = _plan_scanned(shown_s, rate, choice, drift_s)
        with open_reader(file) as reader:
            walk = _walk(reader, wanted, watch, rate)
    if not walk.frames:
        raise MediaError(
            f"The chosen part of {display_name(file)} holds no frames. Choose another part."
        )
    times_s = [_time_of(number, shown_s, rate) for number in walk.numbers]
    return SampledVideo(walk.frames, times_s, *size, ended_early)


def _walk(
    reader: FrameReader,
    wanted: Sequence[int],
    watch: _Watch,
    rate: float,
    drift_s: float = math.inf,
) -> _Walk:
    """Front to back, taking the wanted frames; stops where times drift from number / rate."""
    walk = _Walk()
    last = wanted[-1] if wanted else -1
    chosen = frozenset(wanted)
    spare: tuple[int, Pixels] | None = None
    for number in range(last + 1):
        watch.check()
        time_s = reader.grab()
        if time_s is None:
            if last - number >= _MISCOUNT or not number:
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
        elif last - number <= _MISCOUNT:
            spare = (number, watch.prepared(reader.frame(), len(wanted)))
        watch.passed(number + 1, last + 1)
    return walk


def _scanned(reader: FrameReader, shown_s: Sequence[float], watch: _Watch) -> list[float]:
    """The times already seen and those of all frames that follow."""
    times = list(shown_s)
    while True:
        watch.check()
        time_s = reader.grab()
        if time_s is None:
            return times
        times.append(max(time_s, times[-1]) if times else time_s)


def _plan_scanned(
    shown_s: Sequence[float], rate: float, choice: FrameChoice, drift_s: float
) -> list[int]:
    """The frames to take of a clip whose times are all known."""
    drift = max(abs(time - number / rate) for number, time in enumerate(shown_s))
    if drift <= max(drift_s, 1 / rate) or not _has_times(shown_s):
        return plan_by_index(len(shown_s), rate, choice)
    return plan_by_time(shown_s, choice)


def _mean_rate(shown_s: Sequence[float]) -> float:
    """Frames a second of a clip whose header does not say; 1 when nothing says."""
    if not _has_times(shown_s):
        return 1.0
    # Rounded, so that the sums of floating-point times do not turn 10 frames a second into 9.99.
    return round((len(shown_s) - 1) / (shown_s[-1] - shown_s[0]), 6)


def _has_times(shown_s: Sequence[float]) -> bool:
    return len(shown_s) > 1 and shown_s[-1] > shown_s[0]


def _time_of(number: int, shown_s: Sequence[float], rate: float) -> float:
    exact = number / rate
    if not _has_times(shown_s) or abs(shown_s[number] - exact) < _ROUNDING_S:
        return exact
    return shown_s[number]
