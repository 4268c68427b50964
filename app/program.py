"""The program from its arguments to its exit status: builds everything and runs the event loop.

Without a display on Linux the window runs unseen: a terminal becomes its composer, and where there
is no terminal either, it plays a short tour and judges the answers.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from PySide6.QtWidgets import QApplication

from app.composition import Composition
from app.interrupts import Interrupts
from app.log_file import data_folder, start_logging, stop_logging
from app.terminal.line_reader import LineReader
from app.terminal.narrator import Narrator
from app.terminal.terminal_composer import TerminalComposer
from app.terminal.tour import Tour
from app.terminal.tour_steps import TOUR

Mode = Literal["screen", "terminal", "tour"]

# How long the end of the program waits for the model to let go.
_CLOSE_LIMIT_MS = 5_000
_TOUR_PICTURES = Path("build") / "tour"

_log = logging.getLogger("fireside")


def choose_mode(platform: str, environment: Mapping[str, str], has_terminal: bool) -> Mode:
    """Where the person sits: at a screen, at a terminal, or nowhere."""
    chosen = environment.get("QT_QPA_PLATFORM", "")
    has_display = bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    unseen = chosen.startswith(("offscreen", "minimal"))
    if unseen or (platform == "linux" and not chosen and not has_display):
        return "terminal" if has_terminal else "tour"
    return "screen"


def run(arguments: Sequence[str]) -> int:
    """Run until the window is closed; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fireside", description="Chat with pictures and clips.")
    parser.add_argument(
        "--model", type=Path, help="folder of the model that answers, for this time"
    )
    options = parser.parse_args(arguments)
    mode = choose_mode(sys.platform, os.environ, sys.stdin is not None and sys.stdin.isatty())
    if mode != "screen":
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QApplication([sys.argv[0]])
    application.setApplicationName("Fireside")
    application.setApplicationDisplayName("Fireside")
    folder = data_folder()
    start_logging(folder)
    composition = Composition(options.model, folder)
    interrupts = Interrupts()
    interrupts.interrupted.connect(application.quit)
    if mode == "terminal":
        _attach_terminal(application, composition)
    elif mode == "tour":
        _attach_tour(application, composition)
    composition.start()
    status = application.exec()
    interrupts.close()
    if not composition.close(_CLOSE_LIMIT_MS):
        # A thread that is still computing while Python takes itself apart aborts the process.
        _log.warning("left while the model was still busy")
        logging.shutdown()
        os._exit(status)
    stop_logging()
    return status


def _attach_terminal(application: QApplication, composition: Composition) -> None:
    narrator = Narrator(composition.controller, composition.session, sys.stdout)
    reader = LineReader(sys.stdin.fileno(), composition.window)
    terminal = TerminalComposer(composition.window, composition.session, narrator, reader)
    terminal.quit_requested.connect(application.quit)


def _attach_tour(application: QApplication, composition: Composition) -> None:
    narrator = Narrator(composition.controller, composition.session, sys.stdout)
    tour = Tour(
        composition.window,
        composition.session,
        composition.controller,
        composition.themes,
        narrator,
        TOUR,
        _TOUR_PICTURES,
    )
    tour.ended.connect(_end_tour)
    tour.start()


def _end_tour(all_right: bool) -> None:
    QApplication.exit(0 if all_right else 1)
