"""The program as `app.program` runs it, left at a given moment; run by test_quitting.py.

python -m tests.app.leaving_program MOMENT HOME, where MOMENT is "loading", "waiting", "looking", or
a number of ms after the first word of a long reply.
"""

import os
import sys
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from app.composition import Composition
from app.log_file import start_logging, stop_logging
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from tools.bench.long_reply import QUESTION, open_talkative


def leave_at(moment: str, composition: Composition, application: QApplication) -> None:
    """Arrange for the window to be closed at `moment`."""
    controller, window = composition.controller, composition.window
    if moment == "loading":
        # In the event loop's first round: on a slow machine a moment later would be too late.
        QTimer.singleShot(0, window, window.close)
        return
    if moment == "waiting":
        QTimer.singleShot(0, window, lambda: (ask(window, QUESTION), window.close()))
        return
    if moment == "looking":
        controller.progress_changed.connect(
            lambda sentence, share: sentence.startswith("Looking") and window.close()
        )
        composition.session.attachments_known.connect(lambda: ask(window, "Which way?"))
        controller.model_opened.connect(lambda card: drop_files(window, [SAMPLES_DIR / "clip.mp4"]))
        return
    controller.text_arrived.connect(
        lambda text: QTimer.singleShot(int(moment), window, window.close)
    )
    controller.model_opened.connect(lambda card: ask(window, QUESTION))


def main() -> int:
    """Run until left; 0 after a clean end, 3 when a thread had to be abandoned."""
    moment, home = sys.argv[1], Path(sys.argv[2])
    application = QApplication([])
    folder = home / "log"
    folder.mkdir()
    start_logging(folder)
    composition = Composition(DEMO_MODEL_DIR, home, open_talkative)
    leave_at(moment, composition, application)
    composition.start()
    status = application.exec()
    state = composition.controller.state
    expected = {"loading": "loading"}.get(moment, "replying")
    if not composition.close(10_000):
        os._exit(3)
    stop_logging()
    if state != expected:
        sys.stderr.write(f"left while {state}, not while {expected}\n")
        return 4
    sys.stdout.write("left\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
