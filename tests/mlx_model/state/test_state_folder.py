"""Files are found by the tokens that they belong to, and the folder stays as small as it should."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_model.state.state_folder import StateFolder, StoredPiece, prefix_digests

KEYS = np.arange(100, dtype=np.int64)
SIZE = 1000
NOW_S = int(time.time())


def folder_of(root: Path, key: str = "one", budget_bytes: int = 100 * SIZE) -> StateFolder:
    folder = StateFolder(root, key, budget_bytes, spare_bytes=0)
    folder.prepare()
    return folder


def put(folder: StateFolder, keys: NDArray[np.int64], start: int | None, stop: int) -> StoredPiece:
    piece = StoredPiece(start, stop, prefix_digests(keys, [stop])[stop])
    folder.path(piece).write_bytes(bytes(SIZE))
    return piece


def age(folder: StateFolder, piece: StoredPiece, seconds: int) -> None:
    before = NOW_S - seconds
    os.utime(folder.path(piece), (before, before))


def names(root: Path) -> set[str]:
    return {path.name for path in root.glob("*/*")}


def test_a_digest_stands_for_all_tokens_up_to_its_length() -> None:
    digests = prefix_digests(KEYS, [10, 3, 10, 100])
    assert set(digests) == {3, 10, 100}
    assert prefix_digests(KEYS[:10], [10])[10] == digests[10]
    for place in range(10):
        other = KEYS.copy()
        other[place] += 1
        assert prefix_digests(other, [10])[10] != digests[10]


def test_a_prompt_finds_what_it_begins_with(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    first, second, state = (put(folder, KEYS, *piece) for piece in ((0, 20), (20, 50), (None, 50)))
    found = folder.find(KEYS[:60])
    assert found.covered == 50
    assert found.states == {50: state}
    assert found.way_to(50) == [first, second]
    assert folder.find(KEYS[:49]).covered == 20, "no rows of tokens that it does not have"
    other = KEYS.copy()
    other[30] = 7
    assert folder.find(other).covered == 20
    assert not folder.find(other).states
    other[3] = 7
    assert folder.find(other).covered == 0
    assert folder_of(tmp_path, "two").find(KEYS).covered == 0, "another model"


def test_pieces_that_nothing_leads_to_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    put(folder, KEYS, 20, 50)
    put(folder, KEYS, None, 50)
    (folder.folder / "rows-0-9.safetensors").write_bytes(b"")
    (folder.folder / "notes.txt").write_bytes(b"")
    assert folder.find(KEYS).covered == 0
    assert not folder.find(KEYS).states
    put(folder, KEYS, 0, 20)
    assert folder.find(KEYS).covered == 50
    assert list(folder.find(KEYS).states) == [50]


def test_what_was_used_longest_ago_goes_first_whichever_model_it_is_of(tmp_path: Path) -> None:
    one = folder_of(tmp_path, "one", 4 * SIZE)
    two = folder_of(tmp_path, "two", 4 * SIZE)
    pieces = [put(one, KEYS, 0, 20), put(one, KEYS, 20, 50), put(one, KEYS, None, 50)]
    for piece in pieces:
        age(one, piece, 100)
    recent = put(two, KEYS, 0, 30)
    assert one.make_room(SIZE)
    assert len(names(tmp_path)) == 3
    assert recent.name in names(tmp_path)
    assert pieces[0].name in names(tmp_path), "of those used together, the first tokens go last"
    one.touch(pieces)
    age(two, recent, 1)
    assert one.make_room(2 * SIZE)
    assert recent.name not in names(tmp_path)
    assert len(names(tmp_path)) == 2
    assert one.make_room(3 * SIZE)
    assert names(tmp_path) == {pieces[0].name}, "touched at once, too"
    assert not one.make_room(5 * SIZE), "never"


def test_a_disk_with_nothing_to_spare_is_left_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, "one", 100 * SIZE, spare_bytes=1 << 62)
    folder.prepare()
    assert not folder.make_room(SIZE)


def test_what_a_killed_program_was_writing_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = folder_of(tmp_path)
    dead, mine = (
        folder.folder / f".rows-0-9-x.safetensors.{process}.partial"
        for process in (ended.pid, os.getpid())
    )
    dead.write_bytes(b"half")
    mine.write_bytes(b"half")
    folder.prepare()
    assert not dead.exists()
    assert mine.exists(), "its program is still at it"
    assert not folder.find(KEYS).rows


def test_nobody_else_reads_what_was_said(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "states").folder.stat().st_mode & 0o077 == 0
