"""Deletes a downloaded or converted model, and tells first what that frees.

Only in the hub's cache and in our own folder; what LM Studio or the person keeps is theirs.
"""

import os
import shutil
import uuid
from pathlib import Path

from mlx_model.errors import FiresideError
from mlx_model.library.found import REPOSITORY_PREFIX, FoundModel


class RemovalError(FiresideError):
    """A model that cannot be deleted; says why."""


def freed_bytes(model: FoundModel) -> int:
    """The space that deleting `model` gives back."""
    return sum(_disk_bytes(model).values())


def delete_model(model: FoundModel) -> int:
    """Delete `model` and return the bytes freed; RemovalError if it is not ours to delete."""
    folder = _whole(model)
    freed = freed_bytes(model)
    # Out of sight in one step: half a model is never found.
    doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
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
    if model.source == "own":
        return model.folder
    repository = model.folder.parent.parent
    if model.source != "hub" or not repository.name.startswith(REPOSITORY_PREFIX):
        raise RemovalError(
            f"{model.name} belongs to another program or was put there by you. "
            f"Delete {model.folder} there."
        )
    return repository


def _disk_bytes(model: FoundModel) -> dict[int, int]:
    """Bytes of each file that goes, by its number on the disk: links do not count twice."""
    sizes: dict[int, int] = {}
    for base, _, names in os.walk(_whole(model)):
        for name in names:
            status = (Path(base) / name).lstat()
            sizes[status.st_ino] = status.st_size
    return sizes
