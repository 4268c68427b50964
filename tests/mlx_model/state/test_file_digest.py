"""A file is hashed once, and again when it may have been written."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from mlx_model.errors import MediaError
from mlx_model.media import MediaCancelledError
from mlx_model.state import file_digest
from mlx_model.state.file_digest import FileDigests

NEVER = threading.Event()
LONG_AGO_NS = 10**18


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read."""
    files: list[Path] = []
    real = file_digest._sha256

    def noted(file: Path, cancel: threading.Event) -> bytes:
        files.append(file)
        return real(file, cancel)

    monkeypatch.setattr(file_digest, "_sha256", noted)
    return files


def written(path: Path, data: bytes, mtime_ns: int = LONG_AGO_NS) -> Path:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[Path]) -> None:
    digests, data = FileDigests(), bytes(3_000_000) + b"end"
    path = written(tmp_path / "a", data)
    for _ in range(3):
        assert digests.digest(path, NEVER).sha256 == hashlib.sha256(data).digest()
    assert hashed == [path]


@pytest.mark.parametrize("change", ["bytes", "time", "inode"])
def test_a_file_that_was_written_or_replaced_is_hashed_again(
    tmp_path: Path, hashed: list[Path], change: str
) -> None:
    digests = FileDigests()
    path = written(tmp_path / "a", b"one")
    digests.digest(path, NEVER)
    if change == "bytes":
        written(path, b"three")
    elif change == "time":
        written(path, b"two", LONG_AGO_NS + 1)
    else:
        os.replace(written(tmp_path / "b", b"two"), path)
    assert digests.digest(path, NEVER).sha256 == hashlib.sha256(path.read_bytes()).digest()
    assert len(hashed) == 2


def test_a_file_written_just_now_is_not_trusted_to_look_different(
    tmp_path: Path, hashed: list[Path]
) -> None:
    digests, path = FileDigests(), tmp_path / "a"
    path.write_bytes(b"one")
    stamp = path.stat()
    digests.digest(path, NEVER)
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert digests.digest(path, NEVER).sha256 == hashlib.sha256(b"two").digest()


def test_hashing_is_stopped(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(MediaCancelledError):
        FileDigests().digest(written(tmp_path / "a", b"one"), cancel)


def test_a_file_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.*\.$"):
        FileDigests().digest(tmp_path / "gone", NEVER)
