"""Pictures and clips from disk as plain pixels: the public face of the decoding modules.

Every failure is a MediaError whose sentence names the file.
"""

from pathlib import Path
from typing import Literal

from mlx_model.clips import (
    MediaCancelledError,
    SampledVideo,
    VideoInfo,
    planned_frames,
    probe_video,
    sample_video,
)
from mlx_model.media_file import read_head, sniff, unknown
from mlx_model.stills import ImageInfo, load_image, probe_image

__all__ = [
    "ImageInfo",
    "MediaCancelledError",
    "SampledVideo",
    "VideoInfo",
    "load_image",
    "media_kind",
    "planned_frames",
    "probe_image",
    "probe_video",
    "sample_video",
]


def media_kind(path: str | Path) -> Literal["image", "video"]:
    """Whether a file is a picture or a clip, by what it holds; animations count as clips.

    Raises MediaError for files that are neither.
    """
    file = Path(path)
    kind = sniff(read_head(file))
    if kind == "unknown":
        raise unknown(file, frozenset(), "picture or clip", "PNG, JPEG, HEIC, MP4 or MOV")
    if kind == "animation":
        return "video" if probe_image(file).frame_count > 1 else "image"
    return "video" if kind == "clip" else "image"
