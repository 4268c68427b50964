"""What is known of pictures and clips by what they hold, wherever and whenever they are shown.

Owns what a content digest consists of. A digest covers a file's bytes and everything that decides
which pixels the model sees of them; it says nothing of names and places.
"""

import hashlib

import mlx.core as mx

from mlx_model.messages import ImagePart, MediaSettings, VideoPart
from mlx_model.processor import Processor
from mlx_model.state.file_digest import FileDigest, FileDigests
from mlx_model.state.recent_store import RecentStore
from mlx_model.state.sight import Sight

_MOST_SIGHTS = 4096


class MediaMemory:
    """What was found out about media, and the embeddings of the latest.

    Attributes:
        files: the hashes of files.
        sights: sizes, times and the like, by content digest.
        features: embeddings [tokens, hidden], by content digest.
    """

    def __init__(self, feature_bytes: int) -> None:
        """`feature_bytes` bounds the embeddings."""
        self.files = FileDigests()
        self.sights: RecentStore[bytes, Sight] = RecentStore(_MOST_SIGHTS)
        self.features: RecentStore[bytes, mx.array] = RecentStore(feature_bytes, _nbytes)

    def clear(self) -> None:
        """Forget everything."""
        self.files = FileDigests()
        self.sights.clear()
        self.features.clear()


def content_digest(
    part: ImagePart | VideoPart, file: FileDigest, settings: MediaSettings, processor: Processor
) -> bytes:
    """Equal for two parts of conversations only if the model sees the same of both."""
    if isinstance(part, ImagePart):
        seen = repr(("image", processor.picture_settings, settings))
    else:
        chosen = (part.start_s, part.end_s, part.fps)
        seen = repr(("video", processor.clip_settings, settings, chosen))
    return hashlib.sha256(file.sha256 + seen.encode()).digest()


def _nbytes(features: mx.array) -> int:
    return features.nbytes
