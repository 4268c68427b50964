"""Settings of strangers are read, or refused with an error that callers expect."""

import os
from pathlib import Path

import pytest

from mlx_model import json_file
from mlx_model.json_file import parse_json, read_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ["ä", 1]}', encoding="utf-8")
    assert (
        read_json(tmp_path / "a.json") == {"a": ["ä", 1]} == parse_json(b'{"a": ["\xc3\xa4", 1]}')
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{}", b"[" * 300_000, b'{"a":' * 300_000, b"9" * 5000]
)
def test_what_is_no_json_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011, that it is one is all that callers know
        read_json(tmp_path / "a.json")


def test_too_much_of_it_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a.json").open("wb") as stream:
        stream.truncate(1 << 40)  # a hole, which takes no room
    with pytest.raises(ValueError, match="too large"):
        read_json(tmp_path / "a.json")
    monkeypatch.setattr(json_file, "_LIMIT_BYTES", 4)
    assert parse_json(b"[12]") == [12]
    with pytest.raises(ValueError, match="too large"):
        parse_json(b"[123]")


def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not a file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not a file"):
        read_json(tmp_path)


def test_nothing_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")
