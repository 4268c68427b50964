"""Leaving in the middle of a reply: the program ends with status 0 and never aborts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Moments after the first word, in ms; 0 leaves at the very first word.
FEW = (0, 15, 60, 150, 400)
MANY = tuple(range(0, 400, 20))


def leave(moment: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the program with the real engine and leave it at `moment`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.app.leaving_program", moment, str(home)],
        cwd=ROOT,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(result: subprocess.CompletedProcess[str], home: Path) -> None:
    everything = f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 0, everything
    assert result.stdout == "left\n", everything
    assert "Traceback" not in result.stderr, everything
    assert "QThread" not in result.stderr, everything
    assert (home / "log" / "crash.log").read_text() == "", everything
    assert (home / "log" / "fireside.log").read_text() == "", everything


@pytest.mark.parametrize("after_ms", FEW)
def test_in_the_middle_of_a_reply(tmp_path: Path, after_ms: int) -> None:
    check(leave(str(after_ms), tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("after_ms", MANY)
def test_in_the_middle_of_a_reply_many_times(tmp_path: Path, after_ms: int) -> None:
    check(leave(str(after_ms), tmp_path), tmp_path)


@pytest.mark.parametrize("moment", ["loading", "waiting"])
def test_while_the_model_is_loading(tmp_path: Path, moment: str) -> None:
    check(leave(moment, tmp_path), tmp_path)


def test_while_a_clip_is_being_looked_at(tmp_path: Path) -> None:
    check(leave("looking", tmp_path), tmp_path)
