"""The window: drops, keys, menus, narrow and dark, and names for everything that can be pressed."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import (
    QAccessible,
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QImage,
    QKeySequence,
)
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog, QPlainTextEdit, QWidget
from pytestqt.qtbot import QtBot

from app.buttons import ThemedButton
from app.conversation.message import Attachment, ChatMessage
from app.main_window import MainWindow
from app.theme import DARK, LIGHT, MINIMUM_SIZE
from app.theme_source import ThemeSource

PICTURE = Path("/pictures/cat.png")
PICTURE_FILE = Attachment(PICTURE, "image", "cat.png", 640, 480, token_count=300)


def files(*paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def drag(window: MainWindow, data: QMimeData) -> QDragEnterEvent:
    event = QDragEnterEvent(
        QPoint(300, 300),
        Qt.DropAction.CopyAction | Qt.DropAction.MoveAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    event.ignore()
    QApplication.sendEvent(window, event)
    return event


def drop(window: MainWindow, data: QMimeData) -> QDropEvent:
    event = QDropEvent(
        QPointF(300, 300),
        Qt.DropAction.CopyAction | Qt.DropAction.MoveAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    event.ignore()
    QApplication.sendEvent(window, event)
    return event


def ask(window: MainWindow, text: str = "What is this?") -> None:
    image = QImage(64, 48, QImage.Format.Format_RGB32)
    image.fill(0)
    question = ChatMessage("user", text, attachments=(PICTURE_FILE,))
    window.add_user_message(question, {PICTURE: [image]})
    window.begin_reply()
    window.append_thinking("Hm.")
    window.append_text("A cat.\n\n```python\nx = 1\n```\n")
    window.finish_reply(
        ChatMessage("assistant", "A cat.\n\n```python\nx = 1\n```\n", "Hm.", 1.0, footnote="x")
    )


def test_dropped_files_are_offered(qtbot: QtBot, window: MainWindow) -> None:
    first, second = Path("/pictures/a b.png"), Path("/clips/ride.mov")
    data = files(first, second)
    assert drag(window, data).isAccepted()
    assert window.drop_overlay.isVisible()
    assert window.drop_overlay.size() == window.size()
    with qtbot.waitSignal(window.files_offered) as heard:
        event = drop(window, data)
    assert heard.args == [[first, second]]
    assert event.dropAction() == Qt.DropAction.CopyAction
    assert window.drop_overlay.isHidden()


def test_drag_that_leaves_takes_the_frame_away(window: MainWindow) -> None:
    drag(window, files(PICTURE))
    QApplication.sendEvent(window, QDragLeaveEvent())
    assert window.drop_overlay.isHidden()


def test_links_and_nothing_are_not_attached(qtbot: QtBot, window: MainWindow) -> None:
    data = QMimeData()
    data.setUrls([QUrl("https://example.org/cat.png")])
    with qtbot.assertNotEmitted(window.files_offered):
        assert not drag(window, data).isAccepted()
        assert window.drop_overlay.isHidden()
        drop(window, data)


def test_dropped_words_go_into_the_draft(window: MainWindow) -> None:
    data = QMimeData()
    data.setText("some words")
    assert drag(window, data).isAccepted()
    drop(window, data)
    assert window.composer.draft.toPlainText() == "some words"


def test_every_part_of_the_window_lets_drops_through(window: MainWindow) -> None:
    """Qt gives a drop to the innermost widget that accepts drops: that must be the window."""
    ask(window)
    window.add_chip(PICTURE)
    takers = [child for child in window.findChildren(QWidget) if child.acceptDrops()]
    assert takers == []


def test_enter_submits_and_clear_composer_empties(qtbot: QtBot, window: MainWindow) -> None:
    window.add_chip(PICTURE)
    window.update_chip(PICTURE, PICTURE_FILE, QImage(), [])
    qtbot.keyClicks(window.composer.draft, "What is this?")
    with qtbot.waitSignal(window.message_submitted) as heard:
        qtbot.keyClick(window.composer.draft, Qt.Key.Key_Return)
    assert heard.args == ["What is this?", [PICTURE_FILE], False]
    assert window.composer.draft.toPlainText() == "What is this?"
    window.clear_composer()
    assert window.composer.draft.toPlainText() == ""
    assert window.composer.draft.hasFocus()


def test_escape_stops_only_while_busy(qtbot: QtBot, window: MainWindow) -> None:
    with qtbot.assertNotEmitted(window.stop_requested):
        qtbot.keyClick(window.composer.draft, Qt.Key.Key_Escape)
    window.set_busy(True)
    with qtbot.waitSignal(window.stop_requested):
        qtbot.keyClick(window.composer.draft, Qt.Key.Key_Escape)
    window.transcript.setFocus()
    with qtbot.waitSignal(window.stop_requested):
        qtbot.keyClick(window.transcript, Qt.Key.Key_Escape)
    window.set_busy(False)
    with qtbot.assertNotEmitted(window.stop_requested):
        qtbot.keyClick(window.composer.draft, Qt.Key.Key_Escape)


def test_shortcuts_for_new_chat_and_attach(
    qtbot: QtBot, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with qtbot.waitSignal(window.new_chat_requested):
        qtbot.keySequence(window.composer.draft, QKeySequence(QKeySequence.StandardKey.New))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *asked: (["/a/b.png"], ""))
    with qtbot.waitSignal(window.files_offered) as heard:
        qtbot.keySequence(window.composer.draft, QKeySequence(QKeySequence.StandardKey.Open))
    assert heard.args == [[Path("/a/b.png")]]


@pytest.mark.parametrize("keys", ["Ctrl++", "Ctrl+="])
def test_plus_makes_the_text_larger_with_and_without_shift(
    qtbot: QtBot, window: MainWindow, themes: ThemeSource, keys: str
) -> None:
    qtbot.keySequence(window.composer.draft, QKeySequence(keys))
    assert themes.theme.text_scale > 1
    themes.step_text_size(0)


def test_page_keys_in_the_draft_scroll_the_conversation(qtbot: QtBot, window: MainWindow) -> None:
    for _ in range(4):
        ask(window)
    bar = window.transcript.verticalScrollBar()
    end = bar.value()
    qtbot.keyClick(window.composer.draft, Qt.Key.Key_PageUp)
    assert bar.value() < end
    assert not window.transcript.follows
    qtbot.keyClick(window.composer.draft, Qt.Key.Key_PageDown)
    assert bar.value() == end


def test_letters_typed_anywhere_go_into_the_draft(qtbot: QtBot, window: MainWindow) -> None:
    ask(window)
    window.transcript.setFocus()
    qtbot.keyClicks(window.transcript, "w")
    assert window.composer.draft.hasFocus()
    qtbot.keyClicks(window.composer.draft, "hy")
    assert window.composer.draft.toPlainText() == "why"


def test_copy_and_paste_work_in_the_draft(qtbot: QtBot, window: MainWindow) -> None:
    draft = window.composer.draft
    qtbot.keyClicks(draft, "word")
    for key in (
        QKeySequence.StandardKey.SelectAll,
        QKeySequence.StandardKey.Copy,
        QKeySequence.StandardKey.Paste,
        QKeySequence.StandardKey.Paste,
    ):
        qtbot.keySequence(draft, QKeySequence(key))
    assert draft.toPlainText() == "wordword"


def test_paste_without_a_field_reaches_the_draft(qtbot: QtBot, window: MainWindow) -> None:
    ask(window)
    QApplication.clipboard().setText("pasted")
    window.transcript.setFocus()
    qtbot.keySequence(window.transcript, QKeySequence(QKeySequence.StandardKey.Paste))
    assert window.composer.draft.toPlainText() == "pasted"


def test_picked_nothing_offers_nothing(
    qtbot: QtBot, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *asked: ([], ""))
    with qtbot.assertNotEmitted(window.files_offered):
        qtbot.mouseClick(window.composer.attach_button, Qt.MouseButton.LeftButton)


def test_first_screen_gives_way_to_the_chat_and_comes_back(
    qtbot: QtBot, window: MainWindow
) -> None:
    assert window.first_screen.isVisible()
    with qtbot.waitSignal(window.suggestion_chosen) as heard:
        qtbot.mouseClick(window.first_screen.clip_card, Qt.MouseButton.LeftButton)
    assert heard.args == ["clip"]
    ask(window, "What\nis this?")
    assert window.transcript.isVisible()
    assert window.first_screen.isHidden()
    assert window.header.title == "What is this?"
    window.set_draft("next")
    with qtbot.waitSignal(window.new_chat_requested):
        qtbot.mouseClick(window.header.new_chat_button, Qt.MouseButton.LeftButton)
    window.clear()
    assert window.first_screen.isVisible()
    assert window.header.title == ""
    assert window.composer.draft.toPlainText() == "next"


def test_a_pasted_book_does_not_become_the_title(window: MainWindow) -> None:
    window.add_user_message(ChatMessage("user", "once upon a time " * 60_000), {})
    assert window.header.title.startswith("once upon")
    assert len(window.windowTitle()) <= 201


def test_model_is_in_view_at_every_width(window: MainWindow) -> None:
    ask(window, "A question that is far too long for the title of a narrow window, by some way")
    for width in (MINIMUM_SIZE[0], 599, 600, 1180):
        window.resize(width, 700)
        QApplication.processEvents()
        pill = window.header.pill
        assert pill.isVisible()
        assert pill.words == "Demo model · coloured shapes only"
        assert pill.width() >= pill.sizeHint().width()
        assert window.header.rect().contains(pill.geometry())
        assert not pill.geometry().intersects(window.header.new_chat_button.geometry())


def visible_parts(window: MainWindow) -> list[QWidget]:
    kinds = (QAbstractButton, QPlainTextEdit)
    return [
        child
        for child in window.findChildren(QWidget)
        if isinstance(child, kinds) and child.isVisible()
    ]


@pytest.mark.parametrize("width", [480, 760, 1180])
def test_nothing_is_cut_off_or_overlaps(window: MainWindow, width: int) -> None:
    ask(window)
    window.add_chip(PICTURE)
    window.update_chip(PICTURE, PICTURE_FILE, QImage(), [])
    window.resize(width, 800)
    QApplication.processEvents()
    assert window.width() == width
    buttons = [part for part in visible_parts(window) if isinstance(part, ThemedButton)]
    assert len(buttons) >= 8
    for button in buttons:
        left = button.mapTo(window, QPoint(0, 0)).x()
        assert left >= 0
        assert left + button.width() <= width
        assert button.width() >= button.sizeHint().width()
    for one in buttons:
        for other in buttons:
            if one is not other and one.parent() is other.parent():
                assert not one.geometry().intersects(other.geometry()), (one.text(), other.text())


def test_everything_that_can_be_pressed_has_a_name(window: MainWindow) -> None:
    ask(window)
    window.add_chip(PICTURE)
    window.set_chip_problem(PICTURE, "It is empty. Choose another file.")
    QApplication.processEvents()
    for part in visible_parts(window):
        interface = QAccessible.queryAccessibleInterface(part)
        assert interface is not None
        name = interface.text(QAccessible.Text.Name)
        assert name.strip(), part
        if isinstance(part, QAbstractButton):
            assert interface.role() in (QAccessible.Role.Button, QAccessible.Role.CheckBox), part
    assert window.header.pill.accessibleName() == "Model: Demo model · coloured shapes only"


def test_tab_reaches_every_button_and_comes_back(qtbot: QtBot, window: MainWindow) -> None:
    ask(window)
    window.add_chip(PICTURE)
    window.set_draft("x")
    QApplication.processEvents()
    wanted = {
        part
        for part in visible_parts(window)
        if isinstance(part, QAbstractButton) and part.isEnabled()
    }
    reached: set[QWidget] = set()
    for _ in range(60):
        focused = QApplication.focusWidget()
        assert focused is not None
        reached.add(focused)
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
        if QApplication.focusWidget() is window.composer.draft:
            break
    else:
        pytest.fail("Tab does not come back to the draft")
    assert wanted <= reached


def test_keyboard_focus_draws_a_ring_and_the_mouse_does_not(
    qtbot: QtBot, window: MainWindow
) -> None:
    button = window.composer.attach_button
    plain = button.grab().toImage()
    button.setFocus(Qt.FocusReason.MouseFocusReason)
    assert button.grab().toImage() == plain
    button.clearFocus()
    button.setFocus(Qt.FocusReason.TabFocusReason)
    assert button.grab().toImage() != plain


def test_dark_and_light_repaint_everything(window: MainWindow, themes: ThemeSource) -> None:
    ask(window)
    corner = QPoint(3, window.height() - 3)
    assert window.grab().toImage().pixelColor(corner) == QColor(LIGHT.page)
    themes.set_choice("dark")
    assert window.grab().toImage().pixelColor(corner) == QColor(DARK.page)
    reply = window.transcript.reply
    assert reply is not None
    image = reply.view.grab().toImage()
    brightest = max(image.pixelColor(x, y).lightness() for x in range(0, 60) for y in range(0, 24))
    assert brightest > 180
    themes.set_choice("light")
    assert window.grab().toImage().pixelColor(corner) == QColor(LIGHT.page)


def test_largest_text_still_fits(window: MainWindow, themes: ThemeSource) -> None:
    ask(window)
    for _ in range(6):
        themes.step_text_size(1)
    window.resize(760, 700)
    QApplication.processEvents()
    for button in (window.composer.think_button, window.composer.send_button):
        assert button.isVisible()
        place = button.mapTo(window, QPoint(button.width(), button.height()))
        assert window.rect().contains(place)
    themes.step_text_size(0)
