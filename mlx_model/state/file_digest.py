"""The hash of a file's bytes, remembered for as long as the file stays as it is.

Reads files and nothing else, so it may run on any thread, one at a time.
"""

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mlx_model.media import MediaCancelledError
from mlx_model.media_file import damaged, gone
from mlx_model.state.recent_store import RecentStore

_PIECE_BYTES = 1 << 20
_MOST_FILES = 4096
# Clocks of file systems tick, some only every second or two: a file that was written so recently
# may be written again without looking any different.
_SETTLED_NS = 3 * 10**9


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes when a file is written again or replaced."""

    size: int
    mtime_ns: int
    inode: int

    @staticmethod
    def of(path: Path) -> "FileStamp":
        """As it is now; MediaError when it is not there."""
        try:
            found = path.stat()
        except OSError as error:
            raise gone(path) from error
        return FileStamp(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a file held, and its stamp at that time."""

    sha256: bytes
    stamp: FileStamp


class FileDigests:
    """Hashes files once each."""

    def __init__(self) -> None:
        self._known: RecentStore[Path, FileDigest] = RecentStore(_MOST_FILES)

    def digest(self, path: Path, cancel: threading.Event) -> FileDigest:
        """Raises MediaError for a file that cannot be read, MediaCancelledError once cancelled."""
        file = path.absolute()
        stamp = FileStamp.of(file)
        known = self._known.get(file)
        if known is not None and known.stamp == stamp:
            return known
        found = FileDigest(_sha256(file, cancel), stamp)
        if time.time_ns() - stamp.mtime_ns > _SETTLED_NS:
            self._known.put(file, found)
        return found


def _sha256(file: Path, cancel: threading.Event) -> bytes:
    found = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as source:
            while piece := source.read(_PIECE_BYTES):
                if cancel.is_set():
                    raise MediaCancelledError
                found.update(piece)
    except OSError as error:
        raise damaged(file) from error
    return found.digest()
