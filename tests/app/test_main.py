"""How the program starts and where it thinks the person sits."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.program import choose_mode
from app.resources import SAMPLES_DIR

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("platform", "environment", "has_terminal", "mode"),
    [
        ("linux", {"DISPLAY": ":0"}, True, "screen"),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, False, "screen"),
        ("linux", {}, True, "terminal"),
        ("linux", {}, False, "tour"),
        ("linux", {"DISPLAY": ""}, False, "tour"),
        ("linux", {"QT_QPA_PLATFORM": "offscreen", "DISPLAY": ":0"}, True, "terminal"),
        ("linux", {"QT_QPA_PLATFORM": "vnc"}, False, "screen"),
        ("darwin", {}, True, "screen"),
        ("darwin", {"QT_QPA_PLATFORM": "offscreen"}, False, "tour"),
    ],
)
def test_where_the_person_sits(
    platform: str, environment: dict[str, str], has_terminal: bool, mode: str
) -> None:
    assert choose_mode(platform, environment, has_terminal) == mode


class Program:
    """`python -m app` with no display and a terminal of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.endswith("DISPLAY")}
        environment |= {"HOME": str(home), "XDG_DATA_HOME": str(home)}
        environment.pop("QT_QPA_PLATFORM", None)
        self._near, far = pty.openpty()
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            stdin=far,
            stdout=far,
            stderr=far,
            env=environment,
            cwd=ROOT,
        )
        os.close(far)

    def type(self, line: str) -> None:
        os.write(self._near, f"{line}\n".encode())

    def wait_for(self, words: str, limit_s: float = 60.0) -> None:
        end = time.monotonic() + limit_s
        while words not in self.printed:
            assert time.monotonic() < end, f"never said {words!r}:\n{self.printed}"
            if select.select([self._near], [], [], 0.1)[0]:
                self.printed += os.read(self._near, 4096).decode(errors="replace")

    def wait(self, limit_s: float = 60.0) -> int:
        """Read on until it ends, or it would block on its own output."""
        end = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < end, f"did not end:\n{self.printed}"
            if select.select([self._near], [], [], 0.05)[0]:
                try:
                    self.printed += os.read(self._near, 4096).decode(errors="replace")
                except OSError:
                    break
        status = self.process.wait(10)
        os.close(self._near)
        return status


def test_the_terminal_asks_the_real_model_and_leaves(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.type(f"/attach {SAMPLES_DIR / 'shapes.png'}")
    program.type("How many shapes are there?")
    program.wait_for("tokens/s)")
    assert "> [shapes.png] How many shapes are there?" in program.printed
    program.type("/quit")
    assert program.wait() == 0
    assert "Traceback" not in program.printed
    logs = list(tmp_path.rglob("fireside.log"))
    assert [log.read_text() for log in logs] == [""]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_polite_kill_leave_cleanly(tmp_path: Path, number: int) -> None:
    program = Program(tmp_path)
    program.wait_for("Demo model")
    program.process.send_signal(number)
    assert program.wait() == 0
    assert "Traceback" not in program.printed


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="sees imports through /proc")
@pytest.mark.parametrize("library", ["libshiboken", "libQt6Widgets"])
def test_ctrl_c_during_the_imports_is_quiet(tmp_path: Path, library: str) -> None:
    program = Program(tmp_path)
    maps = Path(f"/proc/{program.process.pid}/maps")
    end = time.monotonic() + 60
    while library not in maps.read_text():
        assert time.monotonic() < end
        time.sleep(0.001)
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == 130
    assert program.printed == ""


def test_a_folder_without_a_model_is_told_in_a_sentence(tmp_path: Path) -> None:
    program = Program(tmp_path, "--model", str(tmp_path / "nothing"))
    program.type("hello")
    program.wait_for("nothing")
    program.wait_for("> hello")
    program.type("/quit")
    assert program.wait() == 0
    assert "Traceback" not in program.printed
