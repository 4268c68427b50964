"""A folder that appears whole or not at all, whatever happens to the program that fills it.

It is filled under a hidden name, forced onto the disk, and then renamed. Whoever fills one holds a
lock on it, which ends with the process: what is left unlocked is left behind by a program that was
killed, and the next one removes it. Knows nothing of what the folder holds.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_model.errors import CheckpointError

_SUFFIX = ".fireside-partial"


@contextmanager
def whole_folder(target: Path, last: str) -> Iterator[Path]:
    """A new folder to fill with files, which becomes `target` when the block ends well.

    `target` may be an empty folder; as it may be a disk, a link or where a shell stands, it is not
    replaced then: the finished files move into it, and the one called `last` comes last. Raises
    CheckpointError if `target` is in use, OSError as the disk does.
    """
    target = target.resolve()
    inside = _is_empty_folder(target)
    parent = target if inside else target.parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    partial = parent / f".{target.name}{_SUFFIX}"
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise CheckpointError(
            f"Another conversion to {target} seems to be at work in {partial}. "
            "Wait for its end, or delete that folder."
        ) from error
    lock = os.open(partial, os.O_RDONLY)
    try:
        _try_lock(lock)
        yield partial
        for file in partial.iterdir():
            _force_to_disk(file)
        _force_to_disk(partial)
        if inside:
            for file in sorted(partial.iterdir(), key=lambda file: file.name == last):
                file.replace(target / file.name)
        else:
            partial.replace(target)
        _force_to_disk(parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def _is_empty_folder(target: Path) -> bool:
    """False if there is nothing at `target`; CheckpointError if there is anything else."""
    if not target.exists():
        return False
    if not target.is_dir() or any(not file.name.endswith(_SUFFIX) for file in target.iterdir()):
        raise CheckpointError(
            f"{target} exists and is not an empty folder. Choose another place for the model."
        )
    return True


def remove_leftovers(parent: Path) -> None:
    """Delete what programs that were killed have left in `parent`."""
    for leftover in parent.glob(f".*{_SUFFIX}"):
        try:
            lock = os.open(leftover, os.O_RDONLY)
        except OSError:
            continue  # just finished, or not ours to open
        try:
            if _try_lock(lock):
                shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(lock)


def _try_lock(folder: int) -> bool:
    """Whether nobody else holds the folder; False as well where the file system has no locks."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
