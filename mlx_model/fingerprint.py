"""What tells one checkpoint, one state of its files and one version of this program from another.

Cheap enough for every start: weights are told apart by their headers and by samples of their
bytes, never read whole. Knows nothing of what is done with the fingerprints.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# Files that decide what a model computes and how it is asked; all small but the tokenizer.
_DESCRIPTIONS = ("*.json", "*.jinja")
_WEIGHTS = "*.safetensors"
# Headers of the largest checkpoints are some hundred kilobytes long.
_HEAD_BYTES = 1 << 20
_SAMPLES = 16
_SAMPLE_BYTES = 4096


def checkpoint_identity(folder: Path) -> str:
    """The same for every copy of a checkpoint, another for other weights, settings or words.

    Raises OSError for files that cannot be read.
    """
    digest = hashlib.sha256()
    for file in _files(folder, (*_DESCRIPTIONS, _WEIGHTS)):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        if file.match(_WEIGHTS):
            _add_samples(digest, file)
        else:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def files_stamp(folder: Path) -> str:
    """Changes whenever a file of the checkpoint was written again, with whatever contents."""
    digest = hashlib.sha256()
    for file in _files(folder, (*_DESCRIPTIONS, _WEIGHTS)):
        status = file.stat()  # of what a link leads to
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def program_version() -> str:
    """Changes with every change of this package's code: no number that somebody could forget."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")) or sorted(_PACKAGE.rglob("*.pyc")):
        digest.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def _add_samples(digest: "hashlib._Hash", file: Path) -> None:
    """The header, and bytes from places all over the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        digest.update(stream.read(_HEAD_BYTES))
        for number in range(1, _SAMPLES + 1):
            stream.seek(max(0, size * number // _SAMPLES - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
