"""What self-checks leave behind on the disk: which passed, and what the model said then.

One small file for each checkpoint and device. A record that is damaged or cannot be written counts
as none: the check is then made again. Knows nothing of how a model is checked.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_model.json_file import read_json

_FORMAT = 1
_FOLDER = "self-check"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model predicts for the fixed inputs of the check.

    `surprises` are the negated log-probabilities, in nats, of the words of the fixed chat;
    `likeliest` maps the ids of the likeliest tokens after the fixed picture and clip, as texts, to
    their log-probabilities. `inputs` changes with these inputs: only what was said to the same ones
    can be compared.
    """

    surprises: tuple[float, ...]
    likeliest: Mapping[str, float]
    inputs: str


@dataclass(frozen=True, slots=True)
class Passed:
    """Under what a check was passed: anything else, and it is made again."""

    files: str
    program: str
    mlx: str


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """The latest check that was passed, and for each version of mlx, newest first, what the model
    said when it first passed with it.
    """

    passed: Passed
    said: Mapping[str, Predictions]

    def reference(self, mlx: str) -> tuple[str, Predictions] | None:
        """What later predictions are held against, and the version of mlx that it is from.

        That of the same version, else of the latest other one.
        """
        if mlx in self.said:
            return mlx, self.said[mlx]
        return next(iter(self.said.items()), None)


class CheckRecords:
    """The records in one folder, by checkpoint and device."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def read(self, identity: str, device: str) -> CheckRecord | None:
        """The record, or None if there is none that can be read."""
        try:
            data = read_json(self._file(identity, device))
            if data["format"] != _FORMAT:
                return None
            passed = Passed(*(str(data["passed"][key]) for key in ("files", "program", "mlx")))
            return CheckRecord(
                passed, {str(mlx): _predictions(said) for mlx, said in data["said"].items()}
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def write(self, identity: str, device: str, record: CheckRecord) -> None:
        """Keep the record, whole or not at all; a disk that refuses it is no error."""
        data = {
            "format": _FORMAT,
            "passed": asdict(record.passed),
            "said": {
                mlx: {
                    "surprises": list(said.surprises),
                    "likeliest": dict(said.likeliest),
                    "inputs": said.inputs,
                }
                for mlx, said in record.said.items()
            },
        }
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self._file(identity, device), json.dumps(data, indent=1) + "\n")

    def _file(self, identity: str, device: str) -> Path:
        name = hashlib.sha256(device.encode()).hexdigest()[:12]
        return self._folder / f"{identity}-{name}.json"


def _predictions(data: Mapping[str, Any]) -> Predictions:
    surprises = tuple(float(value) for value in data["surprises"])
    likeliest = {str(key): float(value) for key, value in data["likeliest"].items()}
    if not all(map(math.isfinite, (*surprises, *likeliest.values()))):
        raise ValueError("a record holds finite numbers only")
    return Predictions(surprises, likeliest, str(data["inputs"]))


def _write_whole(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
