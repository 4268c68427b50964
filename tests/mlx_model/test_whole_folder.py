"""A folder is there whole or not at all, also when the program that fills it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_model.errors import CheckpointError
from mlx_model.whole_folder import whole_folder

ROOT = Path(__file__).parents[2]
# Fills a folder and then waits to be killed; a shell's background jobs would not hear Ctrl-C.
WRITER = """
import signal, sys, time
from pathlib import Path
from mlx_model.whole_folder import whole_folder
signal.signal(signal.SIGINT, signal.default_int_handler)
with whole_folder(Path(sys.argv[1]), last="last") as folder:
    (folder / "first").write_text("1")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def fill(folder: Path) -> None:
    for name in ("last", "weights", "zero"):
        (folder / name).write_text(name, encoding="utf-8")


def start_writer(target: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def end(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    process.send_signal(number)
    with process:  # closes what it printed to, and waits for its end
        process.wait(30)


def test_nothing_is_at_the_target_before_the_end(target: Path) -> None:
    with whole_folder(target, "last") as folder:
        fill(folder)
        assert not target.exists()
    assert sorted(file.name for file in target.iterdir()) == ["last", "weights", "zero"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("empty_target", [False, True])
def test_an_error_leaves_everything_as_it_was(target: Path, empty_target: bool) -> None:
    if empty_target:
        target.mkdir()
    before = sorted(target.parent.rglob("*"))

    def interrupted() -> None:
        with whole_folder(target, "last") as folder:
            fill(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(target.parent.rglob("*")) == before


@pytest.mark.parametrize("empty_target", [False, True])
def test_everything_is_on_the_disk_before_it_gets_its_name(
    target: Path, monkeypatch: pytest.MonkeyPatch, empty_target: bool
) -> None:
    if empty_target:
        target.mkdir()
    told: list[str] = []
    sync, rename = os.fsync, os.rename
    names: dict[int, str] = {}

    def recorded_sync(handle: int) -> None:
        told.append(names.get(os.fstat(handle).st_ino, "folder"))
        sync(handle)

    def recorded_replace(self: Path, to: Path) -> Path:
        told.append(f"rename {self.name}" if self.is_file() else "rename")
        rename(self, to)
        return Path(to)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    with whole_folder(target, "last") as folder:
        fill(folder)
        names.update({file.stat().st_ino: file.name for file in folder.iterdir()})
    first = next(index for index, event in enumerate(told) if event.startswith("rename"))
    assert sorted(told[:first]) == ["folder", "last", "weights", "zero"]
    if empty_target:
        assert told[-2] == "rename last"
    assert told[-1] == "folder"


def test_a_killed_writers_folder_is_removed_by_the_next_one(target: Path) -> None:
    process, partial = start_writer(target)
    assert (partial / "first").exists()
    end(process, signal.SIGKILL)
    assert partial.exists()
    assert not target.exists()
    other = target.with_name("other")
    with whole_folder(other, "last") as folder:
        fill(folder)
    assert [path.name for path in target.parent.iterdir()] == ["other"]


def test_a_killed_writer_inside_an_empty_folder_leaves_it_usable(target: Path) -> None:
    target.mkdir()
    process, partial = start_writer(target)
    assert partial.parent == target
    end(process, signal.SIGKILL)
    with whole_folder(target, "last") as folder:
        fill(folder)
    assert sorted(file.name for file in target.iterdir()) == ["last", "weights", "zero"]


def test_a_writer_at_work_is_left_alone(target: Path) -> None:
    process, partial = start_writer(target)
    try:
        with pytest.raises(CheckpointError, match="at work"), whole_folder(target, "last"):
            pass
        with whole_folder(target.with_name("other"), "last") as folder:
            fill(folder)
        assert (partial / "first").exists()
    finally:
        end(process, signal.SIGINT)
    # Ctrl-C cleans up.
    deadline = time.monotonic() + 30
    while partial.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.name for path in target.parent.iterdir()] == ["other"]


def test_what_is_in_use_is_refused(target: Path) -> None:
    target.mkdir()
    (target / "notes").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not an empty folder"), whole_folder(target, "last"):
        pass
    assert [file.name for file in target.iterdir()] == ["notes"]
    file = target / "notes"
    with pytest.raises(CheckpointError, match="not an empty folder"), whole_folder(file, "last"):
        pass
