"""The cache folder that huggingface-hub and others share: where a file's bytes and names go.

    models--Qwen--Qwen3.5-0.8B/blobs/<digest>              the bytes, under the hub's own hash
    models--Qwen--Qwen3.5-0.8B/blobs/<digest>.incomplete   what has arrived of them
    models--Qwen--Qwen3.5-0.8B/snapshots/<commit>/<name>   a link to a blob
    models--Qwen--Qwen3.5-0.8B/refs/main                   the commit
    .locks/models--Qwen--Qwen3.5-0.8B/<digest>.lock        who writes a blob holds this

huggingface-hub itself starts a file anew after every interruption; this is what it lacks. The
layout and the locks are its own, so that either may go on while the other works.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock

from mlx_model.library.hub_listing import CONFIG_NAME, HubFile

_BRANCH = "main"
_PARTIAL_SUFFIX = ".incomplete"
_LOCK_TRY_S = 0.2


def default_cache() -> Path:
    """The cache of this account, as HF_HUB_CACHE and HF_HOME say."""
    return Path(constants.HF_HUB_CACHE)


class HubCache:
    """The part of the cache below `root` that belongs to one repository."""

    def __init__(self, root: Path, repository: str) -> None:
        name = repo_folder_name(repo_id=repository, repo_type="model")
        self.root = root
        self.folder = root / name
        self._locks = root / ".locks" / name

    def blob(self, file: HubFile) -> Path:
        """Where the whole bytes go."""
        return self.folder / "blobs" / file.digest

    def partial(self, file: HubFile) -> Path:
        """Where bytes go as they arrive. Older versions of huggingface-hub go on from it too."""
        return self.folder / "blobs" / f"{file.digest}{_PARTIAL_SUFFIX}"

    def snapshot(self, commit: str) -> Path:
        """The folder with the files under their names."""
        return self.folder / "snapshots" / commit

    def held(self, file: HubFile, commit: str) -> Path | None:
        """The whole file, if something of its size is there; its bytes are not looked at."""
        # Where there are no links, the bytes stand under the name.
        for path in (self.blob(file), self.snapshot(commit) / file.name):
            if path.is_file() and path.stat().st_size == file.size_bytes:
                return path
        return None

    def arrived_bytes(self, file: HubFile, commit: str) -> int:
        """How much of a file is there."""
        if self.held(file, commit) is not None:
            return file.size_bytes
        return min(_size_bytes(self.partial(file)), file.size_bytes)

    @contextmanager
    def locked(self, file: HubFile) -> Iterator[bool]:
        """Whether nobody else writes the file now, nor will as long as the block lasts."""
        self._locks.mkdir(parents=True, exist_ok=True)
        self.blob(file).parent.mkdir(parents=True, exist_ok=True)
        # huggingface-hub adds a random part to the name of what it is downloading, after a dot.
        digest = file.digest.partition(".")[0]
        lock = WeakFileLock(self._locks / f"{digest}.lock", timeout=_LOCK_TRY_S)
        with ExitStack() as stack:
            try:
                stack.enter_context(lock)
                alone = True
            except Timeout:
                alone = False
            yield alone

    def publish(self, file: HubFile) -> None:
        """Make what has arrived the blob, once it is known to be right."""
        partial = self.partial(file)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(self.blob(file))

    def link(self, commit: str, files: Sequence[HubFile]) -> Path:
        """Give all blobs their names, the config's last, and return the folder with them."""
        snapshot = self.snapshot(commit)
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in sorted(files, key=lambda file: file.name == CONFIG_NAME):
            self._link(file, snapshot / file.name)
        reference = self.folder / "refs" / _BRANCH
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f".{_BRANCH}.{uuid.uuid4().hex}")
        fresh.write_text(commit, encoding="utf-8")
        fresh.replace(reference)
        return snapshot

    def _link(self, file: HubFile, name: Path) -> None:
        blob = self.blob(file)
        if not blob.is_file():
            # Where there are no links, the bytes have their name already.
            if not name.is_file():
                raise FileNotFoundError(errno.ENOENT, f"{name.name} was deleted meanwhile")
            return
        fresh = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
        try:
            fresh.symlink_to(os.path.relpath(blob, name.parent))
        except OSError:
            blob.replace(name)
        else:
            fresh.replace(name)

    def unnamed_blobs(self) -> list[Path]:
        """What unfinished downloads have left: parts of files, and whole ones that nothing names.

        Blobs get their names when all are there; beside a snapshot they may be anybody's.
        """
        blobs = sorted((self.folder / "blobs").glob("*"))
        if any((self.folder / "snapshots").glob("*/*")):
            return [blob for blob in blobs if blob.name.endswith(_PARTIAL_SUFFIX)]
        return blobs

    def unnamed_bytes(self) -> int:
        """What these take; they may become whole or go at any moment."""
        return sum(map(_size_bytes, self.unnamed_blobs()))

    def discard_unnamed(self) -> int:
        """Delete what unfinished downloads have left; returns the bytes that this frees."""
        freed = 0
        for blob in self.unnamed_blobs():
            digest = blob.name.removesuffix(_PARTIAL_SUFFIX)
            with self.locked(HubFile(blob.name, 0, digest)) as alone:
                if alone and blob.exists():
                    freed += blob.stat().st_size
                    blob.unlink()
        return freed

    def free_bytes(self) -> int:
        """The room on the disk that the cache is on."""
        return shutil.disk_usage(existing(self.root)).free


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def existing(path: Path) -> Path:
    """The nearest folder above that is there, or `path` itself."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
