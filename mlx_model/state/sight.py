"""What looking at a picture or clip found out, apart from its pixels; plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture, or the chosen frames of a clip.

    `grid` is (t, h, w) in patches; `width` and `height` are the file's own, in pixels. A picture's
    `frame_count` is that of its file, a clip's the number of frames taken, which have a time for
    each of the t groups, the last frame one of its own.
    """

    grid: tuple[int, int, int]
    width: int
    height: int
    frame_count: int
    times_s: tuple[float, ...] = ()
    last_s: float = 0.0
    ended_early: bool = False
