"""Qwen3.5 on MLX: load a checkpoint, give it text, pictures and clips, get an answer.

A library without any window: `app` uses it, it never uses `app`. The names below are the public
ones; whatever needs mlx is imported when it is first asked for, so that importing this package is
cheap and does not decide on which thread mlx is loaded.

Axis letters in all docstrings and shape comments:
    B batch (always 1), T tokens, P patches, H heads, K key/value heads, D width of a head,
    C channels; grids are (t, h, w): frame groups, rows and columns of patches.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mlx_model.cpu_blas import prefer_openblas
from mlx_model.errors import (
    CheckpointError,
    FiresideError,
    MediaError,
    PromptError,
    SelfCheckError,
    TooLargeError,
)
from mlx_model.events import (
    Event,
    Finished,
    FinishReason,
    Notice,
    Progress,
    ReplyStats,
    TextDelta,
    ThinkingDelta,
)
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)

if TYPE_CHECKING:
    from mlx_model.engine import Engine
    from mlx_model.limits import MachineLimits
    from mlx_model.media import (
        ImageInfo,
        SampledVideo,
        VideoInfo,
        load_image,
        media_kind,
        planned_frames,
        probe_image,
        probe_video,
        sample_video,
    )
    from mlx_model.opening import Opened, open_engine
    from mlx_model.processor import Processor, load_processor
    from mlx_model.weights import LoadCancelledError, load_model

_MODULE_OF = {
    "Engine": "engine",
    "ImageInfo": "media",
    "LoadCancelledError": "weights",
    "MachineLimits": "limits",
    "Opened": "opening",
    "Processor": "processor",
    "SampledVideo": "media",
    "VideoInfo": "media",
    "load_image": "media",
    "load_model": "weights",
    "load_processor": "processor",
    "media_kind": "media",
    "open_engine": "opening",
    "planned_frames": "media",
    "probe_image": "media",
    "probe_video": "media",
    "sample_video": "media",
}

__all__ = [
    "CheckpointError",
    "Engine",
    "Event",
    "FinishReason",
    "Finished",
    "FiresideError",
    "ImageInfo",
    "ImagePart",
    "LoadCancelledError",
    "MachineLimits",
    "MediaError",
    "Message",
    "Notice",
    "Opened",
    "Part",
    "Processor",
    "Progress",
    "PromptError",
    "ReplyRequest",
    "ReplySettings",
    "ReplyStats",
    "SampledVideo",
    "SelfCheckError",
    "TextDelta",
    "TextPart",
    "ThinkingDelta",
    "TooLargeError",
    "VideoInfo",
    "VideoPart",
    "load_image",
    "load_model",
    "load_processor",
    "media_kind",
    "open_engine",
    "planned_frames",
    "probe_image",
    "probe_video",
    "sample_video",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mlx_model' has no attribute {name!r}")
    # Most of these modules import mlx, after which it is too late.
    prefer_openblas()
    value = getattr(importlib.import_module(f"mlx_model.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
