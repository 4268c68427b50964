"""Where LM Studio keeps models on this machine; it is only ever read."""

from pathlib import Path

from mlx_model.json_file import read_json

# In the account's home: the file that names LM Studio's own folder, and where that is otherwise.
_POINTER = ".lmstudio-home-pointer"
_HOMES = (".lmstudio", ".cache/lm-studio")
_SETTINGS = "settings.json"
_CHOSEN_FOLDER = "downloadsFolder"


def lm_studio_folders(home: Path) -> list[Path]:
    """The folders with publisher/model below, whether or not they are there."""
    studios = [home / name for name in _HOMES]
    try:
        pointed = (home / _POINTER).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        pointed = ""
    if pointed:
        studios.insert(0, Path(pointed))
    folders: list[Path] = []
    for studio in studios:
        folders += [*_chosen(studio), studio / "models"]
    return list(dict.fromkeys(folders))


def _chosen(studio: Path) -> list[Path]:
    """The folder that a person has chosen in LM Studio, if any."""
    try:
        chosen = read_json(studio / _SETTINGS)[_CHOSEN_FOLDER]
        return [Path(chosen).expanduser()]
    except (OSError, ValueError, LookupError, TypeError):
        return []
