"""Decoders that walk through a clip frame by frame: OpenCV for films, Pillow for animations.

A reader passes over a frame with `grab`, which is cheap, and converts it only on `frame`. It
knows nothing of which frames are wanted.
"""

import functools
import math
import os
from pathlib import Path
from typing import Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt

from mlx_model.errors import MediaError
from mlx_model.media_file import damaged, display_name, gone, read_head, sniff, unknown
from mlx_model.stills import MAX_PIXELS, open_picture, to_rgb, too_large

Pixels = npt.NDArray[np.uint8]

_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg",
    ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp", ".gif",
})  # fmt: skip
_MAX_RATE = 1000.0
# What browsers show for a frame that asks for next to no time.
_SHORTEST_DELAY_MS = 10
_USUAL_DELAY_MS = 100


class FrameReader(Protocol):
    """A clip being read; `frame_count` and `rate` (frames a second) are 0 where unknown."""

    width: int
    height: int
    frame_count: int
    rate: float

    def grab(self) -> float | None:
        """Step to the next frame: its presentation time in seconds, None at the end."""

    def frame(self) -> Pixels:
        """The frame last stepped to, upright, uint8 [H, W, 3] RGB."""

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_reader(path: Path) -> FrameReader:
    """A reader at the start of the clip. Raises MediaError with a sentence that names the file."""
    kind = sniff(read_head(path))
    if kind == "animation":
        return AnimationReader(path)
    if kind == "clip":
        return FilmReader(path)
    if kind == "unknown":
        raise unknown(path, _SUFFIXES, "clip", "MP4, MOV, MKV, WebM, AVI or GIF")
    raise MediaError(f"{display_name(path)} is a picture, not a clip. Attach it as a picture.")


class FilmReader:
    """Reads films through OpenCV, which turns them upright by their rotation mark."""

    def __init__(self, path: Path) -> None:
        _quieten_opencv()
        self._path = path
        # An absolute path: a bare name such as "http:x" would be taken for an address.
        self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise self._nothing_readable()
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE else 0.0
        if self.width * self.height > MAX_PIXELS:
            self.close()
            raise too_large(path)
        if not self.width or not self.height:
            self.close()
            raise self._nothing_readable()

    def grab(self) -> float | None:
        if not self._capture.grab():
            return None
        return max(0.0, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)

    def frame(self) -> Pixels:
        found, image = self._capture.retrieve()
        if not found or image is None:
            raise damaged(self._path)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def close(self) -> None:
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _nothing_readable(self) -> MediaError:
        if not self._path.exists():
            return gone(self._path)
        return MediaError(
            f"{display_name(self._path)} has no pictures that can be read: it is damaged, "
            "incomplete or sound only. Choose another copy."
        )


class AnimationReader:
    """Reads animated GIF, PNG and WebP through Pillow, over white."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._image = open_picture(path)
        self._next = 0
        self._next_time_ms = 0.0
        self.rate = 0.0
        try:
            self.frame_count = int(getattr(self._image, "n_frames", 1))
        except Exception as error:  # decoders fail on bad data in every way there is
            self.close()
            raise damaged(path) from error
        self.width, self.height = self._image.size
        if self.frame_count < 2:
            self.close()
            raise MediaError(
                f"{display_name(path)} is a picture, not a clip. Attach it as a picture."
            )

    def grab(self) -> float | None:
        if self._next >= self.frame_count:
            return None
        try:
            self._image.seek(self._next)
            self._image.load()
        except EOFError:
            return None
        except Exception as error:  # as above
            raise damaged(self._path) from error
        self._next += 1
        time_ms = self._next_time_ms
        delay_ms = float(self._image.info.get("duration") or 0)
        if delay_ms <= _SHORTEST_DELAY_MS:
            delay_ms = _USUAL_DELAY_MS
        self._next_time_ms += delay_ms
        return time_ms / 1000

    def frame(self) -> Pixels:
        return np.array(to_rgb(self._image), dtype=np.uint8)

    def close(self) -> None:
        self._image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def _quieten_opencv() -> None:
    """Decoders report every bad byte to the terminal; the person gets one sentence instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
