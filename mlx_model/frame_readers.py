"""Decoders that walk through a clip frame by frame: OpenCV for films, Pillow for animations.

A reader passes over a frame with `grab`, which is cheap, and converts it only on `frame`. It
knows nothing of which frames are wanted.
"""

import functools
import io
import math
import os
from pathlib import Path
from typing import Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt

from mlx_model.errors import MediaError
from mlx_model.media_file import damaged, display_name, gone, read_head, sniff, unknown
from mlx_model.stills import open_picture, to_rgb

Pixels = npt.NDArray[np.uint8]

_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg",
    ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp", ".gif",
})  # fmt: skip
_MAX_RATE = 1000.0
# The largest cameras film 8192 x 4320 pixels; a decoder holds many frames at once.
_MOST_FRAME_PIXELS = 40_000_000
_MOST_DAMAGED_FRAMES = 8
_AV1 = "av01"
# Where a jump should land before its frame, whose time is known only up to rounding.
_RUN_UP = 2
_CLOSE_S = 0.002
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


class _Capture:
    """OpenCV's decoder, opened and closed in ways that it survives."""

    def __init__(self, path: Path, source: io.BufferedIOBase | None = None, *options: int) -> None:
        _quieten_opencv()
        self._own_source: io.BufferedIOBase | None = None
        name = str(path.absolute())
        if source is None and not _is_text(name):
            # OpenCV crashes on a name that is not text.
            try:
                source = self._own_source = path.open("rb")
            except OSError as error:
                raise gone(path) from error
        # An absolute path: a bare name such as "http:x" would be taken for an address. And a source
        # of Python's own, although OpenCV's types ask for one of OpenCV's.
        opened = source or name
        self._capture = cv2.VideoCapture(opened, cv2.CAP_FFMPEG, options)  # type: ignore[arg-type]

    def is_opened(self) -> bool:
        return self._capture.isOpened()

    def get(self, option: int) -> float:
        return float(self._capture.get(option))

    def time_s(self) -> float:
        """When the frame last stepped to is shown."""
        return max(0.0, self.get(cv2.CAP_PROP_POS_MSEC) / 1000)

    def grab(self) -> bool:
        return self._capture.grab()

    def go_to(self, time_s: float) -> None:
        """To a key frame at least some frames before that time, or further back."""
        self._capture.set(cv2.CAP_PROP_POS_MSEC, max(0.0, time_s) * 1000)

    def frame(self) -> Pixels | None:
        """The frame last stepped to, RGB; None where it cannot be had."""
        try:
            found, image = self._capture.retrieve()
            if not found or image is None:
                return None
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        except cv2.error:
            return None

    def close(self) -> None:
        # Not release(): OpenCV 5.0 lets go of a Python source there without the interpreter's lock.
        self._capture = cv2.VideoCapture()
        if self._own_source is not None:
            self._own_source.close()


class FilmReader:
    """Reads films through OpenCV, which turns them upright by their rotation mark."""

    def __init__(self, path: Path, source: io.BufferedIOBase | None = None) -> None:
        """Reads `source` instead of the file at `path` where it is given."""
        self._path = path
        self._capture = _Capture(path, source)
        if not self._capture.is_opened():
            self.close()
            raise self._nothing_readable()
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE else 0.0
        if self.width * self.height > _MOST_FRAME_PIXELS:
            self.close()
            raise _frames_too_large(path)
        if not self.width or not self.height:
            self.close()
            raise self._nothing_readable()

    def grab(self) -> float | None:
        # A damaged frame looks like the end of the clip; behind it the clip may go on.
        if not any(self._capture.grab() for _ in range(_MOST_DAMAGED_FRAMES)):
            return None
        return self._capture.time_s()

    def jump(self, time_s: float) -> float | None:
        """Step to the frame that is shown at `time_s`, or to the next one that is there.

        The file decides where a jump lands; its time tells whether it did as asked.
        """
        self._capture.go_to(time_s - _RUN_UP / (self.rate or 1))
        while (reached_s := self.grab()) is not None:
            if reached_s > time_s - _CLOSE_S:
                return reached_s
        return None

    def frame(self) -> Pixels:
        frame = self._capture.frame()
        if frame is None:
            raise damaged(self._path)
        return frame

    def close(self) -> None:
        self._capture.close()

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


class PacketReader:
    """Passes over a film's coded frames in the order in which they are stored, decoding none."""

    def __init__(self, path: Path) -> None:
        self._capture = _Capture(path, None, cv2.CAP_PROP_FORMAT, -1)

    @property
    def coding(self) -> str:
        """The four letters by which the container calls the way of coding."""
        letters = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(8, "little")[:4]
        return letters.decode("ascii", "replace")

    def grab(self) -> float | None:
        """When the next one is shown, in seconds; None at the end."""
        return self._capture.time_s() if self._capture.grab() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.close()


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
        self._check_size()
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
            self._check_size()  # a frame may be larger than those before it
            self._image.load()
        except MediaError:
            raise
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

    def _check_size(self) -> None:
        if self._image.width * self._image.height > _MOST_FRAME_PIXELS:
            self.close()
            raise _frames_too_large(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frames_too_large(path: Path) -> MediaError:
    return MediaError(
        f"The frames of {display_name(path)} have more than {_MOST_FRAME_PIXELS // 1_000_000} "
        "megapixels, which is more than Fireside reads. Make the clip smaller."
    )


def nothing_decoded(path: Path) -> MediaError:
    """The error for a clip of which no frame can be decoded."""
    if sniff(read_head(path)) == "clip":
        with PacketReader(path) as packets:
            if packets.grab() is not None and packets.coding.lower() == _AV1:
                return MediaError(
                    f"{display_name(path)} is coded as AV1, which cannot be decoded here. Convert "
                    "it to H.264 or HEVC."
                )
    return damaged(path)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _quieten_opencv() -> None:
    """Decoders report every bad byte to the terminal; the person gets one sentence instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
