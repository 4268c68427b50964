"""The window's side of inference: owns the thread, numbers the replies, hands out what arrives.

Lives in the GUI thread and never waits there except in `close`. Knows no widget: the window is
connected to its signals.
"""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from app.conversation.conversation import Turn
from app.conversation.detail import PictureDetail
from app.conversation.message import Attachment
from app.inference.incoming_reply import IncomingReply
from app.inference.requests import (
    compose_draft,
    compose_messages,
    name_of_what_is_looked_at,
)
from app.inference.token_buffer import TokenBuffer
from app.inference.wording import (
    opening_progress,
    progress_fraction,
    progress_sentence,
)
from app.inference.worker import (
    AheadJob,
    InferenceWorker,
    ModelCard,
    Opener,
    OpenJob,
    OpenProblem,
    ReplyJob,
    open_model,
)
from mlx_model.events import Event, Finished, Progress, TextDelta, ThinkingDelta

_log = logging.getLogger("fireside.inference")

State = Literal["closed", "loading", "idle", "replying"]

# The window takes what has arrived this often: 40 times a second.
DRAIN_INTERVAL_MS = 25
# Where taking it is slow, as at the end of a paragraph as long as a book, it rests this many times
# as long as it took: painting takes about as long again, and the rest is for the person's keys.
_REST = 2
# A stopped reply may still tell its figures for this long; after that the window stops waiting.
STOP_PATIENCE_MS = 150


class ReplyController(QObject):
    """Loads a model, starts and stops replies. Everything here runs in the GUI thread.

    Signals:
        state_changed(str): "closed", "loading", "idle" or "replying".
        opening_progressed(str, str, float): the stage of opening a model, "loading" or "checking",
            the same in words, and how much of it is done, from 0 to 1, or -1 when not known.
        model_opened(ModelCard): the model is ready to answer.
        model_failed(OpenProblem): it is not.
        reply_started(): a reply was asked for.
        files_left_out(tuple): Paths of earlier questions' files that have gone since.
        progress_changed(str, float): a sentence about the work before the first word, and how
            much of it is done, from 0 to 1, or -1 when that is not known.
        thinking_arrived(str), text_arrived(str): more of the reply.
        reply_finished(ChatMessage): the reply ended, by itself or because it was stopped.
        machine_measured(int, int): bytes of memory here, and how many of them models may use.
        reply_failed(ChatMessage): it broke off; `problem` says why, `text` is what had arrived.
        draft_read(): the files that were given to `work_ahead` last are read.
    """

    state_changed = Signal(str)
    opening_progressed = Signal(str, str, float)
    model_opened = Signal(object)
    model_failed = Signal(object)
    reply_started = Signal()
    files_left_out = Signal(object)
    progress_changed = Signal(str, float)
    thinking_arrived = Signal(str)
    text_arrived = Signal(str)
    reply_finished = Signal(object)
    reply_failed = Signal(object)
    draft_read = Signal()
    machine_measured = Signal(object, object)

    # To the worker, across threads.
    _open_requested = Signal(object)
    _reply_requested = Signal(object)
    _ahead_requested = Signal(object)
    _measure_requested = Signal()
    _close_requested = Signal()

    def __init__(
        self,
        opener: Opener = open_model,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._model_state: Literal["closed", "loading", "open"] = "closed"
        self._opening: OpenJob | None = None
        self._opening_progress = opening_progress("loading", 0, 0)
        self._reply: IncomingReply | None = None
        self._replies_begun = 0
        self._ahead = AheadJob(0, ())
        self._told_state: State = "closed"
        self._leaving = False
        self._closed = False

        self._buffer = TokenBuffer()
        self._last_drain = 0.0
        self._rest_ms = float(DRAIN_INTERVAL_MS)
        self._drain_timer = QTimer(self)
        self._drain_timer.setSingleShot(True)
        self._drain_timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._drain_timer.timeout.connect(self.drain)
        self._stop_timer = QTimer(self)
        self._stop_timer.setSingleShot(True)
        self._stop_timer.setInterval(STOP_PATIENCE_MS)
        self._stop_timer.timeout.connect(self.on_stop_patience_over)

        self._thread = QThread(self)
        self._thread.setObjectName("inference")
        self._worker = InferenceWorker(self._buffer, opener)
        self._worker.moveToThread(self._thread)
        self._open_requested.connect(self._worker.open_model)
        self._reply_requested.connect(self._worker.start_reply)
        self._ahead_requested.connect(self._worker.work_ahead)
        self._measure_requested.connect(self._worker.measure_machine)
        self._close_requested.connect(self._worker.close)
        self._worker.opening_progressed.connect(self.on_opening_progressed)
        self._worker.model_opened.connect(self.on_model_opened)
        self._worker.model_failed.connect(self.on_model_failed)
        self._worker.output_waiting.connect(self.on_output_waiting)
        self._worker.files_left_out.connect(self.on_files_left_out)
        self._worker.reply_finished.connect(self.on_reply_finished)
        self._worker.reply_failed.connect(self.on_reply_failed)
        self._worker.draft_read.connect(self.on_draft_read)
        self._worker.machine_measured.connect(self.machine_measured)
        self._thread.start()

    @property
    def state(self) -> State:
        """What the controller is doing; a reply asked for while loading counts as "replying"."""
        if self._reply is not None:
            return "replying"
        return "idle" if self._model_state == "open" else self._model_state

    @property
    def waits_for_model(self) -> bool:
        """True while a reply was asked for and the model that makes it is still loading."""
        return self._reply is not None and self._model_state == "loading"

    def open_model(self, folder: Path, *, anyway: bool = False) -> None:
        """Load the model in `folder`; `model_opened` or `model_failed` follows.

        One that is still loading is given up, and nothing more is told of it. `anyway` opens what
        is too large for this machine or fails its self-check. A reply that is being written goes
        on first.
        """
        self._ahead.cancel.set()
        if self._opening is not None:
            self._opening.cancel.set()
        self._model_state = "loading"
        self._opening = OpenJob(folder, anyway)
        self._opening_progress = opening_progress("loading", 0, 0)
        self._open_requested.emit(self._opening)
        self._tell_state()

    def measure_machine(self) -> None:
        """See how much memory there is; `machine_measured` follows."""
        self._measure_requested.emit()

    def start_reply(self, turns: Sequence[Turn], detail: PictureDetail = "normal") -> None:
        """Ask for the answer to the last of `turns`; while a model loads, the reply waits for it.

        `detail` is how closely the pictures are looked at, the earlier ones too.

        Raises RuntimeError when another reply is still being received.
        """
        if self._reply is not None:
            raise RuntimeError("a reply is already being received")
        self._replies_begun += 1
        self._ahead.cancel.set()
        messages = compose_messages(turns)
        job = ReplyJob(self._replies_begun, messages, turns[-1].thinking, detail)
        self._reply = IncomingReply(job, name_of_what_is_looked_at(turns[-1].question.attachments))
        self.reply_started.emit()
        if self._model_state == "loading":
            self.progress_changed.emit(*self._opening_progress)
        self._reply_requested.emit(job)
        self._tell_state()

    def work_ahead(
        self,
        turns: Sequence[Turn],
        attachments: Sequence[Attachment] = (),
        detail: PictureDetail = "normal",
    ) -> None:
        """Use the time until the next reply is asked for: read `turns` and the files of a draft.

        It takes the place of an earlier draft; `draft_read` may follow. While a reply is made or a
        model loads nothing happens.
        """
        self._ahead.cancel.set()
        if self.state == "idle":
            messages = compose_draft(turns, attachments)
            self._ahead = AheadJob(self._ahead.number + 1, messages, detail)
            self._ahead_requested.emit(self._ahead)

    def stop(self) -> None:
        """Stop the reply. It ends within `STOP_PATIENCE_MS`, whatever the engine is doing."""
        if self._reply is not None and not self._reply.job.cancel.is_set():
            self._reply.job.cancel.set()
            self._stop_timer.start()

    def abandon(self) -> None:
        """Stop the reply and forget it at once: nothing more is told of it."""
        if self._reply is not None:
            self._reply.job.cancel.set()
            self._end_reply()

    def close(self, limit_ms: int) -> bool:
        """Stop, free the model and end the thread; False when that took longer than `limit_ms`.

        After False the thread is still computing and only `os._exit` ends the program safely.
        """
        if self._closed:
            return True
        self._leaving = True
        self._ahead.cancel.set()
        if self._opening is not None:
            self._opening.cancel.set()
        self.abandon()
        self._drain_timer.stop()
        self._close_requested.emit()
        self._closed = self._thread.wait(limit_ms)
        if not self._closed:
            _log.warning("the inference thread was still busy after %d ms", limit_ms)
        return self._closed

    @Slot(str, int, int)
    def on_opening_progressed(self, stage: str, done: int, total: int) -> None:
        """The worker has come so far with opening a model; a reply that waits says so too."""
        if self._leaving or self._model_state != "loading":
            return
        self._opening_progress = opening_progress(stage, done, total)
        self.opening_progressed.emit(stage, *self._opening_progress)
        if self._reply is not None:
            self.progress_changed.emit(*self._opening_progress)

    @Slot(object)
    def on_model_opened(self, card: ModelCard) -> None:
        """The worker loaded a model; nobody is told any more once the window is leaving."""
        if self._leaving or not self._is_wanted(card.folder):
            return
        self._opening = None
        self._model_state = "open"
        self.model_opened.emit(card)
        self._tell_state()

    @Slot(object)
    def on_model_failed(self, problem: OpenProblem) -> None:
        """The worker could not load a model."""
        if self._leaving or not self._is_wanted(problem.folder):
            return
        self._opening = None
        self._model_state = "closed"
        self.model_failed.emit(problem)
        self._tell_state()

    @Slot()
    def on_output_waiting(self) -> None:
        """The buffer has content: take it now, or when the last drain is long enough ago."""
        since_ms = (time.monotonic() - self._last_drain) * 1000
        if since_ms >= self._rest_ms:
            self.drain()
        elif not self._drain_timer.isActive():
            self._drain_timer.start(max(1, math.ceil(self._rest_ms - since_ms)))

    @Slot()
    def drain(self) -> None:
        """Hand out what has arrived for the current reply, and drop the rest."""
        self._drain_timer.stop()
        began = time.monotonic()
        for reply_id, event in self._buffer.drain():
            if self._reply is not None and reply_id == self._reply.job.reply_id:
                self._hand_out(self._reply, event)
        self._last_drain = time.monotonic()
        self._rest_ms = max(DRAIN_INTERVAL_MS, _REST * 1000 * (self._last_drain - began))

    @Slot(int, object)
    def on_files_left_out(self, reply_id: int, paths: tuple[Path, ...]) -> None:
        """The worker does without some files of earlier questions."""
        if self._reply is not None and reply_id == self._reply.job.reply_id:
            self.files_left_out.emit(paths)

    @Slot(int, object)
    def on_reply_finished(self, reply_id: int, finished: Finished) -> None:
        """The worker ended a reply; one that is no longer the current one is ignored."""
        self.drain()
        if self._reply is None or reply_id != self._reply.job.reply_id:
            return
        message = self._reply.ended(finished)
        self._end_reply()
        self.reply_finished.emit(message)

    @Slot(int)
    def on_draft_read(self, number: int) -> None:
        """The worker has read a draft; one that has changed since is ignored."""
        if number == self._ahead.number and not self._ahead.cancel.is_set():
            self.draft_read.emit()

    @Slot(int, str)
    def on_reply_failed(self, reply_id: int, sentence: str) -> None:
        """A reply broke off; one that is no longer the current one is ignored."""
        self.drain()
        if self._reply is None or reply_id != self._reply.job.reply_id:
            return
        message = self._reply.message(problem=sentence)
        self._end_reply()
        self.reply_failed.emit(message)

    @Slot()
    def on_stop_patience_over(self) -> None:
        """The engine is slow to notice the stop: end the reply here, what comes late is dropped."""
        self.drain()
        if self._reply is None:
            return
        message = self._reply.message(stopped=True)
        self._end_reply()
        self.reply_finished.emit(message)

    def _is_wanted(self, folder: Path) -> bool:
        """Whether this is the model that was asked for last."""
        return self._opening is not None and self._opening.folder == folder

    def _hand_out(self, reply: IncomingReply, event: Event) -> None:
        reply.take(event)
        match event:
            case TextDelta(text=text):
                self.text_arrived.emit(text)
            case ThinkingDelta(text=text):
                self.thinking_arrived.emit(text)
            case Progress():
                sentence = progress_sentence(event, reply.looked_at)
                self.progress_changed.emit(sentence, progress_fraction(event))

    def _end_reply(self) -> None:
        self._reply = None
        self._stop_timer.stop()
        self._tell_state()

    def _tell_state(self) -> None:
        if self.state != self._told_state:
            self._told_state = self.state
            self.state_changed.emit(self._told_state)
