"""What is known of pictures and clips by what they hold, wherever and whenever they are shown.

Owns what a content digest consists of. A digest covers a file's bytes and everything that decides
which pixels the model sees of them; it says nothing of names and places.
"""

import hashlib
from collections.abc import Callable

import mlx.core as mx

from mlx_model.messages import ImagePart, MediaSettings, VideoPart
from mlx_model.processor import Processor
from mlx_model.state.file_digest import FileDigest, FileDigests
from mlx_model.state.recent_store import RecentStore
from mlx_model.state.sight import Sight

_MOST_SIGHTS = 4096
_MOST_UNSAVED = 256


class MediaMemory:
    """What was found out about media, and the embeddings of the latest.

    Attributes:
        files: the hashes of files.
        sights: sizes, times and the like, by content digest.
        features: embeddings [tokens, hidden], by content digest.
        unsaved: the sights that are not on the disk yet, if any ever will be.
        recall: finds a sight that another run of the program has left behind.
    """

    def __init__(self, feature_bytes: int) -> None:
        """`feature_bytes` bounds the embeddings."""
        self.files = FileDigests()
        self.sights: RecentStore[bytes, Sight] = RecentStore(_MOST_SIGHTS)
        self.features: RecentStore[bytes, mx.array] = RecentStore(feature_bytes, _nbytes)
        self.unsaved: RecentStore[bytes, Sight] = RecentStore(_MOST_UNSAVED)
        self.recall: Callable[[bytes], Sight | None] = lambda _digest: None

    def sight(self, digest: bytes) -> Sight | None:
        """What is known of a picture or clip."""
        known = self.sights.get(digest)
        if known is None:
            known = self.recall(digest)
            if known is not None:
                self.sights.put(digest, known)
        return known

    def keep(self, digest: bytes, sight: Sight) -> None:
        """A picture or clip has been looked at."""
        self.sights.put(digest, sight)
        self.unsaved.put(digest, sight)

    def clear(self) -> None:
        """Forget everything."""
        self.files = FileDigests()
        self.sights.clear()
        self.unsaved.clear()
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
