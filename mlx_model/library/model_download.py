"""Gets a model of the catalogue ready for use: downloads it, and converts it if it came raw."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from mlx_model.byte_sizes import size_text
from mlx_model.errors import DownloadError
from mlx_model.library.catalogue import CatalogueModel
from mlx_model.library.conversion import convert_apart
from mlx_model.library.download_events import DownloadEvent, DownloadFinished
from mlx_model.library.hub import Hub, download_repository
from mlx_model.library.hub_cache import existing
from mlx_model.library.own_models import own_models_folder
from mlx_model.library.persistence import AbsentError


def get_model(
    model: CatalogueModel,
    hub: Hub,
    stop: threading.Event,
    ready: bool = False,
    own_folder: Path | None = None,
) -> Iterator[DownloadEvent]:
    """Download `model`, or the rest of it, and make it loadable; the last event has its folder.

    Raw, it is converted to 4 bits into `own_folder`; `ready` takes what others have converted as
    it is. Raises FiresideError: a sentence that says what to do. Stop and go on as with
    `download_repository`; a conversion that was stopped starts anew.
    """
    if ready:
        yield from _first_there(model.ready_repositories, hub, stop)
        return
    target = converted_folder(model, own_folder)
    if (target / "config.json").exists():
        yield DownloadFinished(target)
        return
    downloaded: Path | None = None
    room = _room_beside(model, hub, target)
    for event in download_repository(
        model.raw_repository, hub, stop, extra_bytes=room, otherwise=_ready_instead(model)
    ):
        if isinstance(event, DownloadFinished):
            downloaded = event.folder
        else:
            yield event
    if downloaded is None:
        yield DownloadFinished(None)
    else:
        yield from convert_apart(downloaded, target, stop)


def converted_folder(model: CatalogueModel, own_folder: Path | None = None) -> Path:
    """Where our conversion of `model` is, once there is one."""
    return (own_folder or own_models_folder()) / model.converted_name


def _first_there(
    repositories: tuple[str, ...], hub: Hub, stop: threading.Event
) -> Iterator[DownloadEvent]:
    for repository in repositories[:-1]:
        try:
            yield from download_repository(repository, hub, stop)
        except AbsentError:
            continue
        return
    yield from download_repository(repositories[-1], hub, stop)


def _room_beside(model: CatalogueModel, hub: Hub, target: Path) -> int:
    """What the conversion needs on the disk of the download; its own disk is looked at here."""
    cache, own = (existing(path) for path in (hub.cache_folder, target))
    needed = model.converted.size_bytes
    if cache.stat().st_dev == own.stat().st_dev:
        return needed
    free = shutil.disk_usage(own).free
    if free < needed:
        raise DownloadError(
            f"{model.name} at 4 bits needs {size_text(needed)}, and the disk with {own} has "
            f"{size_text(free)} free. Free {size_text(needed - free)}, or {_ready_instead(model)}."
        )
    return 0


def _ready_instead(model: CatalogueModel) -> str:
    return f"take the ready-made one, which needs {size_text(model.ready.size_bytes)} in all"
