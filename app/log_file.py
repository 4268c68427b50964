"""Where the program writes what went wrong: one log file, kept small, beside the person's data.

Owns the file and the hooks that lead into it. A bundled app has no terminal: without this, an error
inside a slot would leave no trace.
"""

import faulthandler
import logging
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QMessageLogContext, QStandardPaths, QtMsgType, qInstallMessageHandler

_log = logging.getLogger("fireside")
_qt_log = logging.getLogger("fireside.qt")

_MAX_BYTES = 1_000_000
_QT_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}


def data_folder() -> Path:
    """The person's private folder for this program, made when it is missing."""
    location = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.AppDataLocation)
    folder = Path(location)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start_logging(folder: Path) -> Path:
    """Lead the program's errors, Qt's warnings and crashes into files in `folder`; returns the log.

    Warnings and errors also go to standard error, where a terminal shows them.
    """
    path = folder / "fireside.log"
    to_file = RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    to_terminal.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _log.setLevel(logging.INFO)
    _log.handlers[:] = [to_file, to_terminal]
    _log.propagate = False
    # Kept open for as long as the program runs: a crash cannot open files any more.
    faulthandler.enable((folder / "crash.log").open("a", encoding="utf-8"))
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread
    qInstallMessageHandler(_on_qt_message)
    return path


def stop_logging() -> None:
    """Write out and close the log."""
    qInstallMessageHandler(None)
    for handler in tuple(_log.handlers):
        _log.removeHandler(handler)
        handler.close()


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("uncaught error", exc_info=(kind, error, trace))


def _on_uncaught_in_thread(event: threading.ExceptHookArgs) -> None:
    name = event.thread.name if event.thread else "unknown"
    _log.critical("uncaught error in thread %s", name, exc_info=event.exc_value)


def _on_qt_message(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    _qt_log.log(_QT_LEVELS.get(kind, logging.WARNING), "%s", message)
