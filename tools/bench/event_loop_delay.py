"""How late the window's event loop is while a long reply streams through the real window.

python -m tools.bench.event_loop_delay [--model DIR] [--seconds 10] [--stops 20]

An 8 ms timer ticks in the GUI thread; its lateness is what a key press or a repaint would wait.
Two baselines are measured in the same run, since other work on the machine delays every thread: the
idle window, and the idle window while the same model talks in another process, which takes the same
computing power but none of this program's locks. Afterwards Stop is pressed in the middle of
replies, and the time to the finished message is measured.

On Linux the kernel also tells how long the GUI thread was ready to run and got no processor. A row
without that wait shows what is the program's own doing, on a machine that is busy with other work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PySide6.QtCore import QEventLoop, QObject, Qt, QTimer, Slot
from PySide6.QtWidgets import QApplication

from app.composition import Composition
from app.inference.worker import OnOpening, OpenJob, step_back
from app.resources import DEMO_MODEL_DIR
from app.terminal.hand import ask
from mlx_model import Engine
from tools.bench.long_reply import QUESTION, open_talkative

TICK_MS = 8
# The other process needs this long to load its model.
_START_S = 4.0


class ProcessorWait:
    """How long the calling thread has been ready to run without a processor, in ms."""

    def __init__(self) -> None:
        path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self.known = path.exists()
        self._file = path.open("rb", buffering=0) if self.known else None

    def read_ms(self) -> float:
        """The total since the thread began; 0 where the kernel does not tell."""
        if self._file is None:
            return 0.0
        self._file.seek(0)
        return int(self._file.read(64).split()[1]) / 1e6


class Ticker(QObject):
    """Records how late each tick of a precise timer comes, in ms.

    Attributes:
        late_ms: the lateness of each tick.
        own_ms: the same without the time that the thread waited for a processor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.late_ms: list[float] = []
        self.own_ms: list[float] = []
        self.wait = ProcessorWait()
        self._due_s = 0.0
        self._waited_ms = 0.0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.on_tick)

    def start(self) -> None:
        """Begin or go on."""
        self._arm()

    def stop(self) -> None:
        """Pause."""
        self._timer.stop()

    def take(self) -> tuple[list[float], list[float]]:
        """`late_ms` and `own_ms`, which begin anew."""
        taken = self.late_ms, self.own_ms
        self.late_ms, self.own_ms = [], []
        return taken

    @Slot()
    def on_tick(self) -> None:
        """One tick."""
        late_ms = max(0.0, (time.perf_counter() - self._due_s) * 1000)
        self.late_ms.append(late_ms)
        self.own_ms.append(max(0.0, late_ms - (self.wait.read_ms() - self._waited_ms)))
        self._arm()

    def _arm(self) -> None:
        self._waited_ms = self.wait.read_ms()
        self._due_s = time.perf_counter() + TICK_MS / 1000
        self._timer.start(TICK_MS)


def wait_until(condition: Callable[[], bool], limit_s: float = 120.0) -> None:
    """Let the event loop run until `condition` holds."""
    loop = QEventLoop()
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there")
        loop.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def run_for(seconds: float) -> None:
    """Let the event loop run."""
    loop = QEventLoop()
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()


class Bench:
    """Drives one window."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self.ticker = Ticker()

    def idle(self, seconds: float) -> None:
        """Tick while nothing happens."""
        self.ticker.start()
        run_for(seconds)
        self.ticker.stop()

    def idle_beside(self, model: Path, seconds: float) -> None:
        """Tick while nothing happens here and the model talks in another process."""
        command = [sys.executable, "-m", "tools.bench.long_reply", str(model)]
        with subprocess.Popen([*command, str(seconds + _START_S + 1)]) as other:
            run_for(_START_S)
            self.idle(seconds)
            other.wait(60)

    def replying(self, seconds: float) -> None:
        """Tick while replies stream, one chat after another, without the pauses between."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._composition.window.new_chat_requested.emit()
            ask(self._composition.window, QUESTION)
            self.ticker.start()
            wait_until(lambda: self._composition.controller.state == "idle")
            self.ticker.stop()

    def stopping(self, count: int) -> list[float]:
        """Times in ms from the click on Stop to the finished message."""
        taken_ms: list[float] = []
        controller, window = self._composition.controller, self._composition.window
        for number in range(count):
            window.new_chat_requested.emit()
            ask(window, QUESTION)
            run_for(0.2 + 0.05 * number)
            began = time.perf_counter()
            window.composer.send_button.click()
            wait_until(lambda: controller.state == "idle")
            taken_ms.append((time.perf_counter() - began) * 1000)
        return taken_ms


def row(name: str, values_ms: list[float]) -> str:
    """One line of the table."""
    p50, p95, p99, longest = np.percentile(values_ms, [50, 95, 99, 100])
    return f"{name:<28} {len(values_ms):>7,} {p50:>8.1f} {p95:>8.1f} {p99:>8.1f} {longest:>8.1f}"


def open_behind_the_window(job: OpenJob, on_progress: OnOpening) -> Engine:
    """The talkative model with the priority that the program gives to its own."""
    step_back()
    return open_talkative(job, on_progress)


def measure(composition: Composition, model: Path, seconds: float, stops: int) -> list[str]:
    """All rows of the table."""
    bench = Bench(composition)
    run_for(1.0)
    bench.idle(seconds)
    rows = [row("late, idle window", bench.ticker.take()[0])]
    bench.idle_beside(model, seconds)
    rows.append(row("late, model elsewhere", bench.ticker.take()[0]))
    bench.replying(seconds)
    late_ms, own_ms = bench.ticker.take()
    rows.append(row("late, reply streaming", late_ms))
    if bench.ticker.wait.known:
        rows.append(row("  without processor wait", own_ms))
    rows.append(row("Stop to finished", bench.stopping(stops)))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL_DIR)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--stops", type=int, default=20)
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QApplication(sys.argv[:1])
    with tempfile.TemporaryDirectory() as folder:
        composition = Composition(options.model, Path(folder), open_behind_the_window)
        composition.start()
        wait_until(lambda: composition.controller.state == "idle")
        rows = measure(composition, options.model, options.seconds, options.stops)
        print(f"{'ms':<28} {'ticks':>7} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8}")
        print("\n".join(rows))
        print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        if not composition.close(10_000):
            os._exit(1)
    application.processEvents()


if __name__ == "__main__":
    main()
