"""Where models are looked for and put, and the work on them that takes time.

Everything here is for threads other than the window's: it reads disks, asks the keychain and the
network. Knows no Qt.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.inference.download_worker import FetchJob
from mlx_model import (
    CATALOGUE,
    CatalogueModel,
    DownloadError,
    DownloadEvent,
    catalogue_model,
)

if TYPE_CHECKING:
    from mlx_model import FoundModel, Hub, Patience


@dataclass(frozen=True, slots=True)
class LibraryPlaces:
    """None is what the environment and the account say; tests give places of their own."""

    endpoint: str | None = None
    patience: "Patience | None" = None
    cache: Path | None = None
    own_folder: Path | None = None
    home: Path | None = None
    catalogue: tuple[CatalogueModel, ...] = CATALOGUE

    def fetch(self, job: FetchJob) -> Iterator[DownloadEvent]:
        """Get the model of the catalogue that a job names.

        A token that is not accepted is not kept, so that the next try goes without it.
        """
        from mlx_model import find_access_token, get_model

        token = job.token or find_access_token()
        model = catalogue_model(job.key)
        try:
            yield from get_model(
                model, self.hub(token), job.stop, job.way == "ready", self.own_folder
            )
        except DownloadError as error:
            if token is not None and error.token_helps:
                _forget(token)
            raise

    def hub(self, token: str | None = None) -> "Hub":
        """The hub, as somebody with `token`."""
        from mlx_model import Hub, Patience

        return Hub(self.endpoint, token, self.cache, self.patience or Patience())

    def find(self, folders: Sequence[Path]) -> "tuple[FoundModel, ...]":
        """Every model on this machine, those in `folders` among them."""
        from mlx_model import find_models

        return tuple(find_models(self.cache, self.own_folder, self.home, folders))

    def models_at(self, folder: Path) -> tuple[Path, ...]:
        """The folders of the models that somebody who points at `folder` may mean."""
        from mlx_model import models_at

        return models_at(folder)

    def size_bytes(self, folder: Path) -> int:
        """What the model in `folder` takes on the disk."""
        from mlx_model import look_at

        return look_at(folder).size_bytes

    def arrived_bytes(self, key: str, way: str) -> int:
        """What an unfinished download has left on the disk."""
        from mlx_model import unfinished_bytes

        hub = self.hub()
        return sum(unfinished_bytes(repository, hub) for repository in repositories(key, way))

    def discard(self, key: str, way: str) -> None:
        """Delete what an unfinished download has left on the disk."""
        from mlx_model import discard_download

        hub = self.hub()
        for repository in repositories(key, way):
            discard_download(repository, hub)


def _forget(token: str) -> None:
    from mlx_model import KeychainError, forget_access_token

    with suppress(KeychainError):
        forget_access_token(token)


def repositories(key: str, way: str) -> tuple[str, ...]:
    """Where a model of the catalogue comes from."""
    model = catalogue_model(key)
    return model.ready_repositories if way == "ready" else (model.raw_repository,)


def chip_name() -> str:
    """Such as "M1"; empty where nobody says it in a word."""
    if sys.platform != "darwin":
        return ""
    try:
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.strip().removeprefix("Apple ")
