"""Clips from disk: a few of their frames with their real presentation times, in bounded memory.

Owns the ways in which a clip is gone through, from the quickest to the one that always works;
which frames are taken is decided in `frame_plan`. Knows nothing of what a model does with them.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from mlx_model.errors import MediaError
from mlx_model.frame_plan import FrameChoice, plan_by_index, plan_by_time
from mlx_model.frame_readers import (
    FilmReader,
    FrameReader,
    PacketReader,
    nothing_decoded,
    open_reader,
)
from mlx_model.frame_walk import (
    MISCOUNT,
    ROUNDING_S,
    MediaCancelledError,
    Pixels,
    PrepareFrame,
    Progress,
    Watch,
    all_times,
    walk,
    walk_listed,
)
from mlx_model.media_file import damaged, display_name
from mlx_model.mp4_excerpt import Excerpt, needed_frames
from mlx_model.mp4_table import FrameTable, read_frame_table

__all__ = [
    "MediaCancelledError",
    "SampledVideo",
    "VideoInfo",
    "planned_frames",
    "probe_video",
    "sample_video",
]

# Passing over fewer frames than this takes less time than a jump, which also passes over some.
_WORTH_A_JUMP = 250
# Headers guess, and count the sound too: a clip that lacks less than this is whole.
_WHOLE_S = 1.0


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A clip at a glance; upright size in pixels.

    The length is the header's, but of an MP4 or MOV what is really there, and of an animation, or
    a clip whose header says nothing, counted.
    """

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


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one way through a clip brought back; `times_s` may still go back a rounding error."""

    frames: list[Pixels]
    times_s: list[float]
    ended_early: bool = False


@dataclass(frozen=True, slots=True)
class _Errand:
    """One call of `sample_video`; count and rate as the header has them, 0 where unknown."""

    file: Path
    choice: FrameChoice
    watch: Watch
    frame_count: int
    rate: float


_Way = Callable[[_Errand, FrameReader], _Taken | None]


def probe_video(path: str | Path, cancel: threading.Event | None = None) -> VideoInfo:
    """Size and length, as far as possible without going through the clip.

    Raises MediaError as `sample_video` does, MediaCancelledError once `cancel` is set.
    """
    file, watch = Path(path), Watch(cancel=cancel)
    with open_reader(file) as reader:
        count, rate = reader.frame_count, reader.rate
        is_film = isinstance(reader, FilmReader)
        table = _table_of(file) if is_film else None
        if table is not None:
            shown_s = table.shown_s()
            rate = rate or _mean_rate(shown_s)
            duration_s = len(shown_s) / rate if table.is_whole else shown_s[-1] + 1 / rate
            return VideoInfo(reader.width, reader.height, duration_s, len(shown_s), rate)
        duration_s = count / rate if rate else 0.0
        if not duration_s:
            shown_s = _packet_times(file, watch) if is_film else []
            shown_s = shown_s or all_times(reader, watch)
            if not shown_s:
                raise nothing_decoded(file)
            count, rate = len(shown_s), rate or _mean_rate(shown_s)
            duration_s = max(count / rate, shown_s[-1])
        return VideoInfo(reader.width, reader.height, duration_s, count, rate)


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

    A clip with a steady rate yields the reference's frame numbers; one whose frames are shown at
    uneven times is sampled evenly in time. As little as possible is decoded: of an MP4 or MOV the
    wanted frames and what they are made from, of others everything but long stretches without a
    wanted frame. `prepare_frame(frame, frame_count)` replaces each frame as it is decoded: with
    `Processor.fit_frame` memory holds small frames only. `on_progress(done, total)` counts frames
    passed over. Raises MediaError with a sentence that names the file, MediaCancelledError once
    `cancel` is set.
    """
    file = Path(path)
    choice = FrameChoice(fps, min_frames, max_frames, start_s, end_s)
    watch = Watch(on_progress, cancel, prepare_frame)
    with open_reader(file) as reader:
        errand = _Errand(file, choice, watch, reader.frame_count, reader.rate)
        taken = next(taken for way in _ways(errand, reader) if (taken := way(errand, reader)))
        times_s = list(accumulate(taken.times_s, max))
        return SampledVideo(taken.frames, times_s, reader.width, reader.height, taken.ended_early)


def _ways(errand: _Errand, reader: FrameReader) -> list[_Way]:
    """The ways through a clip, the quickest first; the last one always works."""
    if not isinstance(reader, FilmReader):
        return [_by_count, _by_all_times]
    planned = plan_by_index(errand.frame_count, errand.rate or 1.0, errand.choice)
    counting = [_by_packets, _by_count] if _has_jumps(planned) else [_by_count, _by_packets]
    return [_by_table, *counting, _by_all_times]


def _by_table(errand: _Errand, reader: FrameReader) -> _Taken | None:
    """From an MP4 or MOV, decoding no more than necessary; None where its table is no guide."""
    try:
        source = errand.file.open("rb", buffering=0)
    except OSError:
        return None
    with source:
        table = read_frame_table(source)
        if table is None:
            return None
        shown_s = table.shown_s()
        plan = _plan_known(errand, shown_s, len(shown_s))
        places = needed_frames(table, plan.wanted, source, errand.watch.check)
        if places is None:
            return None
        try:
            with FilmReader(errand.file, Excerpt(table, places, source)) as excerpt:
                if (excerpt.width, excerpt.height) != (reader.width, reader.height):
                    return None
                frames = walk_listed(excerpt, table.listed(places), plan.wanted, errand.watch)
        except MediaError:
            return None
    if frames is None:
        return None
    return replace(plan.taken(frames, shown_s), ended_early=not table.is_whole)


def _by_count(errand: _Errand, reader: FrameReader) -> _Taken | None:
    """Front to back, counting; None where times are uneven or the header lies."""
    rate = errand.rate
    if not (errand.frame_count and rate):
        return None
    wanted = plan_by_index(errand.frame_count, rate, errand.choice)
    if not wanted:
        return None
    found = walk(reader, wanted, errand.watch, rate, errand.choice.drift_s)
    if found.outcome != "done":
        return None
    return _Taken(found.frames, [_time_of(n, found.shown_s, rate) for n in found.numbers])


def _by_packets(errand: _Errand, _: FrameReader) -> _Taken | None:
    """With the times that the film's packets carry; None where its frames have others."""
    shown_s = _packet_times(errand.file, errand.watch)
    if not shown_s:
        return None
    plan = _plan_known(errand, shown_s, errand.frame_count)
    last, frames = plan.wanted[-1], None
    if _has_jumps(plan.wanted):
        listed = [(number, shown_s[number]) for number in _without_jumps(plan.wanted)]
        with FilmReader(errand.file) as film:
            frames = walk_listed(film, listed, plan.wanted, errand.watch, film.jump)
    if frames is None:
        with FilmReader(errand.file) as film:
            listed = list(enumerate(shown_s[: last + 1]))
            frames = walk_listed(film, listed, plan.wanted, errand.watch)
    return None if frames is None else plan.taken(frames, shown_s)


def _by_all_times(errand: _Errand, _: FrameReader) -> _Taken:
    """With the time of every frame, each decoded for it: always works, and takes longest."""
    with open_reader(errand.file) as reader:
        shown_s = all_times(reader, errand.watch)
    if not shown_s:
        raise nothing_decoded(errand.file)
    plan = _plan_known(errand, shown_s, errand.frame_count)
    with open_reader(errand.file) as reader:
        found = walk(reader, plan.wanted, errand.watch, plan.rate)
    if not found.frames:
        raise damaged(errand.file)
    return replace(plan, wanted=found.numbers).taken(found.frames, shown_s)


def _table_of(file: Path) -> FrameTable | None:
    try:
        with file.open("rb") as source:
            return read_frame_table(source)
    except OSError:
        return None


def _packet_times(file: Path, watch: Watch) -> list[float]:
    """When a film's frames are shown, in order, without decoding any; empty when in doubt."""
    times = []
    with PacketReader(file) as packets:
        while (time_s := packets.grab()) is not None:
            watch.check()
            times.append(time_s)
    times.sort()
    return times if all(a < b for a, b in pairwise(times)) else []


def _has_jumps(wanted: Sequence[int]) -> bool:
    return any(b - a > _WORTH_A_JUMP for a, b in pairwise((-1, *wanted)))


def _without_jumps(wanted: Sequence[int]) -> list[int]:
    """The frames to pass: those on the way to a wanted one, or it alone where the way is long."""
    passed: list[int] = []
    for before, number in pairwise((-1, *wanted)):
        first = number if number - before > _WORTH_A_JUMP else before + 1
        passed += range(first, number + 1)
    return passed


@dataclass(frozen=True, slots=True)
class _Plan:
    """The frames to take of a clip whose times are all known; `missing` ones were promised."""

    wanted: list[int]
    rate: float
    missing: int

    def taken(self, frames: list[Pixels], shown_s: Sequence[float]) -> _Taken:
        times_s = [_time_of(number, shown_s, self.rate) for number in self.wanted]
        return _Taken(frames, times_s, self.missing > max(MISCOUNT, self.rate * _WHOLE_S))


def _plan_known(errand: _Errand, shown_s: Sequence[float], promised: int) -> _Plan:
    """What to take of a clip whose times are all known. Raises MediaError when that is nothing."""
    rate, count = errand.rate or _mean_rate(shown_s), len(shown_s)
    drift = np.abs(np.array(shown_s) - np.arange(count) / rate).max()
    missing = 0
    if drift <= max(errand.choice.drift_s, 1 / rate) or not _has_times(shown_s):
        missing = promised - count
        # A frame more or less than the header says changes nothing, as in `walk`.
        total = promised if abs(missing) < MISCOUNT else count
        numbers = plan_by_index(total, rate, errand.choice)
        wanted = sorted({min(number, count - 1) for number in numbers})
    else:
        wanted = plan_by_time(shown_s, errand.choice)
    if not wanted:
        raise MediaError(
            f"The chosen part of {display_name(errand.file)} holds no frames. Choose another part."
        )
    return _Plan(wanted, rate, missing)


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
    if not _has_times(shown_s) or abs(shown_s[number] - exact) < ROUNDING_S:
        return exact
    return shown_s[number]
