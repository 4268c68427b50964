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
    DownloadError,
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
    Prepared,
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
    from mlx_model.library.access_token import (
        KeychainError,
        find_access_token,
        forget_access_token,
        keep_access_token,
    )
    from mlx_model.library.catalogue import (
        CATALOGUE,
        CatalogueModel,
        StoredWeights,
        catalogue_model,
    )
    from mlx_model.library.conversion import ConversionError
    from mlx_model.library.download_events import (
        DownloadEvent,
        DownloadFinished,
        DownloadProgress,
        DownloadTrouble,
    )
    from mlx_model.library.fit import Fit, check_fit
    from mlx_model.library.found import FoundModel, find_models, look_at, models_at
    from mlx_model.library.hub import Hub, discard_download, download_repository, unfinished_bytes
    from mlx_model.library.memory_needs import MemoryNeeds
    from mlx_model.library.model_download import converted_folder, get_model
    from mlx_model.library.persistence import Patience
    from mlx_model.library.removal import RemovalError, delete_model, freed_bytes
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
    "CATALOGUE": "library.catalogue",
    "CatalogueModel": "library.catalogue",
    "ConversionError": "library.conversion",
    "DownloadEvent": "library.download_events",
    "DownloadFinished": "library.download_events",
    "DownloadProgress": "library.download_events",
    "DownloadTrouble": "library.download_events",
    "Engine": "engine",
    "Fit": "library.fit",
    "FoundModel": "library.found",
    "Hub": "library.hub",
    "ImageInfo": "media",
    "KeychainError": "library.access_token",
    "LoadCancelledError": "weights",
    "MachineLimits": "limits",
    "MemoryNeeds": "library.memory_needs",
    "Opened": "opening",
    "Patience": "library.persistence",
    "Processor": "processor",
    "RemovalError": "library.removal",
    "SampledVideo": "media",
    "StoredWeights": "library.catalogue",
    "VideoInfo": "media",
    "catalogue_model": "library.catalogue",
    "check_fit": "library.fit",
    "converted_folder": "library.model_download",
    "delete_model": "library.removal",
    "discard_download": "library.hub",
    "download_repository": "library.hub",
    "find_access_token": "library.access_token",
    "find_models": "library.found",
    "forget_access_token": "library.access_token",
    "freed_bytes": "library.removal",
    "get_model": "library.model_download",
    "keep_access_token": "library.access_token",
    "load_image": "media",
    "load_model": "weights",
    "load_processor": "processor",
    "look_at": "library.found",
    "media_kind": "media",
    "models_at": "library.found",
    "open_engine": "opening",
    "planned_frames": "media",
    "probe_image": "media",
    "probe_video": "media",
    "sample_video": "media",
    "unfinished_bytes": "library.hub",
}

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "CheckpointError",
    "ConversionError",
    "DownloadError",
    "DownloadEvent",
    "DownloadFinished",
    "DownloadProgress",
    "DownloadTrouble",
    "Engine",
    "Event",
    "FinishReason",
    "Finished",
    "FiresideError",
    "Fit",
    "FoundModel",
    "Hub",
    "ImageInfo",
    "ImagePart",
    "KeychainError",
    "LoadCancelledError",
    "MachineLimits",
    "MediaError",
    "MemoryNeeds",
    "Message",
    "Notice",
    "Opened",
    "Part",
    "Patience",
    "Prepared",
    "Processor",
    "Progress",
    "PromptError",
    "RemovalError",
    "ReplyRequest",
    "ReplySettings",
    "ReplyStats",
    "SampledVideo",
    "SelfCheckError",
    "StoredWeights",
    "TextDelta",
    "TextPart",
    "ThinkingDelta",
    "TooLargeError",
    "VideoInfo",
    "VideoPart",
    "catalogue_model",
    "check_fit",
    "converted_folder",
    "delete_model",
    "discard_download",
    "download_repository",
    "find_access_token",
    "find_models",
    "forget_access_token",
    "freed_bytes",
    "get_model",
    "keep_access_token",
    "load_image",
    "load_model",
    "load_processor",
    "look_at",
    "media_kind",
    "models_at",
    "open_engine",
    "planned_frames",
    "probe_image",
    "probe_video",
    "sample_video",
    "unfinished_bytes",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mlx_model' has no attribute {name!r}")
    # Most of these modules import mlx, after which it is too late.
    prefer_openblas()
    value = getattr(importlib.import_module(f"mlx_model.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
