"""Messages sent while the model is still loading wait and can be taken back; nothing is lost.

Also what is sent while something of it is still being read.
"""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.inference import inspector
from app.inference.inspection import stamp_of
from app.inference.worker import OnOpening, OpenJob, ReplyEngine
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from app.terminal.line_reader import LineReader
from app.terminal.narrator import Narrator
from app.terminal.terminal_composer import TerminalComposer
from mlx_model.errors import CheckpointError
from mlx_model.events import Event, TextDelta
from mlx_model.messages import ImagePart, ReplyRequest, TextPart
from tests.app.scripted_engine import ScriptedEngine, finished

PICTURE = SAMPLES_DIR / "shapes.png"
CLIP = SAMPLES_DIR / "clip.mp4"


def echo(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    last = request.messages[-1].content[-1]
    yield TextDelta(last.text if isinstance(last, TextPart) else "nothing")
    yield finished()


class SlowModel:
    """A model that loads until it is told to be there, or to fail."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine(echo)
        self.error: CheckpointError | None = None
        self.there = threading.Event()

    def open(self, job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
        on_progress("checking", 2, 5)
        assert self.there.wait(30)
        if self.error is not None:
            raise self.error
        return self.engine


@pytest.fixture
def loading(qtbot: QtBot, tmp_path: Path) -> Iterator[tuple[Composition, SlowModel]]:
    """The program while its model loads."""
    model = SlowModel()
    composition = Composition(DEMO_MODEL_DIR, tmp_path / "data", model.open)
    qtbot.addWidget(composition.window)
    composition.start()
    with qtbot.waitExposed(composition.window):
        composition.window.show()
    yield composition, model
    model.there.set()
    assert composition.close(20_000)


Loading = tuple[Composition, SlowModel]


def attach(composition: Composition, qtbot: QtBot, *paths: Path) -> None:
    assert drop_files(composition.window, paths)
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)


def draft(composition: Composition) -> str:
    return composition.window.composer.draft.toPlainText()


def chip_paths(composition: Composition) -> list[Path]:
    return [chip.path for chip in composition.window.composer.chips.chips]


def send(composition: Composition, qtbot: QtBot, text: str) -> None:
    """Ask, and wait until the files were found as they were and the question is on its way."""
    with qtbot.waitSignal(composition.session.question_asked, timeout=20_000):
        ask(composition.window, text)


def press_stop(composition: Composition, qtbot: QtBot) -> None:
    qtbot.mouseClick(composition.window.composer.send_button, Qt.MouseButton.LeftButton)


def press_escape(composition: Composition, qtbot: QtBot) -> None:
    qtbot.keyClick(composition.window.composer.draft, Qt.Key.Key_Escape)


def test_a_message_waits_for_the_model(loading: Loading, qtbot: QtBot) -> None:
    composition, model = loading
    attach(composition, qtbot, PICTURE)
    send(composition, qtbot, "What is this?")
    reply = composition.window.transcript.reply
    assert reply is not None
    assert "Checking the model, 40 %" in reply.progress.accessibleName()
    assert composition.window.header.pill.words == "Checking the model, 40 %"
    model.there.set()
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        pass
    assert ended.args[0].text == "What is this?"


@pytest.mark.parametrize("stop", [press_stop, press_escape])
def test_stop_takes_the_waiting_message_back(
    loading: Loading, qtbot: QtBot, stop: Callable[[Composition, QtBot], None]
) -> None:
    composition, model = loading
    composition.window.composer.think_button.setChecked(True)
    attach(composition, qtbot, PICTURE, CLIP)
    send(composition, qtbot, "What are these?")
    assert draft(composition) == ""
    with qtbot.waitSignal(composition.session.question_taken_back):
        stop(composition, qtbot)
    assert draft(composition) == "What are these?"
    assert chip_paths(composition) == [PICTURE, CLIP]
    assert composition.window.composer.think_button.isChecked()
    assert composition.window.transcript.messages == []
    assert composition.window.first_screen.isVisible()
    assert composition.window.windowTitle() == "Fireside"
    assert composition.session.conversation.turns == ()
    assert not composition.window.composer.is_busy
    assert composition.controller.state == "loading"
    with qtbot.waitSignal(composition.controller.model_opened):
        model.there.set()
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)
    qtbot.wait(50)
    assert model.engine.requests == [], "what was taken back is never read"
    with qtbot.waitSignal(composition.session.answer_ended):
        qtbot.keyClick(composition.window.composer.draft, Qt.Key.Key_Return)
    (request,) = model.engine.requests
    assert [type(part).__name__ for part in request.messages[0].content] == [
        "ImagePart",
        "VideoPart",
        "TextPart",
    ]


def test_what_was_written_since_is_kept_too(loading: Loading, qtbot: QtBot) -> None:
    composition, _ = loading
    attach(composition, qtbot, PICTURE)
    send(composition, qtbot, "What is this?")
    composition.window.set_draft("And this?")
    attach(composition, qtbot, CLIP)
    press_escape(composition, qtbot)
    assert draft(composition) == "What is this?\nAnd this?"
    assert sorted(chip_paths(composition)) == sorted([PICTURE, CLIP])


def test_sent_again_after_taking_it_back(loading: Loading, qtbot: QtBot) -> None:
    composition, model = loading
    for _ in range(3):
        ask(composition.window, "hello")
        press_escape(composition, qtbot)
    press_stop(composition, qtbot)  # which is Send again
    model.there.set()
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        pass
    assert ended.args[0].text == "hello"
    assert len(model.engine.requests) == 1


def test_a_model_that_fails_gives_the_waiting_message_back(loading: Loading, qtbot: QtBot) -> None:
    composition, model = loading
    attach(composition, qtbot, PICTURE)
    send(composition, qtbot, "What is this?")
    model.error = CheckpointError("The folder holds no model. Choose another one.")
    model.there.set()
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        pass
    assert ended.args[0].problem == "The folder holds no model. Choose another one."
    assert draft(composition) == "What is this?"
    assert chip_paths(composition) == [PICTURE]


def test_escape_keeps_back_what_waits_for_a_file(loading: Loading, qtbot: QtBot) -> None:
    composition, model = loading
    model.there.set()
    qtbot.waitUntil(lambda: composition.controller.state == "idle", timeout=20_000)
    drop_files(composition.window, [CLIP])
    ask(composition.window, "What moves?")
    assert composition.window.composer.status.text().startswith("Sends as soon as")
    press_escape(composition, qtbot)
    assert composition.window.composer.status.text() == ""
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)
    qtbot.wait(50)
    assert model.engine.requests == []
    assert draft(composition) == "What moves?"
    assert not composition.window.actions_menu.stop.isEnabled()


def test_a_disk_that_is_slow_to_answer_is_waited_for_and_can_be_given_up(
    loading: Loading, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network volume does that has just gone: the window goes on, and says what it does."""
    composition, model = loading
    model.there.set()
    qtbot.waitUntil(lambda: composition.controller.state == "idle", timeout=20_000)
    attach(composition, qtbot, PICTURE)
    answers = threading.Event()

    def slowly(path: Path) -> object:
        assert answers.wait(30)
        return stamp_of(path)

    monkeypatch.setattr(inspector, "stamp_of", slowly)
    ask(composition.window, "What is this?")
    status = composition.window.composer.status
    qtbot.waitUntil(lambda: status.text().startswith("Sends as soon as"), timeout=20_000)
    press_escape(composition, qtbot)
    assert status.text() == ""
    answers.set()
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)
    qtbot.wait(50)
    assert model.engine.requests == []
    assert draft(composition) == "What is this?"
    with qtbot.waitSignal(composition.session.answer_ended):
        press_stop(composition, qtbot)  # which is Send


def test_a_picture_pasted_just_before_send_goes_along(loading: Loading, qtbot: QtBot) -> None:
    composition, model = loading
    model.there.set()
    qtbot.waitUntil(lambda: composition.controller.state == "idle", timeout=20_000)
    image = QImage(1500, 1000, QImage.Format.Format_RGB32)
    image.fill(0xFF2040C0)
    composition.window.set_draft("What is this?")
    composition.window.image_pasted.emit(image)
    with qtbot.waitSignal(composition.session.answer_ended, timeout=20_000):
        qtbot.keyClick(composition.window.composer.draft, Qt.Key.Key_Return)
    picture, words = model.engine.requests[0].messages[0].content
    assert isinstance(picture, ImagePart)
    assert words == TextPart("What is this?")


def test_the_terminal_takes_back_too(loading: Loading, qtbot: QtBot, tmp_path: Path) -> None:
    composition, model = loading
    output = io.StringIO()
    narrator = Narrator(composition.controller, composition.session, output)
    empty = tmp_path / "lines"
    empty.touch()
    with empty.open() as lines:
        reader = LineReader(lines.fileno(), composition.window)
        terminal = TerminalComposer(composition.window, composition.session, narrator, reader)
        terminal.on_line_read("first")
        terminal.on_line_read("/stop")
        assert "Taken back" in output.getvalue()
        terminal.on_line_read("second")
        model.there.set()
        qtbot.waitUntil(lambda: "second" in output.getvalue().splitlines(), timeout=20_000)
        reader.deleteLater()
    assert len(model.engine.requests) == 1
