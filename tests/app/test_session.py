"""One chat through the real window, the real inspector and real threads; the engine is scripted.

Files come as drop events, questions through the composer and its button.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.conversation.message import ChatMessage
from app.resources import SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from mlx_model.errors import MediaError
from mlx_model.events import Event, Notice, Prepared, Progress, TextDelta, ThinkingDelta
from mlx_model.messages import ImagePart, Message, ReplyRequest, TextPart, VideoPart
from tests.app.scripted_engine import Script, ScriptedEngine, finished, wait_for_stop

MakeComposition = Callable[[Script], tuple[Composition, ScriptedEngine]]
PICTURE = SAMPLES_DIR / "shapes.png"
CLIP = SAMPLES_DIR / "clip.mp4"


def echo(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    """Answer with the words of the question."""
    last = request.messages[-1].content[-1]
    yield TextDelta("You said: ")
    yield TextDelta(last.text if isinstance(last, TextPart) else "nothing")
    yield finished(prompt_tokens=9, read_tokens=9, generated_tokens=4, decode_tokens_per_s=30)


def until_stopped(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    """Say something and then wait for Stop."""
    yield TextDelta("a long")
    wait_for_stop(cancel)
    yield finished("cancelled")


def wait_for_answer(composition: Composition, qtbot: QtBot) -> ChatMessage:
    with qtbot.waitSignal(composition.session.answer_ended, timeout=20_000) as ended:
        pass
    message = ended.args[0]
    assert isinstance(message, ChatMessage)
    return message


def ask_and_wait(composition: Composition, qtbot: QtBot, text: str) -> ChatMessage:
    with qtbot.waitSignal(composition.session.answer_ended, timeout=20_000) as ended:
        ask(composition.window, text)
    message = ended.args[0]
    assert isinstance(message, ChatMessage)
    return message


def attach(composition: Composition, qtbot: QtBot, *paths: Path) -> None:
    assert drop_files(composition.window, paths)
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)


def draft(composition: Composition) -> str:
    return composition.window.composer.draft.toPlainText()


def chip_names(composition: Composition) -> list[str]:
    return [chip.path.name for chip in composition.window.composer.chips.chips]


def problems(composition: Composition) -> list[str]:
    return [chip.problem for chip in composition.window.composer.chips.chips if chip.problem]


def shown_answers(composition: Composition) -> list[str]:
    return [
        message.view.source
        for message in composition.window.transcript.messages
        if hasattr(message, "view")
    ]


def test_a_question_is_asked_answered_and_remembered(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    answer = ask_and_wait(composition, qtbot, "  hello  ")
    assert answer.text == "You said: hello"
    assert answer.footnote == "read 9 of 9 · first word 0.0 s · 30 tokens/s"
    assert draft(composition) == ""
    assert shown_answers(composition) == ["You said: hello"]
    assert not composition.window.composer.is_busy
    ask_and_wait(composition, qtbot, "and now?")
    assert engine.requests[-1].messages == (
        Message.text("user", "hello"),
        Message.text("assistant", "You said: hello"),
        Message.text("user", "and now?"),
    )


def test_dropped_files_go_with_the_question(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    attach(composition, qtbot, PICTURE, CLIP)
    lines = [chip.line for chip in composition.window.composer.chips.chips]
    assert "15 tokens" in lines[0]
    assert "0:04" in lines[1]
    assert "8 frames" in lines[1]
    ask_and_wait(composition, qtbot, "What are these?")
    assert engine.requests[0].messages == (
        Message("user", (ImagePart(PICTURE), VideoPart(CLIP), TextPart("What are these?"))),
    )
    assert chip_names(composition) == []
    (turn,) = composition.session.conversation.turns
    assert [item.token_count for item in turn.question.attachments] == [15, 24]


def wait_for_lines(composition: Composition, qtbot: QtBot, ready: int) -> None:
    """Until so many chips say that their files are read, and none besides."""
    chips = composition.window.composer.chips
    qtbot.waitUntil(lambda: [chip.line.endswith("ready") for chip in chips.chips] == [True] * ready)


def test_dropped_files_are_read_ahead_and_their_chips_say_so(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    attach(composition, qtbot, PICTURE, CLIP)
    wait_for_lines(composition, qtbot, 2)
    files = ImagePart(PICTURE), VideoPart(CLIP)
    assert engine.prepared[-1].messages == (Message("user", files),)
    composition.window.composer.chips.chips[0].remove_button.click()
    wait_for_lines(composition, qtbot, 1)
    qtbot.waitUntil(lambda: engine.prepared[-1].messages == (Message("user", files[1:]),))
    ask_and_wait(composition, qtbot, "Which way?")
    attach(composition, qtbot, PICTURE)
    wait_for_lines(composition, qtbot, 1)
    assert engine.prepared[-1].messages == (
        Message("user", (VideoPart(CLIP), TextPart("Which way?"))),
        Message.text("assistant", "You said: Which way?"),
        Message("user", files[:1]),
    )


def test_an_answer_is_read_in_its_next_form_before_anybody_asks_on(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    ask_and_wait(composition, qtbot, "hello")
    messages = Message.text("user", "hello"), Message.text("assistant", "You said: hello")
    qtbot.waitUntil(lambda: bool(engine.prepared) and engine.prepared[-1].messages == messages)


def test_a_question_interrupts_what_is_read_ahead(
    make_composition: MakeComposition, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    def read(
        self: ScriptedEngine, request: ReplyRequest, cancel: threading.Event
    ) -> Iterator[Event]:
        self.prepared.append(request)
        wait_for_stop(cancel)
        stopped.append(cancel.is_set())
        yield Prepared(0, 0, 0, 0, is_complete=False)

    composition, engine = make_composition(echo)
    monkeypatch.setattr(ScriptedEngine, "prepare", read)
    attach(composition, qtbot, PICTURE)
    qtbot.waitUntil(lambda: bool(engine.prepared))
    attach(composition, qtbot, CLIP)
    qtbot.waitUntil(lambda: len(engine.prepared) == 2)
    assert stopped == [True], "another draft takes its place"
    assert ask_and_wait(composition, qtbot, "Which way?").text == "You said: Which way?"
    assert stopped == [True, True]
    composition.controller.work_ahead(())
    composition.window.header.new_chat_button.click()


@pytest.mark.parametrize("error", [MediaError("gone.png is not there."), ValueError("a bug")])
def test_what_goes_wrong_while_nobody_waits_is_not_said(
    make_composition: MakeComposition,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def read(
        self: ScriptedEngine, request: ReplyRequest, cancel: threading.Event
    ) -> Iterator[Event]:
        self.prepared.append(request)
        raise error
        yield

    composition, engine = make_composition(echo)
    monkeypatch.setattr(ScriptedEngine, "prepare", read)
    attach(composition, qtbot, PICTURE)
    qtbot.waitUntil(lambda: bool(engine.prepared))
    assert ask_and_wait(composition, qtbot, "What?").text == "You said: What?"
    assert not problems(composition)


def test_send_waits_for_a_file_that_is_still_being_read(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    drop_files(composition.window, [CLIP])
    assert composition.session.inspecting
    ask(composition.window, "Which way?")
    assert engine.requests == []
    assert draft(composition) == "Which way?"
    assert wait_for_answer(composition, qtbot).text == "You said: Which way?"
    assert len(engine.requests) == 1


def test_a_file_that_vanished_is_told_and_everything_else_stays(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = make_composition(echo)
    gone = tmp_path / "gone.png"
    shutil.copy(PICTURE, gone)
    attach(composition, qtbot, gone, PICTURE)
    gone.unlink()
    ask(composition.window, "What is this?")
    qtbot.waitUntil(lambda: bool(problems(composition)), timeout=10_000)
    qtbot.wait(50)
    assert "gone.png" in problems(composition)[0]
    assert draft(composition) == "What is this?"
    assert chip_names(composition) == ["gone.png", "shapes.png"]
    assert engine.requests == []
    chip = composition.window.composer.chips.chips[0]
    qtbot.mouseClick(chip.remove_button, Qt.MouseButton.LeftButton)
    answer = ask_and_wait(composition, qtbot, draft(composition))
    assert answer.text == "You said: What is this?"
    assert engine.requests[0].messages[0].content[0] == ImagePart(PICTURE)


def test_a_file_that_changed_is_read_again_before_it_is_sent(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, _ = make_composition(echo)
    path = tmp_path / "screenshot.png"
    Image.new("RGB", (640, 400), "white").save(path)
    attach(composition, qtbot, path)
    Image.new("RGB", (320, 200), "black").save(path)
    ask_and_wait(composition, qtbot, "What is this?")
    (turn,) = composition.session.conversation.turns
    assert turn.question.attachments[0].width == 320


def test_an_unreadable_file_keeps_the_draft_back(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = make_composition(echo)
    text = tmp_path / "notes.txt"
    text.write_text("not a picture")
    attach(composition, qtbot, text, PICTURE)
    assert "notes.txt" in problems(composition)[0]
    ask(composition.window, "What is this?")
    qtbot.wait(50)
    assert engine.requests == []
    assert draft(composition) == "What is this?"
    assert "notes.txt cannot be sent" in composition.window.composer.status.text()
    bad = composition.window.composer.chips.chips[0]
    qtbot.mouseClick(bad.remove_button, Qt.MouseButton.LeftButton)
    assert composition.window.composer.status.text() == "", "nothing is left to be removed"


def test_stop_keeps_the_half_answer_and_the_next_question_works(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, _ = make_composition(until_stopped)
    with qtbot.waitSignal(composition.controller.text_arrived):
        ask(composition.window, "Tell me a long story")
    composition.window.set_draft("typed meanwhile")
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        qtbot.mouseClick(composition.window.composer.send_button, Qt.MouseButton.LeftButton)
    assert ended.args[0].stopped
    assert ended.args[0].text == "a long"
    assert draft(composition) == "typed meanwhile", "Send was Stop: nothing typed is lost"
    assert not composition.window.composer.is_busy


def test_escape_stops(make_composition: MakeComposition, qtbot: QtBot) -> None:
    composition, _ = make_composition(until_stopped)
    with qtbot.waitSignal(composition.controller.text_arrived):
        ask(composition.window, "Tell me a long story")
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        composition.window.actions_menu.stop.trigger()
    assert ended.args[0].stopped


def test_again_replaces_the_last_answer(make_composition: MakeComposition, qtbot: QtBot) -> None:
    answers = iter(["first", "second", "third"])

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta(next(answers))
        yield finished()

    composition, engine = make_composition(script)
    ask_and_wait(composition, qtbot, "one")
    ask_and_wait(composition, qtbot, "two")
    composition.window.set_draft("typed meanwhile")
    with qtbot.waitSignal(composition.session.answer_ended):
        reply = composition.window.transcript.reply
        assert reply is not None
        qtbot.mouseClick(reply.again_button, Qt.MouseButton.LeftButton)
    assert engine.requests[2].messages == engine.requests[1].messages
    assert shown_answers(composition) == ["first", "third"]
    answered = [turn.answer and turn.answer.text for turn in composition.session.conversation.turns]
    assert answered == ["first", "third"]
    assert draft(composition) == "typed meanwhile"


@pytest.mark.parametrize("stops", [True, False])
def test_again_that_comes_to_nothing_leaves_the_answer_that_was_there(
    make_composition: MakeComposition, qtbot: QtBot, stops: bool
) -> None:
    texts = iter(["a good answer"])

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        for text in texts:
            yield TextDelta(text)
            yield finished()
            return
        yield Progress("looking", 0, 4)
        if not stops:
            raise MediaError("shapes.png cannot be found any more.")
        yield ThinkingDelta("hm")
        cancel.wait(10)
        yield finished("cancelled")

    composition, _ = make_composition(script)
    ask_and_wait(composition, qtbot, "one")
    composition.window.set_draft("typed meanwhile")
    with qtbot.waitSignal(composition.session.answer_ended):
        composition.window.regenerate_requested.emit()
        if stops:
            with qtbot.waitSignal(composition.controller.thinking_arrived):
                pass
            composition.session.on_stop_requested()
    (turn,) = composition.session.conversation.turns
    assert turn.answer is not None
    assert turn.answer.text == "a good answer"
    assert shown_answers(composition) == ["a good answer"]
    reply = composition.window.transcript.reply
    assert reply is not None
    assert reply.thinking.isHidden()
    assert draft(composition) == "typed meanwhile"
    status = composition.window.composer.status.text()
    assert status == ("" if stops else "shapes.png cannot be found any more.")


def test_again_thinks_if_that_is_switched_on_by_now(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    ask_and_wait(composition, qtbot, "one")
    composition.window.composer.think_button.click()
    with qtbot.waitSignal(composition.session.answer_ended):
        composition.window.regenerate_requested.emit()
    assert [request.settings.thinking for request in engine.requests] == [False, True]


def test_a_failure_gives_the_question_back(make_composition: MakeComposition, qtbot: QtBot) -> None:
    sentences = iter(["The clip ended in the middle. Choose another copy."])

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield Progress("looking", 0, 4)
        for sentence in sentences:
            raise MediaError(sentence)
        yield from echo(request, cancel)

    composition, engine = make_composition(script)
    attach(composition, qtbot, PICTURE)
    answer = ask_and_wait(composition, qtbot, "What is this?")
    assert answer.problem == "The clip ended in the middle. Choose another copy."
    reply = composition.window.transcript.reply
    assert reply is not None
    assert reply.problem.text() == answer.problem
    assert draft(composition) == "What is this?"
    assert chip_names(composition) == ["shapes.png"]
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=10_000)
    ask_and_wait(composition, qtbot, draft(composition))
    assert len(engine.requests[1].messages) == 1, "the failed turn is not read again"


def test_again_after_a_failure_takes_the_draft_that_was_given_back(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    fail = [True]

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        if fail.pop() if fail else False:
            raise MediaError("Not now.")
        yield from echo(request, cancel)

    composition, engine = make_composition(script)
    ask_and_wait(composition, qtbot, "What is this?")
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        composition.window.regenerate_requested.emit()
    assert ended.args[0].text == "You said: What is this?"
    assert draft(composition) == ""
    assert len(engine.requests[1].messages) == 1


def test_a_failure_never_overwrites_what_was_typed_meanwhile(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    release = threading.Event()

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        release.wait(10)
        raise MediaError("Not now.")
        yield

    composition, _ = make_composition(script)
    ask(composition.window, "first")
    composition.window.set_draft("typed meanwhile")
    release.set()
    wait_for_answer(composition, qtbot)
    assert draft(composition) == "typed meanwhile"


def test_an_answer_that_was_cut_says_so_and_counts(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half")
        yield finished("length", generated_tokens=1)

    composition, engine = make_composition(script)
    answer = ask_and_wait(composition, qtbot, "go")
    assert answer.problem is not None
    assert "cut" in answer.problem
    assert draft(composition) == ""
    ask_and_wait(composition, qtbot, "on")
    assert len(engine.requests[1].messages) == 3


def test_a_full_context_gives_the_question_back(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield Notice("The conversation is too long. Start a new chat.")
        yield finished("context_full")

    composition, _ = make_composition(script)
    answer = ask_and_wait(composition, qtbot, "one more thing")
    assert answer.problem == "The conversation is too long. Start a new chat."
    assert draft(composition) == "one more thing"


def test_a_new_chat_forgets_the_turns_and_keeps_the_draft(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(until_stopped)
    with qtbot.waitSignal(composition.controller.text_arrived):
        ask(composition.window, "old")
    composition.window.set_draft("typed meanwhile")
    attach(composition, qtbot, PICTURE)
    composition.window.new_chat_requested.emit()
    assert composition.session.conversation.turns == ()
    assert composition.window.transcript.messages == []
    assert draft(composition) == "typed meanwhile"
    assert chip_names(composition) == ["shapes.png"]
    assert not composition.window.composer.is_busy
    with qtbot.waitSignal(composition.controller.text_arrived):
        ask(composition.window, "new")
    assert len(engine.requests[-1].messages) == 1
    assert shown_answers(composition) == ["a long"]


def test_a_draft_that_waited_is_not_sent_into_a_new_chat(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    assert drop_files(composition.window, [CLIP])
    ask(composition.window, "What moves?")
    assert "Sends as soon" in composition.window.composer.status.text()
    composition.window.new_chat_requested.emit()
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)
    qtbot.wait(50)
    assert engine.requests == []
    assert draft(composition) == "What moves?"


def test_an_earlier_file_that_has_gone_is_left_out_and_named(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = make_composition(echo)
    path = tmp_path / "soon.png"
    shutil.copy(PICTURE, path)
    attach(composition, qtbot, path)
    ask_and_wait(composition, qtbot, "What is this?")
    path.unlink()
    ask_and_wait(composition, qtbot, "And what else?")
    assert engine.requests[1].messages[0] == Message.text("user", "What is this?")
    assert "soon.png" in composition.window.composer.status.text()


def test_a_pasted_picture_becomes_an_attachment(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = make_composition(echo)
    image = QImage(200, 100, QImage.Format.Format_RGB32)
    image.fill(0xFF2040C0)
    composition.window.image_pasted.emit(image)
    qtbot.waitUntil(lambda: bool(composition.session.attachments), timeout=10_000)
    (attachment,) = composition.session.attachments
    assert attachment.name == "Pasted picture"
    assert attachment.path.is_relative_to(tmp_path)
    ask_and_wait(composition, qtbot, "What is this?")
    assert engine.requests[0].messages[0].content[0] == ImagePart(attachment.path)


def test_a_sample_of_the_first_screen_asks_by_itself(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    qtbot.mouseClick(composition.window.first_screen.clip_card, Qt.MouseButton.LeftButton)
    answer = wait_for_answer(composition, qtbot)
    assert answer.text == f"You said: {composition.window.first_screen.clip_card.question}"
    assert engine.requests[0].messages[0].content[0] == VideoPart(CLIP)


def test_a_sample_that_is_attached_already_is_asked_about(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    attach(composition, qtbot, PICTURE)
    card = composition.window.first_screen.picture_card
    with qtbot.waitSignal(composition.session.answer_ended, timeout=20_000):
        qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
    assert engine.requests[0].messages[0].content[0] == ImagePart(PICTURE)


def test_a_sample_joins_the_question_that_somebody_has_begun(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    composition.window.set_draft("Half a ques")
    card = composition.window.first_screen.picture_card
    qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=20_000)
    qtbot.wait(50)
    assert engine.requests == []
    assert draft(composition) == "Half a ques"
    assert chip_names(composition) == [PICTURE.name]


def test_nothing_is_sent_without_words_or_files(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, engine = make_composition(echo)
    ask(composition.window, "   ")
    composition.window.message_submitted.emit("  ", [], False)
    qtbot.wait(50)
    assert engine.requests == []
    assert composition.session.conversation.turns == ()


def test_a_file_dropped_twice_is_one_attachment(
    make_composition: MakeComposition, qtbot: QtBot
) -> None:
    composition, _ = make_composition(echo)
    attach(composition, qtbot, PICTURE, PICTURE)
    attach(composition, qtbot, PICTURE)
    assert chip_names(composition) == ["shapes.png"]


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_is_asked_for(
    make_composition: MakeComposition, qtbot: QtBot, thinking: bool
) -> None:
    composition, engine = make_composition(echo)
    composition.window.composer.think_button.setChecked(thinking)
    ask_and_wait(composition, qtbot, "hello")
    assert engine.requests[0].settings.thinking is thinking
