"""Deletes a downloaded or converted model, and tells first what that frees.

Only in the hub's cache and in our own folder; what LM Studio or the person keeps is theirs.
"""

import os
import shutil
import uuid
from pathlib import Path

from mlx_model.errors import FiresideError
from mlx_model.library.found import REPOSITORY_PREFIX, FoundModel

# The end of the name of what is being deleted.
_DOOMED = ".fireside-deleted"


class RemovalError(FiresideError):
    """A model that cannot be deleted; says why."""


def freed_bytes(model: FoundModel) -> int:
    """The space that deleting `model` gives back."""
    return sum(_disk_bytes(model).values())


def delete_model(model: FoundModel) -> int:
    """Delete `model` and return the bytes freed; RemovalError if it is not ours to delete."""
    folder = _whole(model)
    freed = freed_bytes(model)
    for left in folder.parent.glob(f".*{_DOOMED}"):  # by a program that was killed
        shutil.rmtree(left, ignore_errors=True)
    # Out of sight in one step: half a model is never found.
    doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_DOOMED}")
    try:
        folder.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise RemovalError(
            f"{model.name} could not be deleted ({error.strerror or error}). "
            f"Delete {folder} yourself."
        ) from error
    return freed


def _whole(model: FoundModel) -> Path:
    """All that goes with a model: of the hub's cache, the repository with every snapshot."""
    folder = model.folder if model.source == "own" else model.folder.parent.parent
    ours = model.source == "own" or folder.name.startswith(REPOSITORY_PREFIX)
    if not model.may_be_deleted or not ours:
        raise RemovalError(
            f"{model.name} belongs to another program or was put there by you. "
            f"Delete {model.folder} there."
        )
    if folder.is_symlink():
        raise RemovalError(
            f"{model.name} is a link to {folder.resolve()}, which you made. "
            f"Delete that folder, and {folder}."
        )
    return folder


def _disk_bytes(model: FoundModel) -> dict[int, int]:
    """Bytes of each file that goes, by its number on the disk: links do not count twice."""
    sizes: dict[int, int] = {}
    for base, _, names in os.walk(_whole(model)):
        for name in names:
            status = (Path(base) / name).lstat()
            sizes[status.st_ino] = status.st_size
    return sizes
