"""The models that are on this machine already, wherever they came from; nothing is copied.

Looks at configs and at the headers of weights, never at the weights themselves.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_model.config import load_config
from mlx_model.errors import CheckpointError, IncompleteError
from mlx_model.json_file import read_json
from mlx_model.library.hub_cache import default_cache
from mlx_model.library.lm_studio import lm_studio_folders
from mlx_model.library.memory_needs import MemoryNeeds, memory_needs
from mlx_model.library.own_models import own_models_folder
from mlx_model.tensor_files import find_tensors
from mlx_model.weight_sizes import bits_a_weight, size_bytes, weight_groups

# hub: the cache that huggingface-hub keeps; own: what we have converted; folder: pointed at.
Source = Literal["hub", "own", "lm_studio", "folder"]

# Of a folder in the hub's cache.
REPOSITORY_PREFIX = "models--"
_FAMILY = "qwen3_5"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model.

    `problem` says why it cannot be used, and is None if, by config and headers, it can; `bits`
    and `needs` are None then too if they are not known. `quantised` is False for one as published.
    `is_ours` says whether it is of the family that this program runs, `is_whole` is False if
    something of it has not arrived.
    """

    name: str
    folder: Path
    source: Source
    size_bytes: int
    is_ours: bool
    problem: str | None
    bits: float | None = None
    quantised: bool = False
    needs: MemoryNeeds | None = None
    is_whole: bool = True

    @property
    def may_be_deleted(self) -> bool:
        """Whether it is in a place that is for downloads; what others keep is theirs."""
        return self.source in ("hub", "own")


def find_models(
    hub_cache: Path | None = None,
    own_folder: Path | None = None,
    home: Path | None = None,
    folders: Sequence[Path] = (),
) -> list[FoundModel]:
    """Every model in the hub's cache, our own folder, LM Studio's folders and at `folders`.

    Unfinished downloads are no models yet. A folder that is found twice counts once.
    """
    home = home or Path.home()
    places: list[tuple[Source, Iterable[tuple[str, Path]]]] = [
        ("own", _children(own_folder or own_models_folder())),
        ("hub", _snapshots(hub_cache or default_cache())),
    ]
    places += [("lm_studio", _lm_studio(folder)) for folder in lm_studio_folders(home)]
    places += [("folder", map(_named, models_at(folder))) for folder in folders]
    found: dict[Path, FoundModel] = {}
    for source, candidates in places:
        for name, folder in candidates:
            place = folder.resolve()
            if place not in found:
                found[place] = look_at(folder, source, name)
    return list(found.values())


def folder_named(name: str) -> Path | None:
    """The folder of the model that `find_models` calls `name`, one that can be used before others.

    None if there is none.
    """
    named = [model for model in find_models() if model.name == name]
    named.sort(key=lambda model: model.problem is not None)
    return named[0].folder if named else None


def models_at(folder: Path) -> tuple[Path, ...]:
    """The folders of the models that somebody who points at `folder` may mean.

    That is itself; or what is in it, where it holds models, or publishers' folders with models, or
    is one of a hub's cache, or a whole cache. Itself also where there is nothing.
    """
    if _has_config(folder):
        return (folder,)
    below = [*_cached(folder), *_snapshots(folder)] or [*_children(folder), *_lm_studio(folder)]
    return tuple(model for _, model in below) or (folder,)


def look_at(folder: Path, source: Source = "folder", name: str | None = None) -> FoundModel:
    """What is in a folder, and whether it can be used; never raises for what it holds."""
    name = name or folder.resolve().name
    is_ours = _is_ours(folder)
    try:
        config = load_config(folder)
        tensors = find_tensors(folder)
    except CheckpointError as error:
        whole = not isinstance(error, IncompleteError)
        size = _bytes_below(folder)
        return FoundModel(name, folder, source, size, is_ours, str(error), is_whole=whole)
    groups = weight_groups(tensors, config.quantization)
    draft_head = any(group.part == "draft head" for group in groups)
    return FoundModel(
        name,
        folder,
        source,
        _bytes_below(folder),
        is_ours,
        None,
        bits_a_weight(groups),
        config.quantization is not None,
        memory_needs(config.text, size_bytes(groups), draft_head=draft_head),
    )


def _is_ours(folder: Path) -> bool:
    try:
        kind = read_json(folder / "config.json")["model_type"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return isinstance(kind, str) and kind.startswith(_FAMILY)


def _snapshots(cache: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of the newest whole snapshot of each repository."""
    for repository in _folders(cache):
        yield from _cached(repository)


def _cached(repository: Path) -> Iterator[tuple[str, Path]]:
    """The same of one folder of a hub's cache; nothing of any other folder."""
    if repository.name.startswith(REPOSITORY_PREFIX):
        whole = [s for s in _folders(repository / "snapshots") if _has_config(s)]
        if whole:
            yield _repository_name(repository), _newest(repository, whole)


def _repository_name(repository: Path) -> str:
    return repository.name.removeprefix(REPOSITORY_PREFIX).replace("--", "/")


def _named(folder: Path) -> tuple[str, Path]:
    """A folder that somebody pointed at; in a hub's cache, its own name is a long number."""
    repository = folder.parent.parent
    is_cached = repository.name.startswith(REPOSITORY_PREFIX)
    return (_repository_name(repository) if is_cached else folder.name), folder


def _newest(repository: Path, snapshots: Sequence[Path]) -> Path:
    try:
        commit = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = ""
    named = (snapshot for snapshot in snapshots if snapshot.name == commit)
    return next(named, None) or max(snapshots, key=_changed_s)


def _changed_s(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # deleted while we look
        return 0.0


def _children(folder: Path) -> Iterator[tuple[str, Path]]:
    for child in _folders(folder):
        if _has_config(child):
            yield child.name, child


def _lm_studio(folder: Path) -> Iterator[tuple[str, Path]]:
    """LM Studio keeps publisher/model."""
    for publisher in _folders(folder):
        for name, model in _children(publisher):
            yield f"{publisher.name}/{name}", model


def _has_config(folder: Path) -> bool:
    """Whether there is one; a folder that may not be looked into has none."""
    # Path.exists raises where it may not look.
    return os.path.exists(folder / "config.json")


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out; none where it is not there or not ours."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _bytes_below(folder: Path) -> int:
    """The bytes of the files in a folder, those that links lead to included."""
    total = 0
    # All of it may be deleted while we look.
    with suppress(OSError):
        for file in folder.glob("*"):
            with suppress(OSError):
                total += file.stat().st_size if file.is_file() else 0
    return total
