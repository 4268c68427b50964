"""What goes wrong leaves a trace in the log file; each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, sys, threading
from pathlib import Path
from PySide6.QtCore import QCoreApplication, QTimer, qWarning
from app.log_file import start_logging, stop_logging

application = QCoreApplication([])
start_logging(Path(sys.argv[1]))

def fail():
    raise LookupError("the reason")

{what}
QTimer.singleShot(200, application.quit)
application.exec()
stop_logging()
"""


@pytest.mark.parametrize(
    ("what", "trace"),
    [
        ("QTimer.singleShot(0, fail)", "LookupError: the reason"),
        ("threading.Thread(target=fail, name='helper').start()", "thread helper"),
        ("qWarning('Qt is not amused')", "Qt is not amused"),
        ("logging.getLogger('fireside.inference').error('by hand')", "by hand"),
    ],
)
def test_errors_reach_the_log(tmp_path: Path, what: str, trace: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(what=what), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert trace in (tmp_path / "fireside.log").read_text()
    assert trace in result.stderr, "a terminal shows it too"


def test_a_crash_leaves_its_stack(tmp_path: Path) -> None:
    what = "import ctypes; ctypes.string_at(0)"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(what=what), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert "Segmentation fault" in (tmp_path / "crash.log").read_text()


def test_a_long_log_is_cut(tmp_path: Path) -> None:
    what = "[logging.getLogger('fireside').warning('x' * 1000) for _ in range(2500)]"
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(what=what), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert sum(path.stat().st_size for path in tmp_path.glob("fireside.log*")) < 2_100_000
