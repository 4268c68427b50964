"""What a person has chosen and finds again at the next start: one small file beside their data.

Lives in the GUI thread. Owns the names of the settings; what they mean is others' business.
"""

import json
from pathlib import Path

from PySide6.QtCore import QSettings

_MODEL = "models/answering"
_FOLDERS = "models/folders"
_WAYS = "models/ways"
_UNFINISHED = "models/unfinished"


class Preferences:
    """Settings with their types. A value that cannot be read counts as none.

    Paths are folders with a model; keys are those of the models of the library.
    """

    def __init__(self, folder: Path) -> None:
        self._settings = QSettings(str(folder / "settings.ini"), QSettings.Format.IniFormat)

    @property
    def model_folder(self) -> Path | None:
        """Where the model is that was chosen last; None for the one that comes with the program."""
        text = self._settings.value(_MODEL, "", str)
        return Path(str(text)) if text else None

    @model_folder.setter
    def model_folder(self, folder: Path | None) -> None:
        self._settings.setValue(_MODEL, "" if folder is None else str(folder))

    @property
    def added_folders(self) -> list[Path]:
        """Folders that were pointed at or dropped, in that order."""
        kept = self._json(_FOLDERS)
        return [Path(str(each)) for each in kept] if isinstance(kept, list) else []

    @added_folders.setter
    def added_folders(self, folders: list[Path]) -> None:
        self._keep(_FOLDERS, [str(folder) for folder in folders])

    @property
    def ways(self) -> dict[str, str]:
        """How each model is to be got, where that was chosen."""
        return self._texts(_WAYS)

    @ways.setter
    def ways(self, ways: dict[str, str]) -> None:
        self._keep(_WAYS, ways)

    @property
    def unfinished(self) -> dict[str, str]:
        """The models that are being downloaded or paused, and how each is got."""
        return self._texts(_UNFINISHED)

    @unfinished.setter
    def unfinished(self, ways: dict[str, str]) -> None:
        self._keep(_UNFINISHED, ways)

    def _texts(self, name: str) -> dict[str, str]:
        kept = self._json(name)
        if not isinstance(kept, dict):
            return {}
        return {str(key): str(value) for key, value in kept.items()}

    def _json(self, name: str) -> object:
        try:
            return json.loads(str(self._settings.value(name, "null", str)))
        except ValueError:
            return None

    def _keep(self, name: str, value: object) -> None:
        self._settings.setValue(name, json.dumps(value))
        self._settings.sync()
