"""The controller with its real thread and a scripted engine."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QThread
from pytestqt.qtbot import QtBot

from app.conversation.conversation import Turn
from app.conversation.message import Attachment, ChatMessage
from app.inference.controller import STOP_PATIENCE_MS, ReplyController
from app.inference.worker import OnOpening, OpenJob, OpenProblem
from mlx_model.errors import MediaError, TooLargeError
from mlx_model.events import Event, Notice, Prepared, Progress, TextDelta, ThinkingDelta
from mlx_model.messages import ReplyRequest
from tests.app.scripted_engine import Script, ScriptedEngine, finished, wait_for_stop

CLIP = Attachment(Path("/p/clip.mp4"), "video", "clip.mp4")
FIRST = [Turn(ChatMessage("user", "hello", attachments=(CLIP,)))]
NEXT = [Turn(ChatMessage("user", "next"))]
MakeController = Callable[[ScriptedEngine], ReplyController]


class Ear:
    """What a controller told, in order."""

    def __init__(self, controller: ReplyController) -> None:
        self.text = ""
        self.thinking = ""
        self.progress: list[tuple[str, float]] = []
        self.states: list[str] = []
        self.ends: list[ChatMessage] = []
        self.failures: list[ChatMessage] = []
        self.deliveries = 0
        controller.text_arrived.connect(self._on_text)
        controller.thinking_arrived.connect(self._on_thinking)
        controller.progress_changed.connect(lambda s, f: self.progress.append((s, f)))
        controller.state_changed.connect(self.states.append)
        controller.reply_finished.connect(self.ends.append)
        controller.reply_failed.connect(self.failures.append)

    def _on_text(self, text: str) -> None:
        self.text += text
        self.deliveries += 1

    def _on_thinking(self, text: str) -> None:
        self.thinking += text


def opened(make: MakeController, script: Script, qtbot: QtBot) -> tuple[ReplyController, Ear]:
    controller = make(ScriptedEngine(script))
    with qtbot.waitSignal(controller.model_opened):
        controller.open_model(Path("anywhere"))
    return controller, Ear(controller)


def test_a_reply_from_start_to_end(make_controller: MakeController, qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield Progress("looking", 2, 4)
        time.sleep(0.06)
        yield ThinkingDelta("A round ")
        time.sleep(0.06)
        yield ThinkingDelta("thing.")
        yield TextDelta("A red ")
        yield TextDelta("circle.")
        yield Notice("Only the first frame was read.")
        yield finished(read_tokens=5, prompt_tokens=9, generated_tokens=8, decode_tokens_per_s=30)

    controller, ear = opened(make_controller, script, qtbot)
    assert controller.state == "idle"
    with qtbot.waitSignal(controller.reply_finished):
        controller.start_reply(FIRST)
    assert ear.text == "A red circle."
    assert ear.thinking == "A round thing."
    assert ear.progress == [("Looking at the clip, 50 %", 0.5)]
    assert ear.states == ["replying", "idle"]
    (message,) = ear.ends
    assert message.text == "A red circle."
    assert message.thinking == "A round thing."
    assert message.thinking_s is not None
    assert 0.02 < message.thinking_s < 2
    assert message.footnote == "read 5 of 9 · first word 0.0 s · 30 tokens/s"
    assert message.problem == "Only the first frame was read."
    assert not message.stopped


def test_the_engine_runs_on_its_own_thread_and_always_the_same(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield finished()

    engine = ScriptedEngine(script)
    controller = make_controller(engine)
    controller.open_model(Path("anywhere"))
    for _ in range(3):
        with qtbot.waitSignal(controller.reply_finished):
            controller.start_reply(FIRST)
    assert len({id(thread) for thread in engine.threads}) == 1
    assert engine.threads[0] is not QThread.currentThread()


def test_text_reaches_the_window_in_few_deliveries(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        for _ in range(500):
            yield TextDelta("x")
            time.sleep(0.0004)
        yield finished()

    controller, ear = opened(make_controller, script, qtbot)
    began = time.monotonic()
    with qtbot.waitSignal(controller.reply_finished):
        controller.start_reply(FIRST)
    assert ear.text == "x" * 500
    assert ear.deliveries <= (time.monotonic() - began) / 0.025 + 3


def test_stop_keeps_what_was_said(make_controller: MakeController, qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half an ans")
        wait_for_stop(cancel)
        yield finished("cancelled", read_tokens=3, prompt_tokens=3)

    controller, ear = opened(make_controller, script, qtbot)
    with qtbot.waitSignal(controller.text_arrived):
        controller.start_reply(FIRST)
    began = time.monotonic()
    with qtbot.waitSignal(controller.reply_finished):
        controller.stop()
    assert time.monotonic() - began < 1
    (message,) = ear.ends
    assert message.text == "half an ans"
    assert message.stopped
    assert message.footnote == "read 3 of 3"
    assert ear.states == ["replying", "idle"]


def test_stop_ends_the_reply_even_when_the_engine_is_deaf(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    release = threading.Event()

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        if len(request.messages[0].content) == 2:
            yield TextDelta("first")
            release.wait(10)
            yield TextDelta(" too late")
        else:
            yield TextDelta("second")
        yield finished()

    controller, ear = opened(make_controller, script, qtbot)
    with qtbot.waitSignal(controller.text_arrived):
        controller.start_reply(FIRST)
    with qtbot.waitSignal(controller.reply_finished, timeout=STOP_PATIENCE_MS + 1000):
        controller.stop()
    assert ear.ends[0].text == "first"
    assert ear.ends[0].stopped
    controller.start_reply(NEXT)
    release.set()
    with qtbot.waitSignal(controller.reply_finished):
        pass
    assert ear.text == "firstsecond", "late words of the stopped reply have to be dropped"
    assert [message.text for message in ear.ends] == ["first", "second"]


def test_an_abandoned_reply_is_never_heard_of_again(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    was_told: list[bool] = []

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        if len(request.messages[0].content) == 2:
            yield TextDelta("old")
            wait_for_stop(cancel)
            was_told.append(cancel.is_set())
            yield TextDelta("old too")
            yield finished("cancelled")
        yield TextDelta("new")
        yield finished()

    controller, ear = opened(make_controller, script, qtbot)
    with qtbot.waitSignal(controller.text_arrived):
        controller.start_reply(FIRST)
    controller.abandon()
    assert controller.state == "idle"
    with qtbot.waitSignal(controller.reply_finished):
        controller.start_reply(NEXT)
    assert was_told == [True], "the engine has to stop working on it"
    assert ear.text == "oldnew"
    assert [message.text for message in ear.ends] == ["new"]


def test_a_failure_keeps_what_was_said_and_says_why(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half")
        raise MediaError("shapes.png is gone. Add it again.")

    controller, ear = opened(make_controller, script, qtbot)
    with qtbot.waitSignal(controller.reply_failed):
        controller.start_reply(FIRST)
    assert ear.failures == [
        ChatMessage("assistant", "half", problem="shapes.png is gone. Add it again.")
    ]
    assert ear.ends == []
    assert controller.state == "idle"


def test_a_question_asked_while_the_model_loads_waits_for_it(qtbot: QtBot) -> None:
    loaded = threading.Event()

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("hello")
        yield finished()

    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        loaded.wait(10)
        return ScriptedEngine(script)

    controller = ReplyController(opener)
    ear = Ear(controller)
    controller.open_model(Path("anywhere"))
    assert controller.state == "loading"
    controller.start_reply(FIRST)
    assert controller.state == "replying"
    loaded.set()
    with qtbot.waitSignal(controller.reply_finished):
        pass
    assert ear.text == "hello"
    assert ear.states == ["loading", "replying", "idle"]
    assert ear.progress == [("Opening the model", -1.0)]
    assert controller.close(10_000)


def test_how_far_the_opening_has_come_is_told_to_whoever_waits(qtbot: QtBot) -> None:
    asked = threading.Event()

    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        on_progress("loading", 0, 0)
        assert asked.wait(10)
        on_progress("checking", 2, 5)
        return ScriptedEngine(lambda request, cancel: iter([finished()]))

    controller = ReplyController(opener)
    ear = Ear(controller)
    told: list[tuple[str, str, float]] = []
    controller.opening_progressed.connect(lambda *step: told.append(step))
    controller.open_model(Path("anywhere"))
    qtbot.waitUntil(lambda: bool(told))
    controller.start_reply(FIRST)
    asked.set()
    with qtbot.waitSignal(controller.reply_finished):
        pass
    assert told == [
        ("loading", "Opening the model", -1.0),
        ("checking", "Checking the model, 40 %", 0.4),
    ]
    assert ear.progress == [step[1:] for step in told]
    assert controller.close(10_000)


def test_a_model_that_is_too_large_is_opened_on_the_persons_word(qtbot: QtBot) -> None:
    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        if not job.anyway:
            raise TooLargeError("It is too large.")
        return ScriptedEngine(lambda request, cancel: iter([finished()]))

    controller = ReplyController(opener)
    with qtbot.waitSignal(controller.model_failed) as failed:
        controller.open_model(Path("large"))
    assert failed.args == [OpenProblem(Path("large"), "It is too large.", can_override=True)]
    assert controller.state == "closed"
    with qtbot.waitSignal(controller.model_opened):
        controller.open_model(Path("large"), anyway=True)
    assert controller.close(10_000)


def test_the_model_asked_for_last_is_the_one_that_opens(qtbot: QtBot) -> None:
    began = threading.Event()
    given_up: list[bool] = []

    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        if job.folder == Path("first"):
            began.set()
            given_up.append(job.cancel.wait(10))
        return ScriptedEngine(lambda request, cancel: iter([finished()]))

    controller = ReplyController(opener)
    opened: list[Path] = []
    controller.model_opened.connect(lambda card: opened.append(card.folder))
    controller.open_model(Path("first"))
    assert began.wait(30)
    controller.open_model(Path("second"))
    qtbot.waitUntil(lambda: controller.state == "idle")
    assert controller.close(10_000)
    assert given_up == [True]
    assert opened == [Path("second")]


def test_a_model_that_does_not_load_is_told_in_a_sentence(qtbot: QtBot) -> None:
    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        raise MediaError("No model here.")

    controller = ReplyController(opener)
    with qtbot.waitSignal(controller.model_failed) as failed:
        controller.open_model(Path("anywhere"))
    assert failed.args == [OpenProblem(Path("anywhere"), "No model here.")]
    assert controller.state == "closed"
    assert controller.close(10_000)


def test_closing_gives_up_the_model_that_is_loading(qapp: object) -> None:
    began, given_up = threading.Event(), threading.Event()

    def opener(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
        began.set()
        if job.cancel.wait(30):
            given_up.set()
            raise RuntimeError("given up")
        raise AssertionError("nobody gave it up")

    controller = ReplyController(opener)
    controller.open_model(Path("anywhere"))
    controller.start_reply(FIRST)
    assert began.wait(30)
    assert controller.close(20_000)
    assert given_up.is_set()


def test_two_replies_at_once_are_refused(make_controller: MakeController, qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        wait_for_stop(cancel)
        yield finished("cancelled")

    controller, _ = opened(make_controller, script, qtbot)
    controller.start_reply(FIRST)
    with pytest.raises(RuntimeError, match="already"):
        controller.start_reply(FIRST)


@pytest.mark.parametrize("when", ["at once", "in the middle of a reply"])
def test_closing_ends_the_thread(make_controller: MakeController, qtbot: QtBot, when: str) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("x")
        wait_for_stop(cancel)
        yield finished("cancelled")

    engine = ScriptedEngine(script)
    controller = make_controller(engine)
    ear = Ear(controller)
    if when != "at once":
        controller.open_model(Path("anywhere"))
        with qtbot.waitSignal(controller.text_arrived):
            controller.start_reply(FIRST)
    assert controller.close(10_000)
    assert controller.close(10_000), "closing twice is allowed"
    assert ear.ends == []
    assert ear.failures == []


def test_closing_gives_up_on_an_engine_that_never_listens(qtbot: QtBot) -> None:
    release = threading.Event()

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("x")
        release.wait(10)
        yield finished()

    controller = ReplyController(lambda job, on_progress: ScriptedEngine(script))
    controller.open_model(Path("anywhere"))
    with qtbot.waitSignal(controller.text_arrived):
        controller.start_reply(FIRST)
    assert not controller.close(50)
    release.set()
    assert controller.close(10_000)


def test_a_window_that_draws_slowly_gets_time_for_other_things(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        while not cancel.is_set():
            yield TextDelta("more ")
            time.sleep(0.001)
        yield finished("cancelled")

    controller, _ = opened(make_controller, script, qtbot)
    rests: list[float] = []
    ended: list[float] = []

    def draw_slowly(text: str) -> None:
        if ended:
            rests.append(time.monotonic() - ended[-1])
        time.sleep(0.03)
        ended.append(time.monotonic())

    controller.text_arrived.connect(draw_slowly)
    controller.start_reply(NEXT)
    qtbot.waitUntil(lambda: len(rests) >= 5, timeout=20_000)
    controller.stop()
    qtbot.waitUntil(lambda: controller.state == "idle", timeout=20_000)
    # No upper bound: a busy machine may rest longer.
    assert min(rests[:5]) > 0.05, "twice as long as drawing took"


def test_a_draft_that_has_changed_since_is_not_ready(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield finished()

    controller, _ = opened(make_controller, script, qtbot)
    heard: list[bool] = []
    controller.draft_read.connect(lambda: heard.append(True))
    with qtbot.waitSignal(controller.draft_read):
        controller.work_ahead((), (CLIP,))
    controller.on_draft_read(0)
    assert heard == [True], "an earlier one"
    with qtbot.waitSignal(controller.reply_finished):
        controller.work_ahead((), (CLIP,))
        controller.start_reply(FIRST)
        controller.work_ahead((), (CLIP,))
        assert controller.state == "replying"
    assert heard == [True], "a reply came between"


def test_a_reply_does_not_wait_until_a_draft_is_read(
    make_controller: MakeController, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def read(
        self: ScriptedEngine, request: ReplyRequest, cancel: threading.Event
    ) -> Iterator[Event]:
        begun.set()
        wait_for_stop(cancel)
        yield Prepared(0, 0, 0, 0, is_complete=not cancel.is_set())

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield finished()

    monkeypatch.setattr(ScriptedEngine, "prepare", read)
    controller, _ = opened(make_controller, script, qtbot)
    heard: list[bool] = []
    controller.draft_read.connect(lambda: heard.append(True))
    controller.work_ahead((), (CLIP,))
    qtbot.waitUntil(begun.is_set)
    with qtbot.waitSignal(controller.reply_finished):
        controller.start_reply(FIRST)
    assert heard == [], "it was interrupted"
