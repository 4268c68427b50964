"""An engine whose replies a test writes as a generator; everything around it is the real thing."""

import threading
import time
from collections.abc import Callable, Iterator

from PySide6.QtCore import QThread

from mlx_model.events import Event, Finished, Prepared, ReplyStats
from mlx_model.messages import ReplyRequest

Script = Callable[[ReplyRequest, threading.Event], Iterator[Event]]


class ScriptedEngine:
    """An engine whose replies are written by the test; everything around it is the real thing."""

    name = "Scripted"
    note = "for tests"
    is_demo = True

    def __init__(self, script: Script) -> None:
        self._script = script
        self.requests: list[ReplyRequest] = []
        self.prepared: list[ReplyRequest] = []
        self.threads: list[QThread] = []

    def reply(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Play the script."""
        self.requests.append(request)
        self.threads.append(QThread.currentThread())
        yield from self._script(request, cancel)

    def prepare(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Note what was to be read ahead."""
        self.prepared.append(request)
        yield Prepared(1, 0, 1, 0, is_complete=True)

    def idle(self, cancel: threading.Event) -> Iterator[Event]:
        """There is nothing to do."""
        yield from ()

    def warm_up(self, cancel: threading.Event) -> None:
        """There is nothing to do."""

    def close(self, limit_s: float) -> None:
        """There is nothing to put away."""


def wait_for_stop(cancel: threading.Event, limit_s: float = 5.0) -> None:
    """Block as an engine does until it is told to stop, but never for ever."""
    end = time.monotonic() + limit_s
    while not cancel.is_set() and time.monotonic() < end:
        time.sleep(0.002)


def finished(reason: str = "stop", **figures: float) -> Finished:
    """The end of a reply."""
    return Finished(reason, ReplyStats(**figures))  # type: ignore[arg-type]
