"""The window's side of downloads: a queue, one at a time, each of which can be paused.

Lives in the GUI thread and never waits there except in `close`. Knows neither the catalogue nor
any widget.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from PySide6.QtCore import QObject, QThread, Signal, Slot

from app.inference.download_worker import DownloadWorker, Fetcher, FetchJob, FetchOutcome
from app.model_entry import Transfer
from mlx_model import DownloadEvent, DownloadProgress, DownloadTrouble

DownloadPhase = Literal[
    "queued", "downloading", "checking", "converting", "arrived", "paused", "failed"
]
_SOMEBODY_ELSE = "Another program is downloading the same files; it goes on here afterwards."
_PHASES: dict[str, DownloadPhase] = {"converting": "converting", "checking": "checking"}


@dataclass(frozen=True, slots=True)
class DownloadState:
    """How one download is doing.

    `transfer` is what has arrived, `done` the share that is converted or checked; `problem` is why
    it failed, or what it is just getting over.
    """

    phase: DownloadPhase
    way: str
    transfer: Transfer | None = None
    done: float | None = None
    problem: str = ""
    needs_token: bool = False


class Downloads(QObject):
    """All downloads of the program. Everything here runs in the GUI thread.

    Signals:
        changed(str): the download with this key is in another state.
        arrived(str, object): it is complete; the Path of its folder.
        let_go(str, str): it was given up, and nothing writes its files any more; key and way.
    """

    changed = Signal(str)
    arrived = Signal(str, object)
    let_go = Signal(str, str)

    # To the worker, across threads.
    _run_requested = Signal(object)
    _close_requested = Signal()

    def __init__(self, fetcher: Fetcher, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._states: dict[str, DownloadState] = {}
        self._queue: deque[FetchJob] = deque()
        self._running: FetchJob | None = None
        self._given_up: dict[str, str] = {}
        self._jobs_made = 0
        self._closed = False
        self._thread = QThread(self)
        self._thread.setObjectName("downloads")
        self._worker = DownloadWorker(fetcher)
        self._worker.moveToThread(self._thread)
        self._run_requested.connect(self._worker.run_job)
        self._close_requested.connect(self._worker.close)
        self._worker.progressed.connect(self.on_progressed)
        self._worker.ended.connect(self.on_ended)
        self._thread.start()

    @property
    def states(self) -> dict[str, DownloadState]:
        """The downloads that are not complete, by key."""
        return dict(self._states)

    @property
    def is_busy(self) -> bool:
        """Whether the download thread is at work, be it only to come to an end."""
        return self._running is not None

    def start(self, key: str, way: str, token: str | None = None) -> None:
        """Get the model `key`, or the rest of it, after those that were asked for before."""
        if self._job(key) is not None:
            return
        self._jobs_made += 1
        self._given_up.pop(key, None)
        self._queue.append(FetchJob(self._jobs_made, key, way, token))
        before = self._states.get(key)
        kept = _resting(before.transfer) if before is not None and before.way == way else None
        self._put(key, DownloadState("queued", way, kept))
        self._run_next()

    def put_paused(self, key: str, way: str, transfer: Transfer | None) -> None:
        """An earlier start of the program has left this one unfinished, so far."""
        state = self._states.get(key)
        if state is None or (state.phase == "paused" and state.transfer is None):
            self._put(key, DownloadState("paused", way, transfer))

    def pause(self, key: str) -> None:
        """Stop; what has arrived stays."""
        job = self._job(key)
        if job is None:
            return
        job.stop.set()
        if job in self._queue:
            self._queue.remove(job)
        state = self._states[key]
        self._put(key, DownloadState("paused", state.way, _resting(state.transfer)))

    def give_up(self, key: str) -> None:
        """Stop and forget; `let_go` follows as soon as nothing writes the files any more."""
        state = self._states.pop(key, None)
        if state is None:
            return
        self._given_up[key] = state.way
        job = self._job(key)
        if job is not None:
            job.stop.set()
            if job in self._queue:
                self._queue.remove(job)
        if self._running is None or self._running.key != key:
            self._let_go(key)
        self.changed.emit(key)

    def stop(self) -> None:
        """Let what runs come to an end soon, and nothing else begin."""
        self._queue.clear()
        if self._running is not None:
            self._running.stop.set()

    def close(self, limit_ms: int) -> bool:
        """Stop what runs and end the thread; False when that took longer than `limit_ms`."""
        if self._closed:
            return True
        self.stop()
        self._close_requested.emit()
        self._closed = self._thread.wait(limit_ms)
        return self._closed

    @Slot(int, object)
    def on_progressed(self, number: int, event: DownloadEvent) -> None:
        """The worker has come further; a job that has been stopped is not heard any more."""
        job = self._running
        if job is None or job.number != number or job.stop.is_set():
            return
        state = self._states[job.key]
        if isinstance(event, DownloadTrouble):
            self._put(job.key, _in_trouble(state, event))
        elif isinstance(event, DownloadProgress):
            self._put(job.key, _further(state, event))

    @Slot(int, object)
    def on_ended(self, number: int, outcome: FetchOutcome) -> None:
        """The worker is through with a job."""
        job, self._running = self._running, None
        if job is None or job.number != number:
            return
        if job.key in self._given_up:
            self._let_go(job.key)
        elif outcome.folder is not None:
            self._arrive(job.key, outcome)
        elif not job.stop.is_set():
            state = self._states[job.key]
            problem = DownloadState(
                "failed",
                state.way,
                state.transfer,
                problem=outcome.problem,
                needs_token=outcome.needs_token,
            )
            self._put(job.key, problem)
        self._run_next()

    def _arrive(self, key: str, outcome: FetchOutcome) -> None:
        """It may have been complete just when it was paused, or asked for again since."""
        job = self._job(key)
        if job is not None:
            self._queue.remove(job)
        self._states.pop(key, None)
        self.arrived.emit(key, outcome.folder)
        self.changed.emit(key)

    def _run_next(self) -> None:
        if self._running is None and self._queue:
            self._running = self._queue.popleft()
            state = self._states[self._running.key]
            self._put(self._running.key, replace(state, phase="downloading"))
            self._run_requested.emit(self._running)

    def _let_go(self, key: str) -> None:
        self.let_go.emit(key, self._given_up.pop(key))

    def _job(self, key: str) -> FetchJob | None:
        """The job for `key` that runs or waits, unless it was stopped."""
        jobs = [*self._queue, *([self._running] if self._running else [])]
        return next((job for job in jobs if job.key == key and not job.stop.is_set()), None)

    def _put(self, key: str, state: DownloadState) -> None:
        if self._states.get(key) != state:
            self._states[key] = state
            self.changed.emit(key)


def _in_trouble(state: DownloadState, event: DownloadTrouble) -> DownloadState:
    """The state while it waits to try again: nothing arrives."""
    seconds = math.ceil(event.wait_s)
    within = f"{seconds} s" if seconds <= 90 else f"{math.ceil(seconds / 60)} minutes"
    problem = f"{event.text} Trying again within {within}." if seconds else event.text
    return replace(state, transfer=_resting(state.transfer), problem=problem)


def _resting(transfer: Transfer | None) -> Transfer | None:
    return None if transfer is None else replace(transfer, bytes_per_s=None, left_s=None)


def _further(state: DownloadState, event: DownloadProgress) -> DownloadState:
    """The state after an event; what has arrived stays known while it is checked."""
    phase = _PHASES.get(event.stage, "downloading")
    if phase != "downloading":
        done = event.done_bytes / event.total_bytes if event.total_bytes else None
        return replace(state, phase=phase, done=done, problem="")
    transfer = state.transfer
    # While it is being listed, nobody knows how much there is to come.
    if event.total_bytes and event.stage != "listing":
        transfer = Transfer(
            event.done_bytes, event.total_bytes, event.bytes_per_s or None, event.seconds_left
        )
    problem = _SOMEBODY_ELSE if event.stage == "waiting" else ""
    return replace(state, phase=phase, transfer=transfer, done=None, problem=problem)
