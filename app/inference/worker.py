"""The inference thread's side: holds the engine and runs one reply after another.

Lives on the one thread on which the model is loaded, run and freed. Knows no widget, and nothing of
the conversation beyond the request it is handed.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QObject, QThread, QTimer, Signal, Slot

from app.conversation.detail import PictureDetail
from app.inference.requests import reply_settings, without_gone_files
from app.inference.token_buffer import TokenBuffer
from mlx_model.errors import FiresideError, SelfCheckError, TooLargeError
from mlx_model.events import Event, Finished, Prepared, ReplyStats
from mlx_model.messages import Message, ReplyRequest

_log = logging.getLogger("fireside.inference")

# Five steps: about a third of the processor time that the window's thread gets in a contest.
_NICENESS = 5

# Whoever asks nothing and changes no draft for so long is taken to be away.
_AWAY_MS = 30_000

# How long the end of the program may take for what is not on the disk yet.
_PUT_AWAY_S = 1.5

_UNEXPECTED = (
    "Something went wrong inside the program. Ask again; "
    "if it happens again, please report it with the log file."
)


class ReplyEngine(Protocol):
    """What the worker needs of an engine."""

    @property
    def name(self) -> str:
        """What the window calls the model."""

    @property
    def note(self) -> str:
        """A few words about what the model is good for; may be empty."""

    @property
    def is_demo(self) -> bool:
        """True for the demo model."""

    def reply(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Yield the events of one reply; `Finished` is the last of them."""

    def prepare(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Read ahead what is known of the next request; `Prepared` is the last event."""

    def idle(self, cancel: threading.Event) -> Iterator[Event]:
        """Do what is worth doing while nobody waits."""

    def warm_up(self, cancel: threading.Event) -> None:
        """Do what is worth doing while nobody is there."""

    def close(self, limit_s: float) -> None:
        """Put away what outlives the program."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the window tells about the model that answers, and the folder it is in."""

    name: str
    note: str
    is_demo: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class OpenProblem:
    """Why the model in `folder` was not opened; `can_override` where a person may insist."""

    folder: Path
    sentence: str
    can_override: bool = False


@dataclass(frozen=True, slots=True)
class ReplyJob:
    """One reply to make: its id, what to read and how closely, and the event that stops it."""

    reply_id: int
    messages: tuple[Message, ...]
    thinking: bool = False
    detail: PictureDetail = "normal"
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class AheadJob:
    """Work that nobody waits for: read these messages ahead, if there are any, then tidy up.

    The last message is the files of a draft, or an answer. `number` tells one draft from another.
    """

    number: int
    messages: tuple[Message, ...]
    detail: PictureDetail = "normal"
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class OpenJob:
    """One model to load: its folder, and the event that gives it up.

    `anyway` is a person who insists, after being told that it is too large for this machine or has
    failed its self-check; `despite_check` is for the worker, who knows which of the two was told.
    """

    folder: Path
    anyway: bool = False
    despite_check: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)


# Hears of the stage, "loading" or "checking", and how much of it is done; of 0 nobody knows.
OnOpening = Callable[[str, int, int], None]
Opener = Callable[[OpenJob, OnOpening], ReplyEngine]


def open_model(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
    """Load a model and check it. Call on the inference thread, which is where MLX is imported.

    Raises some exception soon after the job's `cancel` is set.
    """
    step_back()
    from mlx_model import open_engine

    return open_engine(
        job.folder,
        cancel=job.cancel,
        on_progress=on_progress,
        despite_size=job.anyway,
        despite_check=job.despite_check,
    ).engine


def step_back() -> None:
    """Let the window go first where processors are scarce; for the calling thread, for good.

    Threads that it starts inherit this, MLX's own among them. Linux counts niceness by thread;
    elsewhere it belongs to the whole process, and macOS favours the window's thread by itself.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class InferenceWorker(QObject):
    """Runs the engine. All slots run in the inference thread and catch everything.

    Signals:
        opening_progressed(str, int, int): the stage of opening, what is done of it and in all.
        model_opened(ModelCard): the model is ready to answer.
        model_failed(OpenProblem): it could not be loaded.
        files_left_out(int, tuple): Paths that the reply with this id does without.
        output_waiting(): the buffer has something to drain; at most once between two drains.
        reply_finished(int, Finished): the reply with this id ended.
        reply_failed(int, str): the reply with this id broke off; the sentence says why.
        draft_read(int): the files of the draft with this number need not be read any more.
        machine_measured(int, int): bytes of memory here, and how many of them models may use.
    """

    opening_progressed = Signal(str, int, int)
    model_opened = Signal(object)
    model_failed = Signal(object)
    files_left_out = Signal(int, object)
    output_waiting = Signal()
    reply_finished = Signal(int, object)
    reply_failed = Signal(int, str)
    draft_read = Signal(int)
    # Objects: Qt's own whole numbers end at 2 GiB.
    machine_measured = Signal(object, object)

    def __init__(self, buffer: TokenBuffer, opener: Opener = open_model) -> None:
        super().__init__()
        self._buffer = buffer
        self._opener = opener
        self._engine: ReplyEngine | None = None
        self._why_no_engine = "No model is open yet."
        # Folders of models that are known to have failed their self-checks.
        self._doubtful: set[Path] = set()
        self._ahead = AheadJob(0, ())
        self._away_timer = QTimer(self, interval=_AWAY_MS, singleShot=True)
        self._away_timer.timeout.connect(self.on_away)

    @Slot(object)
    def open_model(self, job: OpenJob) -> None:
        """Load a model in place of the one that is open, unless nobody wants it any more."""
        if job.cancel.is_set():
            return
        self._engine = None
        job = replace(job, despite_check=job.anyway and job.folder in self._doubtful)
        try:
            engine = self._opener(job, self.opening_progressed.emit)
            card = ModelCard(engine.name, engine.note, engine.is_demo, job.folder)
        except Exception as error:  # noqa: BLE001 - a slot has nobody above it to catch anything
            if job.cancel.is_set():
                return
            self._why_no_engine = _sentence(error)
            if isinstance(error, SelfCheckError):
                self._doubtful.add(job.folder)
            can_override = isinstance(error, TooLargeError | SelfCheckError)
            self.model_failed.emit(OpenProblem(job.folder, self._why_no_engine, can_override))
            return
        if not job.cancel.is_set():
            self._engine = engine
            self.model_opened.emit(card)

    @Slot(object)
    def start_reply(self, job: ReplyJob) -> None:
        """Make one reply; returns when it has ended."""
        if job.cancel.is_set():  # while it waited for the model
            self.reply_finished.emit(job.reply_id, Finished("cancelled", ReplyStats()))
            return
        if self._engine is None:
            self.reply_failed.emit(job.reply_id, self._why_no_engine)
            return
        try:
            finished = self._run(self._engine, job)
        except Exception as error:  # noqa: BLE001 - as above
            self.reply_failed.emit(job.reply_id, _sentence(error))
            return
        self.reply_finished.emit(job.reply_id, finished)

    @Slot(object)
    def work_ahead(self, job: AheadJob) -> None:
        """Use the time until the next request; gives way within one piece of the work."""
        if self._engine is None or job.cancel.is_set():
            return
        try:
            if job.messages and self._has_read(self._engine, job):
                self.draft_read.emit(job.number)
            for _ in self._engine.idle(job.cancel):
                pass
        except FiresideError as error:
            _log.info("not read ahead: %s", error)  # whoever asks hears of it
        except Exception:  # noqa: BLE001 - a slot has nobody above it to catch anything
            _log.exception("unexpected error in work ahead")
        self._ahead = job
        self._away_timer.start()

    @Slot()
    def on_away(self) -> None:
        """Nothing has been asked for a while: there is time for what does not give way at once."""
        if self._engine is None:
            return
        try:
            self._engine.warm_up(self._ahead.cancel)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("unexpected error while nobody was there")

    @Slot()
    def measure_machine(self) -> None:
        """See how much memory there is; here because only this thread asks MLX."""
        from mlx_model import MachineLimits

        try:
            limits = MachineLimits.detect()
        except Exception:  # noqa: BLE001 - a slot has nobody above it to catch anything
            _log.exception("the machine could not be measured")
            return
        self.machine_measured.emit(limits.memory_bytes, limits.working_set_bytes)

    @Slot()
    def close(self) -> None:
        """Free the model and end the thread's event loop."""
        self._away_timer.stop()
        if self._engine is not None:
            try:
                self._engine.close(_PUT_AWAY_S)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("what was read could not be put away")
        self._engine = None
        QThread.currentThread().quit()

    def _has_read(self, engine: ReplyEngine, job: AheadJob) -> bool:
        settings = reply_settings(False, engine.is_demo, job.detail)
        messages, _ = without_gone_files(job.messages)
        done = False
        for event in engine.prepare(ReplyRequest(messages, settings), job.cancel):
            done = isinstance(event, Prepared) and event.is_complete
        return done

    def _run(self, engine: ReplyEngine, job: ReplyJob) -> Finished:
        settings = reply_settings(job.thinking, engine.is_demo, job.detail)
        messages, gone = without_gone_files(job.messages)
        if gone:
            self.files_left_out.emit(job.reply_id, gone)
        request = ReplyRequest(messages, settings)
        for event in engine.reply(request, job.cancel):
            if isinstance(event, Finished):
                return event
            if self._buffer.put(job.reply_id, event):
                self.output_waiting.emit()
        raise RuntimeError("the engine stopped without saying how the reply ended")


def _sentence(error: Exception) -> str:
    """What to tell the person; what they can do nothing about goes to the log in full."""
    if isinstance(error, FiresideError):
        return str(error)
    _log.error("unexpected error in the inference thread", exc_info=error)
    return _UNEXPECTED
