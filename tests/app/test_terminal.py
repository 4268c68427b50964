"""The terminal as the window's composer: lines in, answers out."""

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.resources import SAMPLES_DIR
from app.terminal.line_reader import LineReader
from app.terminal.narrator import Narrator
from app.terminal.terminal_composer import TerminalComposer
from mlx_model.events import Event, TextDelta, ThinkingDelta
from mlx_model.messages import ImagePart, ReplyRequest, TextPart
from tests.app.scripted_engine import Script, ScriptedEngine, finished, wait_for_stop

MakeComposition = Callable[[Script], tuple[Composition, ScriptedEngine]]


class Terminal:
    """The far side of the program's standard input and output."""

    def __init__(self, composition: Composition) -> None:
        near, self._far = os.pipe()
        self._near = near
        self._output = io.StringIO()
        narrator = Narrator(composition.controller, composition.session, self._output)
        self.reader = LineReader(near, composition.window)
        self.composer = TerminalComposer(
            composition.window, composition.session, narrator, self.reader
        )

    @property
    def printed(self) -> str:
        return self._output.getvalue()

    def type(self, text: str) -> None:
        os.write(self._far, text.encode())

    def hang_up(self, qtbot: QtBot) -> None:
        with qtbot.waitSignal(self.reader.ended):
            os.close(self._far)
        os.close(self._near)


@pytest.fixture
def pipe_lines(qapp: object) -> Iterator[tuple[int, list[str], LineReader]]:
    near, far = os.pipe()
    reader = LineReader(near)
    lines: list[str] = []
    reader.line_read.connect(lines.append)
    yield far, lines, reader
    os.close(near)


def echo(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    last = request.messages[-1].content[-1]
    assert isinstance(last, TextPart)
    yield TextDelta("You said: ")
    yield TextDelta(last.text)
    yield finished(prompt_tokens=9, read_tokens=9, generated_tokens=1)


def test_lines_are_put_together_from_pieces(
    pipe_lines: tuple[int, list[str], LineReader], qtbot: QtBot
) -> None:
    far, lines, reader = pipe_lines
    for piece in (b"one\ntw", b"o\r\n", "caf\u00e9".encode()[:-1], b"\xa9\nlast"):
        os.write(far, piece)
        qtbot.wait(20)
    assert lines == ["one", "two", "café"]
    with qtbot.waitSignal(reader.ended):
        os.close(far)
    assert lines[-1] == "last"


def test_a_conversation_in_the_terminal(make_composition: MakeComposition, qtbot: QtBot) -> None:
    composition, engine = make_composition(echo)
    terminal = Terminal(composition)
    terminal.type(f"/attach {SAMPLES_DIR / 'shapes.png'}\nWhat is this?\n\nAnd then?\n")
    qtbot.waitUntil(lambda: "You said: And then?" in terminal.printed, timeout=20_000)
    assert engine.requests[0].messages[0].content == (
        ImagePart(SAMPLES_DIR / "shapes.png"),
        TextPart("What is this?"),
    )
    assert "> [shapes.png] What is this?\nYou said: What is this?\n" in terminal.printed
    assert "(read 9 of 9" in terminal.printed
    terminal.hang_up(qtbot)


def test_commands(make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path) -> None:
    composition, engine = make_composition(echo)
    terminal = Terminal(composition)
    unreadable = tmp_path / "notes.txt"
    unreadable.write_text("no picture")
    terminal.type(f"/dance\n/attach\n/attach /no/such.png\n/attach {unreadable}\nhello\n")
    qtbot.waitUntil(lambda: "You said: hello" in terminal.printed, timeout=20_000)
    assert "no command /dance" in terminal.printed
    assert "Which file?" in terminal.printed
    assert "no file /no/such.png" in terminal.printed
    assert "notes.txt" in terminal.printed
    assert len(engine.requests) == 1
    terminal.type("/new\nagain\n")
    qtbot.waitUntil(lambda: "You said: again" in terminal.printed, timeout=20_000)
    assert len(engine.requests[1].messages) == 1
    with qtbot.waitSignal(terminal.composer.quit_requested):
        terminal.type("/quit\n")
    terminal.hang_up(qtbot)


def test_names_as_terminals_paste_them_and_names_that_no_file_can_have(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = make_composition(echo)
    terminal = Terminal(composition)
    names = ("my holiday.png", "it's.png", "plain name.png")
    for name in names:
        shutil.copy(SAMPLES_DIR / "shapes.png", tmp_path / name)
    terminal.type(f"/attach {tmp_path}/my\\ holiday.png\n/attach {tmp_path}/it's.png\n")
    terminal.type(f"/attach '{tmp_path}/plain name.png'\n/attach ~nobody/x.png\n")
    terminal.type(f"/attach {'a' * 3000}\n/{'b' * 3000}\nhello\n")
    qtbot.waitUntil(lambda: "You said: hello" in terminal.printed, timeout=20_000)
    media = engine.requests[0].messages[0].content[:-1]
    assert media == tuple(ImagePart(tmp_path / name) for name in names)
    assert "x.png." in terminal.printed
    assert "no file" in terminal.printed
    assert "no command /bbb" in terminal.printed
    terminal.hang_up(qtbot)


def test_stop_and_what_was_typed_meanwhile(make_composition: MakeComposition, qtbot: QtBot) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield ThinkingDelta("Let me see.")
        yield TextDelta("A long")
        wait_for_stop(cancel)
        yield finished("cancelled")

    composition, engine = make_composition(script)
    terminal = Terminal(composition)
    terminal.type("first\n")
    qtbot.waitUntil(lambda: "A long" in terminal.printed, timeout=20_000)
    terminal.type("second\n")
    qtbot.wait(50)
    assert len(engine.requests) == 1
    assert "Stopped" not in terminal.printed, "the button was Stop, and nobody pressed it"
    terminal.type("/stop\nthird\n")
    qtbot.waitUntil(lambda: len(engine.requests) == 2, timeout=20_000)
    last = engine.requests[1].messages[-1].content[-1]
    assert last == TextPart("third"), "/stop also forgets what waited"
    assert "Thinking:\nLet me see.\n\nA long\n  (Stopped.)" in terminal.printed
    terminal.hang_up(qtbot)


def test_the_end_of_input_is_a_wish_to_leave(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, _ = make_composition(echo)
    terminal = Terminal(composition)
    with qtbot.waitSignal(terminal.composer.quit_requested):
        terminal.hang_up(qtbot)
