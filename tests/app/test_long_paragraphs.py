"""Paragraphs too long for Qt are cut inside, and whoever reads the text never sees it."""

import random

import pytest
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QGuiApplication, QKeySequence, QTextDocument
from pytestqt.qtbot import QtBot

from app.chat.draft_edit import DraftEdit
from app.chat.long_paragraphs import LONGEST, in_pieces, whole
from app.main_window import MainWindow

# Qt takes half a minute to lay the second one out in one piece.
MILLION = {
    "words": "some words " * 90_909,
    "no space at all": "x" * 1_000_000,
    "lines": "a line of it\n" * 76_923,
}


def longest_block(document: QTextDocument) -> int:
    block, longest = document.begin(), 0
    while block.isValid():
        longest = max(longest, block.length())
        block = block.next()
    return longest


def paste(draft: DraftEdit, text: str) -> None:
    data = QMimeData()
    data.setText(text)
    draft.insertFromMimeData(data)


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_make_the_text_again(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(
        draw.choices(["word", " ", "\n", "é", "e\u0301", "👩\u200d👧", "a\u2060"], k=40_000)
    ).replace("\n", "\n" if seed % 2 else "")
    before = draw.choice([0, 1, LONGEST - 3, LONGEST, 3 * LONGEST])
    pieces = in_pieces(text, before)
    assert whole(pieces) == text
    first, *others = pieces.split("\n")
    assert before + len(first) <= max(LONGEST, before) + 2
    assert max(map(len, others)) <= LONGEST + 2, "two hidden characters end a piece"


def test_a_piece_ends_after_a_space_and_never_inside_a_visible_character() -> None:
    words = in_pieces("longish " * 3_000).split("\n")
    assert len(words) > 2
    assert all(line.rstrip("\u2060").endswith("longish ") for line in words)
    family = "👩\u200d👧\u200d👦"
    for line in in_pieces(family * 4_000).split("\n"):
        assert not line.replace(family, "").strip("\u2060")


@pytest.mark.parametrize("kind", MILLION)
def test_a_million_characters_are_kept_and_qt_never_sees_a_long_paragraph(
    qtbot: QtBot, window: MainWindow, kind: str
) -> None:
    draft, text = window.composer.draft, MILLION[kind]
    qtbot.keyClicks(draft, "Sum up: ")
    paste(draft, text)
    qtbot.keyClicks(draft, "!")
    assert draft.toPlainText() == f"Sum up: {text}!"
    assert longest_block(draft.document()) <= 2 * LONGEST
    assert window.composer.send_button.isEnabled()
    draft.undo()
    draft.undo()
    assert draft.toPlainText() == "Sum up: "
    draft.redo()
    assert draft.toPlainText() == f"Sum up: {text}"
    window.set_draft(text)
    assert draft.toPlainText() == text
    assert longest_block(draft.document()) <= 2 * LONGEST


def test_many_pastes_in_one_place_never_make_one_long_paragraph(window: MainWindow) -> None:
    draft = window.composer.draft
    for _ in range(40):
        paste(draft, "y" * (LONGEST - 1))
    assert draft.toPlainText() == "y" * (40 * (LONGEST - 1))
    assert longest_block(draft.document()) <= 2 * LONGEST


def test_what_is_copied_from_a_long_draft_is_the_text(qtbot: QtBot, window: MainWindow) -> None:
    draft, text = window.composer.draft, "z" * (3 * LONGEST)
    paste(draft, text)
    qtbot.keySequence(draft, QKeySequence(QKeySequence.StandardKey.SelectAll))
    qtbot.keySequence(draft, QKeySequence(QKeySequence.StandardKey.Cut))
    assert QGuiApplication.clipboard().text() == text
    assert draft.toPlainText() == ""
    qtbot.keySequence(draft, QKeySequence(QKeySequence.StandardKey.Paste))
    assert draft.toPlainText() == text


def test_the_end_of_a_piece_can_be_edited(qtbot: QtBot, window: MainWindow) -> None:
    draft = window.composer.draft
    draft.setPlainText("z" * (LONGEST + 10))
    cursor = draft.textCursor()
    cursor.setPosition(draft.document().findBlockByNumber(1).position())
    draft.setTextCursor(cursor)
    qtbot.keyClicks(draft, "a")
    qtbot.keyClick(draft, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert draft.toPlainText() == "z" * LONGEST + "a\n" + "z" * 10
    for _ in range(2):
        qtbot.keyClick(draft, Qt.Key.Key_Backspace)
    assert draft.toPlainText() == "z" * (LONGEST + 10)


def test_blank_is_told_whatever_the_length(window: MainWindow) -> None:
    draft = window.composer.draft
    draft.setPlainText(" \n" * 5_000 + " " * 3 * LONGEST)
    assert draft.is_blank
    draft.setPlainText(" \n" * 5_000 + " " * 3 * LONGEST + ".")
    assert not draft.is_blank
