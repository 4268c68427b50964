"""Reads one attached file as the engine will: what it is, what it costs, what it looks like.

Runs on pool threads and brings in the decoders, half a second of imports: import it there. No
widget, no MLX, no state beyond the processor it is given; arrays stay inside.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PySide6.QtGui import QImage

from app.conversation.message import Attachment
from app.inference.inspection import FileStamp, Inspection, counted, stamp_of
from mlx_model.errors import FiresideError
from mlx_model.library.found import models_at
from mlx_model.media import load_image, media_kind, probe_image, probe_video, sample_video
from mlx_model.messages import ReplySettings
from mlx_model.processor import Processor

_Pixels = npt.NDArray[np.uint8]

_log = logging.getLogger("fireside.inspection")

# Enough for a picture across the transcript on a screen with two pixels a point.
_THUMBNAIL_EDGE = 720
_FILMSTRIP_EDGE = 240
_ONE_OF_SEVERAL = "first frame only"
_ENDS_EARLY = "ends early"
_FILMSTRIP_FRAMES = 10
# The fewest and the most frames of a clip while no model says otherwise.
_WITHOUT_MODEL = (4, 768)


def inspect_file(
    path: Path,
    name: str,
    processor: Callable[[], Processor | None],
    settings: ReplySettings,
    cancel: threading.Event,
) -> Inspection:
    """Read the file as the engine will; what goes wrong becomes a problem sentence."""
    attachment = Attachment(path, "image", name)
    stamp = stamp_of(path)
    try:
        attachment = replace(attachment, kind=media_kind(path))
        if attachment.kind == "video":
            return _inspect_clip(attachment, stamp, processor(), settings, cancel)
        return _inspect_picture(attachment, stamp, processor(), settings)
    except FiresideError as error:
        problem = str(error)
    except MemoryError:
        problem = f"“{name}” is too large to open in the memory that is free. Make it smaller."
    except Exception:  # noqa: BLE001 - a decoder may raise anything, and the chip must say so
        if not cancel.is_set():
            _log.exception("unexpected error while reading %s", path)
        problem = f"“{name}” could not be read. Try to save it again as JPEG, PNG or MP4."
    return Inspection(replace(attachment, problem=problem), stamp, is_model=_is_about_a_model(path))


def _is_about_a_model(path: Path) -> bool:
    """Whether a path that is no medium is a model of whatever kind, part of one, or holds some."""
    names = [file.name for file in path.glob("*")] if path.is_dir() else [path.name]
    return any(
        name in ("config.json", "adapter_config.json") or name.endswith((".safetensors", ".gguf"))
        for name in names
    ) or models_at(path) != (path,)


def _inspect_picture(
    attachment: Attachment,
    stamp: FileStamp | None,
    processor: Processor | None,
    settings: ReplySettings,
) -> Inspection:
    frames = probe_image(attachment.path).frame_count
    pixels = load_image(attachment.path)
    height, width = pixels.shape[:2]
    remark = _ONE_OF_SEVERAL if frames > 1 else ""
    found = replace(attachment, width=width, height=height, remark=remark)
    found = counted(found, processor, settings.max_image_tokens)
    return Inspection(found, stamp, _image(_shrunk(pixels, _THUMBNAIL_EDGE)))


def _inspect_clip(
    attachment: Attachment,
    stamp: FileStamp | None,
    processor: Processor | None,
    settings: ReplySettings,
    cancel: threading.Event,
) -> Inspection:
    info = probe_video(attachment.path, cancel)
    # The same walk through the clip as the engine's, so that the count is the true one.
    fewest, most = _WITHOUT_MODEL
    if processor is not None:
        fewest, most = processor.frame_range(settings.max_frames)
    sampled = sample_video(
        attachment.path,
        fps=settings.video_fps,
        min_frames=fewest,
        max_frames=most,
        cancel=cancel,
        prepare_frame=_shrink_frame,
    )
    frame_count = len(sampled.frames)
    chosen = np.linspace(0, frame_count - 1, min(frame_count, _FILMSTRIP_FRAMES)).round()
    strip = tuple(_image(sampled.frames[int(index)]) for index in chosen)
    found = replace(
        attachment,
        width=sampled.width,
        height=sampled.height,
        duration_s=sampled.times_s[-1] if sampled.ended_early else info.duration_s,
        frame_count=frame_count,
        remark=_ENDS_EARLY if sampled.ended_early else "",
    )
    found = counted(found, processor, settings.max_image_tokens)
    return Inspection(found, stamp, strip[0], strip)


def _shrink_frame(frame: _Pixels, frame_count: int) -> _Pixels:
    return _shrunk(frame, _FILMSTRIP_EDGE)


def _shrunk(pixels: _Pixels, edge: int) -> _Pixels:
    """At most `edge` pixels a side. Pillow shrinks without holding the interpreter's lock."""
    small = Image.fromarray(pixels)
    small.thumbnail((edge, edge), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(small, dtype=np.uint8)


def _image(pixels: _Pixels) -> QImage:
    """A picture with memory of its own."""
    height, width = pixels.shape[:2]
    data = pixels.tobytes()
    return QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
