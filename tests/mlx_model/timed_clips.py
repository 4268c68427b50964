"""Small MP4 files whose frames carry their numbers and are shown at any times a test asks for."""

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2

from mlx_model.boxes import Box, packed_box
from mlx_model.clips import probe_video
from tests.mlx_model.numbered_frames import HEIGHT, WIDTH, numbered_frame

MEDIA = Path(__file__).parents[1] / "media"
TIMESCALE = 90_000
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")

Change = Callable[[Box], bytes | None]


def write_steady(path: Path, count: int, rate: float = 30.0, codec: str = "mp4v") -> Path:
    """Numbered frames at an even rate, in whatever the name's ending asks for."""
    # What touches OpenCV first decides for good whether it talks: let that be the program.
    probe_video(MEDIA / "h264.mp4")
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(cv2.cvtColor(numbered_frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_timed(path: Path, times_s: Sequence[float], late_s: float = 0.0) -> Path:
    """An MP4 with one frame for each time; the last stays as long as the one before it.

    With `late_s` the film begins that much after the file.
    """
    write_steady(path, len(times_s))
    ticks = [round(time_s * TIMESCALE) for time_s in times_s]
    durations = [b - a for a, b in pairwise(ticks)]
    durations.append(durations[-1] if durations else TIMESCALE // 30)

    def timed(box: Box) -> bytes | None:
        if box.name == b"stts":
            rows = b"".join(struct.pack(">II", 1, duration) for duration in durations)
            return struct.pack(">II", 0, len(durations)) + rows
        if box.name == b"mdhd":
            head = bytes(box.content)
            return head[:12] + struct.pack(">II", TIMESCALE, sum(durations)) + head[20:]
        if box.name == b"elst":
            whole_ms = round(sum(durations) * 1000 / TIMESCALE) + 1
            edits = [(round(late_s * 1000), -1, 1 << 16)] if late_s else []
            edits.append((whole_ms, 0, 1 << 16))
            return struct.pack(">II", 0, len(edits)) + b"".join(
                struct.pack(">IiI", *edit) for edit in edits
            )
        return None

    rewrite(path, timed)
    return path


def rewrite(path: Path, change: Change) -> None:
    """Replace the content of some pieces of a file whose table stands at its end."""
    whole = Box(b"file", memoryview(path.read_bytes()))
    path.write_bytes(b"".join(_changed(box, change) for box in whole.children()))


def _changed(box: Box, change: Change) -> bytes:
    if box.name in (*_PARENTS, b"edts"):
        inside = b"".join(_changed(child, change) for child in box.children())
        return packed_box(box.name, inside)
    content = change(box)
    return box.packed() if content is None else packed_box(box.name, content)
