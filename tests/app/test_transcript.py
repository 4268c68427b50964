"""The transcript: follows the end, keeps the place that is read, never runs out of its column."""

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.chat.reply_message import ReplyMessage
from app.chat.transcript import Transcript
from app.chat.user_message import UserMessage
from app.conversation.message import Attachment, ChatMessage
from app.theme import COLUMN_WIDTH
from app.theme_source import ThemeSource

CLIP = Path("/clips/ride.mov")
CLIP_FILE = Attachment(
    CLIP, "video", "ride.mov", 320, 240, duration_s=27.4, frame_count=54, token_count=2916
)
WIDE = Path("/pictures/panorama.jpg")
WIDE_FILE = Attachment(WIDE, "image", "panorama.jpg", 4000, 500, token_count=900)
FIGURES = "read 41 of 2,990 · first word 0.4 s · 24 tokens/s · drafts 3 of 4"


@pytest.fixture
def transcript(qtbot: QtBot, themes: ThemeSource) -> Transcript:
    made = Transcript(themes)
    qtbot.addWidget(made)
    made.resize(900, 400)
    with qtbot.waitExposed(made):
        made.show()
    return made


def answer(transcript: Transcript, text: str, **more: str) -> ReplyMessage:
    transcript.begin_reply()
    transcript.append_text(text)
    transcript.finish_reply(ChatMessage("assistant", text, footnote=more.get("footnote", "")))
    reply = transcript.reply
    assert reply is not None
    return reply


def fill(transcript: Transcript, turns: int = 6) -> None:
    for number in range(turns):
        transcript.add_user_message(ChatMessage("user", f"Question {number}"), {})
        answer(transcript, "A sentence of an answer. " * 20)


def wheel(transcript: Transcript, delta: int) -> None:
    place = QPointF(transcript.viewport().rect().center())
    event = QWheelEvent(
        place,
        QPointF(transcript.mapToGlobal(place.toPoint())),
        QPoint(0, 0),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(transcript.viewport(), event)


def at_end(transcript: Transcript) -> bool:
    bar = transcript.verticalScrollBar()
    return bar.value() == bar.maximum()


def test_text_that_comes_is_followed(transcript: Transcript) -> None:
    fill(transcript)
    transcript.begin_reply()
    for _ in range(30):
        transcript.append_text("More and more text that wraps. " * 4)
        assert at_end(transcript)
    assert transcript.verticalScrollBar().maximum() > 0
    assert transcript.jump_button.isHidden()


def test_scrolling_up_stops_following_and_the_button_brings_it_back(
    qtbot: QtBot, transcript: Transcript
) -> None:
    fill(transcript)
    transcript.begin_reply()
    transcript.append_text("A start. ")
    wheel(transcript, 240)
    assert not transcript.follows
    place = transcript.verticalScrollBar().value()
    for _ in range(10):
        transcript.append_text("More text that wraps over the line. " * 5)
    assert transcript.verticalScrollBar().value() == place
    assert transcript.jump_button.isVisible()
    qtbot.mouseClick(transcript.jump_button, Qt.MouseButton.LeftButton)
    assert at_end(transcript)
    transcript.append_text("Still more. " * 50)
    assert at_end(transcript)
    assert transcript.jump_button.isHidden()


def test_scrolling_down_to_the_end_follows_again(transcript: Transcript) -> None:
    fill(transcript)
    wheel(transcript, 360)
    assert not transcript.follows
    for _ in range(20):
        wheel(transcript, -120)
    assert transcript.follows


def test_the_smallest_turn_upwards_counts(transcript: Transcript) -> None:
    fill(transcript)
    wheel(transcript, 15)
    transcript.begin_reply()
    transcript.append_text("text " * 200)
    assert not at_end(transcript)


def test_a_changing_height_is_nobody_scrolling(transcript: Transcript) -> None:
    fill(transcript)
    for height in (300, 520, 260, 400):
        transcript.resize(900, height)
        assert transcript.follows
        assert at_end(transcript)


def test_resizing_keeps_the_message_that_is_read(transcript: Transcript) -> None:
    fill(transcript)
    transcript.verticalScrollBar().setValue(500)
    first = next(
        message
        for message in transcript.messages
        if message.geometry().bottom() > transcript.verticalScrollBar().value()
    )
    before = first.y() - transcript.verticalScrollBar().value()
    transcript.resize(520, 400)
    assert first.y() - transcript.verticalScrollBar().value() == before


def test_a_new_question_goes_to_the_end(transcript: Transcript) -> None:
    fill(transcript)
    transcript.verticalScrollBar().setValue(0)
    transcript.add_user_message(ChatMessage("user", "And now?"), {})
    assert transcript.follows
    assert at_end(transcript)


def test_opening_the_thinking_keeps_its_line_in_place(transcript: Transcript) -> None:
    fill(transcript, turns=2)
    transcript.begin_reply()
    transcript.append_thinking("A thought about shapes. " * 100)
    transcript.finish_reply(
        ChatMessage("assistant", "One.", thinking="A thought about shapes. " * 100, thinking_s=2.13)
    )
    reply = transcript.reply
    assert reply is not None
    button = reply.thinking.button
    assert button.text() == "Thought for 2.1 s"
    place = button.mapTo(transcript, QPoint(0, 0))
    folded = reply.height()
    button.click()
    assert reply.height() > folded + 100
    assert button.mapTo(transcript, QPoint(0, 0)) == place
    button.click()
    assert reply.height() == folded


def test_progress_makes_way_for_the_first_word(transcript: Transcript) -> None:
    transcript.begin_reply()
    transcript.set_progress("Looking at the clip, 40 %", 0.4)
    reply = transcript.reply
    assert reply is not None
    assert reply.progress.sentence == "Looking at the clip, 40 %"
    assert reply.progress.isVisible()
    transcript.append_text("The")
    assert reply.progress.isHidden()
    transcript.set_progress("Late news", 0.9)
    assert reply.progress.isHidden()


def test_failure_keeps_what_came_and_says_why(transcript: Transcript) -> None:
    transcript.begin_reply()
    transcript.append_text("Half an")
    transcript.fail_reply("The model ran out of memory. Try a smaller picture.")
    reply = transcript.reply
    assert reply is not None
    assert reply.view.source == "Half an"
    assert reply.problem.isVisible()
    assert reply.problem.text().startswith("The model ran out")
    assert reply.again_button.isVisible()


def test_stopped_is_said(transcript: Transcript) -> None:
    transcript.begin_reply()
    transcript.finish_reply(
        ChatMessage("assistant", "Half", stopped=True, footnote="first word 0.4 s")
    )
    reply = transcript.reply
    assert reply is not None
    assert reply.footnote.text() == "stopped · first word 0.4 s"


def test_copy_gives_the_markdown(qtbot: QtBot, transcript: Transcript) -> None:
    reply = answer(transcript, "A **red** circle.")
    qtbot.mouseClick(reply.copy_button, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "A **red** circle."
    assert reply.copy_button.text() == "Copied"
    qtbot.waitUntil(lambda: reply.copy_button.text() == "Copy")


def test_only_the_last_answer_can_be_asked_for_again(qtbot: QtBot, transcript: Transcript) -> None:
    first = answer(transcript, "One.")
    second = answer(transcript, "Two.")
    assert first.again_button.isHidden()
    with qtbot.waitSignal(transcript.regenerate_requested):
        qtbot.mouseClick(second.again_button, Qt.MouseButton.LeftButton)
    transcript.remove_reply()
    assert transcript.reply is first


def test_finished_text_replaces_what_was_streamed(transcript: Transcript) -> None:
    transcript.begin_reply()
    transcript.append_text("A red cir")
    transcript.finish_reply(ChatMessage("assistant", "A red circle."))
    reply = transcript.reply
    assert reply is not None
    assert reply.view.source == "A red circle."


def test_clear_leaves_nothing(transcript: Transcript) -> None:
    fill(transcript)
    transcript.clear()
    assert transcript.messages == []
    assert transcript.verticalScrollBar().maximum() == 0


@pytest.mark.parametrize("width", [480, 600, 900, 1180])
def test_nothing_leaves_the_column(transcript: Transcript, width: int) -> None:
    transcript.resize(width, 600)
    question = ChatMessage("user", "x" * 300 + " and words", attachments=(CLIP_FILE, WIDE_FILE))
    picture = QImage(400, 50, QImage.Format.Format_RGB32)
    picture.fill(0)
    transcript.add_user_message(question, {CLIP: [picture] * 12, WIDE: [picture]})
    reply = answer(transcript, "A sentence of an answer. " * 20, footnote=FIGURES)
    assert transcript.horizontalScrollBar().maximum() == 0
    column = min(COLUMN_WIDTH, width - 40)
    left = (width - column) // 2
    message = transcript.messages[0]
    assert isinstance(message, UserMessage)
    for part in [message.text, message.caption, *message.pictures, *message.clips]:
        place = part.mapTo(transcript, QPoint(0, 0)).x()
        assert left <= place
        assert place + part.width() <= left + column
    for part in [reply.view, reply.footnote]:
        place = part.mapTo(transcript, QPoint(0, 0)).x()
        assert left <= place
        assert place + part.width() <= left + column


def test_footnote_moves_below_the_actions_where_there_is_no_room(transcript: Transcript) -> None:
    reply = answer(transcript, "Yes.", footnote=FIGURES)
    assert reply.footnote.geometry().top() < reply.copy_button.geometry().bottom()
    transcript.resize(480, 400)
    assert reply.footnote.geometry().top() >= reply.copy_button.geometry().bottom()


def test_larger_text_is_laid_out_again(transcript: Transcript, themes: ThemeSource) -> None:
    reply = answer(transcript, "A sentence of an answer. " * 20)
    before = reply.height()
    themes.step_text_size(1)
    assert reply.height() > before
    themes.step_text_size(0)
    assert reply.height() == before


def test_a_long_question_is_folded_and_opens_in_place(qtbot: QtBot, transcript: Transcript) -> None:
    words = "some words on a line\n" * 1_000
    transcript.add_user_message(ChatMessage("user", words.strip()), {})
    answer(transcript, "Yes.")
    question = transcript.messages[0]
    assert isinstance(question, UserMessage)
    button = question.fold_button
    assert button.text() == "Show all 20,999 characters"
    assert question.text.toPlainText().endswith("some words on a …")
    assert question.height() < 700
    assert question.rect().contains(button.geometry())
    transcript.verticalScrollBar().setValue(0)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert question.text.toPlainText() == words.strip()
    assert question.height() > 2_000
    assert transcript.messages[1].y() > question.geometry().bottom()
    assert transcript.verticalScrollBar().value() == 0, "what is being read stays in place"
    assert button.text() == "Show less"
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert question.height() < 700


def test_a_short_question_has_nothing_to_unfold(transcript: Transcript) -> None:
    transcript.add_user_message(ChatMessage("user", "One line\n" * 19 + "and the last"), {})
    question = transcript.messages[0]
    assert isinstance(question, UserMessage)
    assert question.fold_button.isHidden()
    assert question.text.toPlainText().endswith("and the last")


def test_a_whole_book_is_shown_only_in_part(qtbot: QtBot, transcript: Transcript) -> None:
    transcript.add_user_message(ChatMessage("user", "x" * 1_000_000), {})
    question = transcript.messages[0]
    assert isinstance(question, UserMessage)
    assert question.fold_button.text() == "Show more of 1,000,000 characters"
    qtbot.mouseClick(question.fold_button, Qt.MouseButton.LeftButton)
    assert 90_000 < len(question.text.toPlainText()) < 110_000
    assert question.text.toPlainText().endswith("…")
