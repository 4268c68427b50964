"""The download thread's side: gets one model after another, and tells how far it is.

Lives on a thread of its own, since a download takes hours. Knows no widget. Events come ten times a
second at most, which is what a signal each is good for.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QObject, QThread, Signal, Slot

from mlx_model import (
    DownloadError,
    DownloadEvent,
    DownloadFinished,
    FiresideError,
)

_log = logging.getLogger("fireside.downloads")

_UNEXPECTED = (
    "Something went wrong inside the program. What has arrived is kept: try again; "
    "if it happens again, please report it with the log file."
)


@dataclass(frozen=True, slots=True)
class FetchJob:
    """One model to get: which, in which way, as whom, and the event that stops it."""

    number: int
    key: str
    way: str
    token: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class FetchOutcome:
    """How a job ended: with a folder, stopped (no folder, no problem), or with a problem."""

    folder: Path | None = None
    problem: str = ""
    needs_token: bool = False


Fetcher = Callable[[FetchJob], Iterator[DownloadEvent]]


class DownloadWorker(QObject):
    """Runs jobs. All slots run in the download thread and catch everything.

    Signals:
        progressed(int, DownloadEvent): the job with this number is doing this now.
        ended(int, FetchOutcome): it is over.
    """

    progressed = Signal(int, object)
    ended = Signal(int, object)

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    @Slot(object)
    def run_job(self, job: FetchJob) -> None:
        """Get one model; returns when it is here, was stopped, or cannot be had."""
        try:
            outcome = FetchOutcome(self._fetch(job))
        except DownloadError as error:
            outcome = FetchOutcome(problem=str(error), needs_token=error.token_helps)
        except FiresideError as error:
            outcome = FetchOutcome(problem=str(error))
        except Exception:  # noqa: BLE001 - a slot has nobody above it to catch anything
            _log.exception("unexpected error in the download thread")
            outcome = FetchOutcome(problem=_UNEXPECTED)
        self.ended.emit(job.number, outcome)

    @Slot()
    def close(self) -> None:
        """End the thread's event loop."""
        QThread.currentThread().quit()

    def _fetch(self, job: FetchJob) -> Path | None:
        for event in self._fetcher(job):
            if isinstance(event, DownloadFinished):
                return event.folder
            self.progressed.emit(job.number, event)
        raise RuntimeError("the download stopped without saying how it ended")
