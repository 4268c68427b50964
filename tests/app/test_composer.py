"""The composer: keys, the clipboard, chips, and a button that turns into Stop."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QGuiApplication, QImage, QInputMethodEvent, QTextDocument
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.chat.attachment_chips import AttachmentChip
from app.chat.composer import Composer
from app.conversation.message import Attachment
from app.main_window import MainWindow
from app.theme_source import ThemeSource

PICTURE = Path("/pictures/cat.png")
PICTURE_FILE = Attachment(PICTURE, "image", "cat.png", 640, 480, token_count=300)


@pytest.fixture
def composer(window: MainWindow) -> Composer:
    """The composer of an active window, with the focus in its draft."""
    return window.composer


@pytest.fixture
def sent(composer: Composer) -> list[tuple[str, list[Attachment], bool]]:
    """What was asked to be sent so far."""
    made: list[tuple[str, list[Attachment], bool]] = []
    composer.send_requested.connect(lambda *what: made.append(what))
    return made


def paste(composer: Composer, data: QMimeData) -> None:
    QGuiApplication.clipboard().setMimeData(data)
    composer.draft.paste()
    # What Python made must not be on the clipboard when the process ends.
    QGuiApplication.clipboard().clear()


def image(width: int = 8, height: int = 6) -> QImage:
    made = QImage(width, height, QImage.Format.Format_RGB32)
    made.fill(0)
    return made


def test_enter_sends_and_leaves_the_draft(
    qtbot: QtBot, composer: Composer, sent: list[object]
) -> None:
    qtbot.keyClicks(composer.draft, "  What is this? ")
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return)
    assert sent == [("What is this?", [], False)]
    assert composer.draft.toPlainText() == "  What is this? "


def test_shift_enter_makes_a_line_and_the_card_grows(
    qtbot: QtBot, composer: Composer, sent: list[object]
) -> None:
    qtbot.keyClicks(composer.draft, "one")
    low = composer.height()
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClicks(composer.draft, "two")
    assert composer.draft.toPlainText() == "one\ntwo"
    assert composer.height() > low
    assert not sent


def test_growth_ends_and_the_text_scrolls(composer: Composer) -> None:
    composer.draft.setPlainText("\n".join("line" for _ in range(9)))
    nine = composer.height()
    composer.draft.setPlainText("\n".join("line" for _ in range(60)))
    assert composer.height() == nine
    assert composer.draft.verticalScrollBar().maximum() > 0


def test_enter_in_the_middle_of_a_composed_word_does_not_send(
    qtbot: QtBot, composer: Composer, sent: list[object]
) -> None:
    qtbot.keyClicks(composer.draft, "a ")
    QApplication.sendEvent(composer.draft, QInputMethodEvent("にほ", []))
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return)
    assert not sent
    assert composer.draft.toPlainText() == "a ", "nor does it begin a new line"
    commit = QInputMethodEvent("", [])
    commit.setCommitString("日本")
    QApplication.sendEvent(composer.draft, commit)
    assert composer.draft.toPlainText().split() == ["a", "日本"]
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return)
    assert len(sent) == 1


def test_nothing_is_not_sent(qtbot: QtBot, composer: Composer, sent: list[object]) -> None:
    assert not composer.send_button.isEnabled()
    qtbot.keyClicks(composer.draft, "   ")
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return)
    assert not sent
    assert not composer.send_button.isEnabled()


def test_think_is_sent_along(qtbot: QtBot, composer: Composer, sent: list[object]) -> None:
    qtbot.mouseClick(composer.think_button, Qt.MouseButton.LeftButton)
    assert composer.think_button.accessibleName() == "Think on"
    qtbot.keyClicks(composer.draft, "why")
    qtbot.mouseClick(composer.send_button, Qt.MouseButton.LeftButton)
    assert sent == [("why", [], True)]


def test_busy_turns_send_into_stop(qtbot: QtBot, composer: Composer, sent: list[object]) -> None:
    stops: list[bool] = []
    composer.stop_requested.connect(lambda: stops.append(True))
    composer.set_busy(True)
    assert composer.send_button.accessibleName() == "Stop"
    assert composer.send_button.isEnabled()
    qtbot.keyClicks(composer.draft, "next")
    qtbot.keyClick(composer.draft, Qt.Key.Key_Return)
    assert not sent
    assert "Esc" in composer.status.text()
    qtbot.mouseClick(composer.send_button, Qt.MouseButton.LeftButton)
    assert stops == [True]
    assert composer.draft.toPlainText() == "next"
    composer.set_busy(False)
    assert composer.send_button.accessibleName() == "Send"


def test_pasted_text_is_text_without_its_looks(composer: Composer) -> None:
    data = QMimeData()
    data.setHtml("<b>bold</b>")
    data.setText("bold")
    paste(composer, data)
    assert composer.draft.toPlainText() == "bold"


def test_pasted_picture_is_offered(qtbot: QtBot, composer: Composer) -> None:
    data = QMimeData()
    data.setImageData(image(7, 5))
    with qtbot.waitSignal(composer.draft.image_pasted) as heard:
        paste(composer, data)
    assert heard.args is not None
    assert (heard.args[0].width(), heard.args[0].height()) == (7, 5)
    assert composer.draft.toPlainText() == ""


def test_pasted_file_wins_over_the_icon_that_comes_with_it(
    qtbot: QtBot, composer: Composer, tmp_path: Path
) -> None:
    data = QMimeData()
    data.setImageData(image())
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "a b.png")), QUrl("https://example.org/x")])
    with (
        qtbot.assertNotEmitted(composer.draft.image_pasted),
        qtbot.waitSignal(composer.draft.files_offered) as heard,
    ):
        paste(composer, data)
    assert heard.args == [[tmp_path / "a b.png"]]


def test_chip_tells_what_is_known(composer: Composer) -> None:
    composer.chips.add(PICTURE)
    (chip,) = composer.chips.chips
    assert chip.is_pending
    assert chip.line == "reading"
    composer.chips.update_chip(PICTURE, PICTURE_FILE, image(), [])
    assert chip.line == "640 × 480 · 300 tokens"
    composer.chips.set_read(PICTURE)
    assert chip.line == "640 × 480 · 300 tokens · ready"
    assert chip.accessibleName().endswith(chip.line)
    composer.chips.update_chip(PICTURE, PICTURE_FILE, image(), [])
    assert chip.line == "640 × 480 · 300 tokens", "looked at in another way"
    clip = Path("/clips/a.mp4")
    composer.chips.add(clip)
    composer.chips.update_chip(
        clip,
        Attachment(clip, "video", "a.mp4", duration_s=10.0, frame_count=16, token_count=64),
        image(),
        [image()] * 16,
    )
    assert composer.chips.chips[1].line == "0:10 · 16 frames · 64 tokens"
    assert [item.name for item in composer.chips.attachments] == ["cat.png", "a.mp4"]


def test_a_file_name_is_never_taken_for_markup(composer: Composer) -> None:
    composer.chips.add(Path("/pictures/<b>bold <img src=x>.png"))
    (chip,) = composer.chips.chips
    for tip in (chip.toolTip(), chip.remove_button.toolTip()):
        shown = QTextDocument()
        shown.setHtml(tip)
        assert "<b>bold <img src=x>.png" in shown.toPlainText()


def test_problem_is_a_whole_sentence_on_its_chip(composer: Composer) -> None:
    sentence = "The file ends before the clip does. Export it again or choose another one, please."
    composer.draft.setPlainText("draft")
    composer.chips.add(PICTURE)
    low = composer.height()
    composer.chips.set_problem(PICTURE, sentence)
    (chip,) = composer.chips.chips
    assert chip.line == sentence
    assert chip.accessibleName() == f"cat.png, {sentence}"
    assert composer.height() == low
    composer.window().resize(440, 600)
    QApplication.processEvents()
    assert composer.height() > low
    assert composer.chips.attachments == []
    assert composer.draft.toPlainText() == "draft"


def test_a_problem_does_not_repeat_the_name_above_it(composer: Composer) -> None:
    composer.chips.add(PICTURE)
    composer.chips.set_problem(PICTURE, "“cat.png” is empty. Choose another file.")
    (chip,) = composer.chips.chips
    assert chip.line == "It is empty. Choose another file."
    assert chip.problem == "“cat.png” is empty. Choose another file."
    composer.chips.set_problem(PICTURE, "“cat.png.jpg” is empty. Choose another file.")
    assert chip.line == "“cat.png.jpg” is empty. Choose another file."


def test_the_same_file_makes_one_chip(composer: Composer) -> None:
    composer.chips.add(PICTURE)
    composer.chips.add(PICTURE)
    assert len(composer.chips.chips) == 1


def test_news_about_a_removed_file_are_ignored(qtbot: QtBot, composer: Composer) -> None:
    composer.chips.add(PICTURE)
    button = composer.chips.chips[0].remove_button
    with qtbot.waitSignal(composer.chips.attachment_removed) as heard:
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert heard.args == [PICTURE]
    composer.chips.update_chip(PICTURE, PICTURE_FILE, image(), [])
    composer.chips.set_problem(PICTURE, "Gone.")
    assert composer.chips.chips == []
    assert not composer.send_button.isEnabled()


def test_chips_can_be_removed_from_the_keyboard(qtbot: QtBot, composer: Composer) -> None:
    composer.chips.add(PICTURE)
    button = composer.chips.chips[0].remove_button
    button.setFocus(Qt.FocusReason.TabFocusReason)
    with qtbot.waitSignal(composer.chips.attachment_removed):
        qtbot.keyClick(button, Qt.Key.Key_Return)


def test_many_chips_stay_inside_the_card_and_scroll(composer: Composer) -> None:
    composer.window().resize(480, 600)
    QApplication.processEvents()
    for number in range(12):
        composer.chips.add(Path(f"/pictures/picture number {number}.png"))
    area = composer.chips
    assert area.verticalScrollBar().maximum() > 0
    assert area.horizontalScrollBar().maximum() == 0
    for chip in area.chips:
        assert chip.geometry().right() <= area.viewport().width()
    assert composer.height() < 320


def test_a_chip_is_measured_once_however_many_come_after_it(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[AttachmentChip] = []
    measure = AttachmentChip._measure

    def counted(chip: AttachmentChip, width: int) -> tuple[int, int, list[str]]:
        measured.append(chip)
        return measure(chip, width)

    monkeypatch.setattr(AttachmentChip, "_measure", counted)
    for number in range(40):
        composer.chips.add(Path(f"/pictures/{number}.png"))
    assert len(measured) <= 2 * 40, "once with a scroll bar, once without"


@pytest.mark.parametrize("steps", [0, 4])
def test_the_status_is_never_cut(composer: Composer, themes: ThemeSource, steps: int) -> None:
    composer.window().resize(480, 700)
    for _ in range(steps):
        themes.step_text_size(1)
    QApplication.processEvents()
    low = composer.height()
    composer.offer_removal("A file with quite a long name.heic cannot be sent.", "Remove it")
    QApplication.processEvents()
    status, button = composer.status, composer.removal_button
    assert status.height() >= status.heightForWidth(status.width())
    assert composer.rect().contains(status.geometry())
    assert composer.rect().contains(button.geometry())
    assert not status.geometry().intersects(button.geometry())
    composer.set_status("")
    QApplication.processEvents()
    assert composer.height() == low
    assert button.isHidden()
    themes.step_text_size(0)


def test_clear_takes_everything_away(composer: Composer) -> None:
    composer.draft.setPlainText("x\ny")
    composer.chips.add(PICTURE)
    composer.clear()
    assert composer.draft.toPlainText() == ""
    assert composer.chips.chips == []
    assert not composer.send_button.isEnabled()
