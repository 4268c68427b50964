"""A file of kept arrays comes back as it was written, or is known to be damaged."""

import os
from pathlib import Path

import numpy as np
import pytest

from mlx_model.state.state_file import (
    PARTIAL,
    DamagedError,
    RawArray,
    read_state_file,
    write_state_file,
)
from mlx_model.tensor_files import read_header
from mlx_model.tensor_writer import TensorLayout

TOLD = {"model": "m", "piece": "rows-0-2-ü"}


def raw(dtype: str, *shape: int) -> RawArray:
    layout = TensorLayout(dtype, shape)
    return RawArray(layout, np.arange(layout.size_bytes, dtype=np.uint8))


ARRAYS = {"0.0": raw("BF16", 1, 2, 3), "0.1": raw("F32", 1, 2, 2)}


def write(folder: Path) -> Path:
    file = folder / "a.safetensors"
    write_state_file(file, ARRAYS, TOLD)
    return file


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = write(tmp_path)
    told, arrays = read_state_file(file)
    assert told == TOLD
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        assert array.layout == ARRAYS[name].layout
        np.testing.assert_array_equal(array.data, ARRAYS[name].data)
    assert {name: info.shape for name, info in read_header(file).items()} == {
        "0.0": (1, 2, 3),
        "0.1": (1, 2, 2),
    }, "any reader of safetensors can look into it"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        with pytest.raises(DamagedError):
            read_state_file(file)


def test_whatever_its_length_a_cut_file_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read_state_file(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(DamagedError):
        read_state_file(file)
    with pytest.raises(FileNotFoundError):
        read_state_file(tmp_path / "gone")


def test_a_file_has_its_name_only_when_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_when_forced: list[bool] = []
    force = os.fsync

    def watched(handle: int) -> None:
        there_when_forced.append((tmp_path / "a.safetensors").exists())
        force(handle)

    monkeypatch.setattr(os, "fsync", watched)
    assert write(tmp_path).exists()
    assert there_when_forced == [False]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.mkdir()  # nothing takes the place of a folder
    with pytest.raises(OSError, match="directory"):
        write_state_file(file, ARRAYS, TOLD)
    assert not list(tmp_path.glob(f".*{PARTIAL}"))
