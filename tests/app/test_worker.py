"""The worker's slots, called directly with no thread."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QTimer
from pytestqt.qtbot import QtBot

from app.inference.token_buffer import TokenBuffer
from app.inference.worker import (
    AheadJob,
    InferenceWorker,
    ModelCard,
    OnOpening,
    OpenJob,
    OpenProblem,
    ReplyEngine,
    ReplyJob,
    open_model,
)
from app.resources import DEMO_MODEL_DIR
from mlx_model.errors import CheckpointError, MediaError, SelfCheckError, TooLargeError
from mlx_model.events import Event, Finished, ReplyStats, TextDelta
from mlx_model.messages import Message, ReplyRequest
from tests.app.scripted_engine import Script, ScriptedEngine, finished

MESSAGES = (Message.text("user", "hello"),)


class Heard:
    """Everything a worker signalled, in order."""

    def __init__(self, worker: InferenceWorker) -> None:
        self.signals: list[tuple[object, ...]] = []
        worker.model_opened.connect(lambda card: self.signals.append(("opened", card)))
        worker.model_failed.connect(lambda why: self.signals.append(("not opened", why)))
        worker.output_waiting.connect(lambda: self.signals.append(("waiting",)))
        worker.reply_finished.connect(lambda i, end: self.signals.append(("finished", i, end)))
        worker.reply_failed.connect(lambda i, why: self.signals.append(("failed", i, why)))


def open_worker(script: Script) -> tuple[InferenceWorker, TokenBuffer, Heard]:
    engine = ScriptedEngine(script)
    buffer = TokenBuffer()
    worker = InferenceWorker(buffer, lambda job, on_progress: engine)
    heard = Heard(worker)
    worker.open_model(OpenJob(Path("anywhere")))
    assert heard.signals == [("opened", ModelCard("Scripted", "for tests", True, Path("anywhere")))]
    heard.signals.clear()
    return worker, buffer, heard


def test_a_reply_goes_through_the_buffer_and_ends_with_its_figures(qtbot: QtBot) -> None:
    end = finished(generated_tokens=3)

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        assert request == ReplyRequest(MESSAGES)
        yield TextDelta("a ")
        yield TextDelta("red ")
        yield TextDelta("circle")
        yield end

    worker, buffer, heard = open_worker(script)
    worker.start_reply(ReplyJob(7, MESSAGES))
    assert heard.signals == [("waiting",), ("finished", 7, end)]
    assert [(e.reply_id, e.event) for e in buffer.drain()] == [(7, TextDelta("a red circle"))]


def test_the_event_of_the_job_reaches_the_engine(qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("one")
        yield finished("cancelled" if cancel.is_set() else "stop")

    worker, _, heard = open_worker(script)
    job = ReplyJob(1, MESSAGES)
    job.cancel.set()
    worker.start_reply(job)
    end = heard.signals[-1][2]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"


def test_an_error_of_the_person_is_passed_on_as_its_sentence(qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half")
        raise MediaError("The picture is gone.")

    worker, buffer, heard = open_worker(script)
    worker.start_reply(ReplyJob(3, MESSAGES))
    assert heard.signals[-1] == ("failed", 3, "The picture is gone.")
    assert [entry.event for entry in buffer.drain()] == [TextDelta("half")]


def test_an_unexpected_error_is_logged_and_told_in_plain_words(
    qtbot: QtBot, caplog: pytest.LogCaptureFixture
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half")
        raise ZeroDivisionError("secret detail")

    worker, _, heard = open_worker(script)
    worker.start_reply(ReplyJob(3, MESSAGES))
    kind, reply_id, sentence = heard.signals[-1]
    assert (kind, reply_id) == ("failed", 3)
    assert isinstance(sentence, str)
    assert "secret detail" not in sentence
    assert "Ask again" in sentence
    assert "ZeroDivisionError: secret detail" in caplog.text
    assert "Traceback" in caplog.text


def test_an_engine_that_never_finishes_is_a_failure(qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half")

    worker, _, heard = open_worker(script)
    worker.start_reply(ReplyJob(3, MESSAGES))
    assert heard.signals[-1][:2] == ("failed", 3)


def test_a_reply_without_a_model_says_why_there_is_none(qtbot: QtBot) -> None:
    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        raise CheckpointError(f"The folder {job.folder} holds no model.")

    worker = InferenceWorker(TokenBuffer(), opener)
    heard = Heard(worker)
    worker.start_reply(ReplyJob(1, MESSAGES))
    worker.open_model(OpenJob(Path("empty")))
    worker.start_reply(ReplyJob(2, MESSAGES))
    assert heard.signals == [
        ("failed", 1, "No model is open yet."),
        ("not opened", OpenProblem(Path("empty"), "The folder empty holds no model.")),
        ("failed", 2, "The folder empty holds no model."),
    ]


def test_the_worker_goes_on_after_a_failure(qtbot: QtBot) -> None:
    replies: list[Callable[[], Event]] = []

    def broken() -> Event:
        raise RuntimeError("broken")

    replies += [broken, finished]

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield replies.pop(0)()

    worker, _, heard = open_worker(script)
    worker.start_reply(ReplyJob(1, MESSAGES))
    worker.start_reply(ReplyJob(2, MESSAGES))
    assert [signal[:2] for signal in heard.signals] == [("failed", 1), ("finished", 2)]


def test_a_job_that_was_stopped_before_its_turn_is_never_read() -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        raise AssertionError("nobody wants this any more")
        yield

    worker, buffer, heard = open_worker(script)
    job = ReplyJob(3, MESSAGES)
    job.cancel.set()
    worker.start_reply(job)
    assert buffer.drain() == []
    assert heard.signals[-1] == ("finished", 3, Finished("cancelled", ReplyStats()))


def test_a_model_that_is_given_up_while_it_loads_is_nothing_to_tell(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def open_and_give_up(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
        job.cancel.set()
        return open_model(job, on_progress)

    worker = InferenceWorker(TokenBuffer(), open_and_give_up)
    heard = Heard(worker)
    worker.open_model(OpenJob(DEMO_MODEL_DIR))
    assert heard.signals == []
    assert not caplog.records


def test_a_model_that_is_too_large_is_told_apart_and_opened_on_the_persons_word() -> None:
    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        if not job.anyway:
            raise TooLargeError("It is too large.")
        return ScriptedEngine(lambda request, cancel: iter(()))

    worker = InferenceWorker(TokenBuffer(), opener)
    heard = Heard(worker)
    worker.open_model(OpenJob(Path("large")))
    problem = OpenProblem(Path("large"), "It is too large.", can_override=True)
    assert heard.signals == [("not opened", problem)]
    worker.open_model(OpenJob(Path("large"), anyway=True))
    assert heard.signals[-1][0] == "opened"


def test_a_model_is_checked_before_it_may_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESIDE_CACHE", str(tmp_path / "cache"))
    model = Path(shutil.copytree(DEMO_MODEL_DIR, tmp_path / "model"))
    worker = InferenceWorker(TokenBuffer(), open_model)
    heard = Heard(worker)
    stages: list[tuple[str, int, int]] = []
    worker.opening_progressed.connect(lambda *step: stages.append(step))
    worker.open_model(OpenJob(model))
    assert heard.signals[-1][0] == "opened"
    assert stages[0] == ("loading", 0, 0)
    assert stages[-1] == ("checking", 7, 7)
    (model / "self_check.json").write_text('[{"question": "Hello", "says": ["a teapot"]}]')
    worker.open_model(OpenJob(model))
    problem = heard.signals[-1][1]
    assert isinstance(problem, OpenProblem)
    assert problem.can_override
    why = problem.sentence
    assert why.startswith("Demo model failed its self-check")
    worker.start_reply(ReplyJob(1, MESSAGES))
    assert heard.signals[-1] == ("failed", 1, why)
    worker.open_model(OpenJob(model, anyway=True))
    card = heard.signals[-1][1]
    assert isinstance(card, ModelCard)
    assert card.note.endswith("failed its self-check")


def test_who_insists_on_a_large_model_has_not_heard_that_it_talks_nonsense() -> None:
    despite: list[tuple[bool, bool]] = []

    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        despite.append((job.anyway, job.despite_check))
        if not job.anyway:
            raise TooLargeError("It is too large.")
        if not job.despite_check:
            raise SelfCheckError("It talks nonsense.")
        return ScriptedEngine(lambda request, cancel: iter(()))

    worker = InferenceWorker(TokenBuffer(), opener)
    heard = Heard(worker)
    worker.open_model(OpenJob(Path("large")))
    for _ in range(2):
        worker.open_model(OpenJob(Path("large"), anyway=True))
    assert despite == [(False, False), (True, False), (True, True)]
    assert heard.signals[1] == (
        "not opened",
        OpenProblem(Path("large"), "It talks nonsense.", can_override=True),
    )
    assert heard.signals[2][0] == "opened"


def test_who_asks_nothing_for_a_while_is_taken_to_be_away(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[bool] = []
    monkeypatch.setattr("app.inference.worker._AWAY_MS", 1)
    monkeypatch.setattr(
        ScriptedEngine, "warm_up", lambda engine, cancel: warmed.append(cancel.is_set())
    )
    worker, _, _ = open_worker(lambda request, cancel: iter([finished()]))
    worker.work_ahead(AheadJob(1, ()))
    qtbot.waitUntil(lambda: warmed == [False])
    assert not worker.findChild(QTimer).isActive(), "once, until there is something to do again"


def test_what_goes_wrong_while_nobody_is_there_is_only_logged(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warm_up(engine: ScriptedEngine, cancel: threading.Event) -> None:
        raise RuntimeError("no room for kernels")

    monkeypatch.setattr("app.inference.worker._AWAY_MS", 1)
    monkeypatch.setattr(ScriptedEngine, "warm_up", warm_up)
    worker, _, _ = open_worker(lambda request, cancel: iter([finished()]))
    worker.work_ahead(AheadJob(1, ()))
    qtbot.waitUntil(lambda: "no room for kernels" in caplog.text)
