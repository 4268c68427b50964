"""The models on screen: what cards say in each state, what their buttons want, what they ask."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible, QKeySequence
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.library import wording
from app.library.model_card import ModelCardView
from app.main_window import MainWindow
from app.model_entry import MemoryUse, ModelEntry, ModelShelf, ModelState, Transfer, WayToGet
from app.theme import MINIMUM_SIZE
from app.theme_source import ThemeSource
from tests.app.test_main_window import drag, drop, files

GB = 10**9
WAYS = (
    WayToGet("convert", round(9.3 * GB), round(3.2 * GB), 5.44),
    WayToGet("ready", 3 * GB, 3 * GB, 5.36),
)
MEMORY = (MemoryUse(4096, 3 << 30), MemoryUse(32768, 4 << 30), MemoryUse(262144, 11 << 30))
BIG = ModelEntry(
    "4B", "Qwen3.5-4B", "best answers that fit", ways=WAYS, memory=MEMORY, recommended=True
)
TOO_BIG = replace(
    BIG,
    key="9B",
    name="Qwen3.5-9B",
    recommended=False,
    fit="too_big",
    fit_note="It needs 6.7 GB, and 5.3 GB may be used here.",
    fit_question="It needs 6.7 GB, and 5.3 GB may be used here. Download it all the same?",
)
HERE = replace(BIG, state="here", kept_bytes=3_200_000_000, can_delete=True)
DEMO = ModelEntry("demo", "Demo model", "coloured shapes only", state="in_use", is_demo=True)
ARRIVING = replace(
    BIG, state="downloading", transfer=Transfer(1_800_000_000, 2_900_000_000, 11e6, 62)
)
STATES: tuple[ModelState, ...] = (
    "absent",
    "queued",
    "downloading",
    "paused",
    "converting",
    "checking",
    "failed",
    "here",
    "next",
    "opening",
    "in_use",
)


@pytest.fixture
def page(window: MainWindow, qtbot: QtBot) -> MainWindow:
    """The window with the models in view."""
    window.show_models()
    return window


def show(window: MainWindow, *entries: ModelEntry) -> list[ModelCardView]:
    window.set_shelf(ModelShelf(entries, "This Mac: M1, 8 GB", "5.3 GB", "found 2 in a cache"))
    QApplication.processEvents()
    return window.models_page.cards


def click(qtbot: QtBot, button: QAbstractButton) -> None:
    assert button.isVisible()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wants(qtbot: QtBot, window: MainWindow, button: QAbstractButton) -> list[str]:
    with qtbot.waitSignal(window.model_commanded) as heard:
        click(qtbot, button)
    return list(heard.args)


def test_what_a_card_says_of_a_model_that_could_be_downloaded(page: MainWindow) -> None:
    (card,) = show(page, BIG)
    words = card.heading.accessibleName()
    assert words.startswith("Qwen3.5-4B, best answers that fit, right for this")
    assert card.figures.text().replace("\N{NO-BREAK SPACE}", " ") == (
        "9.3 GB to download, 3.2 GB more · memory 3.0 GB at 4k tokens, 4.0 GB at 32k, "
        "11 GB at 262k · 5.4 bits a weight"
    )
    assert card.main_button.text() == "Download 9.3 GB"
    assert not card.side_button.isVisible()
    assert not card.in_use_label.isVisible()


@pytest.mark.qt_log_ignore("This plugin does not support")
def test_the_way_to_get_a_model_can_be_chosen(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, BIG)
    click(qtbot, card.way_button)
    first, second = card.way_menu.actions()
    assert first.isChecked()
    assert first.text() == (
        "Convert the original here (best answers) · 9.3 GB to download · 5.4 bits"
    )
    assert "3.0 GB to download" in second.text()
    with qtbot.waitSignal(page.models_page.way_chosen) as heard:
        place = card.way_menu.actionGeometry(second).center()
        qtbot.mouseClick(card.way_menu, Qt.MouseButton.LeftButton, pos=place)
    assert heard.args == ["4B", "ready"]
    show(page, replace(BIG, chosen_way="ready"))
    assert card.main_button.text() == "Download 3.0 GB"
    assert card.way_button.text() == "Ready-made 4-bit"


def test_download_and_what_it_turns_into(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, BIG)
    assert wants(qtbot, page, card.main_button) == ["download", "4B"]
    show(page, replace(BIG, state="queued"))
    assert card.progress.sentence == "Waits for the download before it"
    show(page, ARRIVING)
    assert card.progress.sentence == "1.8 of 2.9 GB · 11 MB/s · 1 min left"
    assert card.progress.fraction == pytest.approx(18 / 29)
    assert not card.figures.isVisible()
    assert wants(qtbot, page, card.main_button) == ["pause", "4B"]
    show(page, replace(ARRIVING, state="paused"))
    assert card.progress.sentence == "Paused at 1.8 of 2.9 GB"
    assert card.main_button.text() == "Resume"
    assert wants(qtbot, page, card.main_button) == ["download", "4B"]
    show(page, replace(BIG, state="converting", done=0.404))
    assert card.progress.sentence == "Converting to 4 bits, 40 %"
    show(page, replace(HERE, state="here"))
    assert not card.progress.isVisible()
    assert wants(qtbot, page, card.main_button) == ["use", "4B"]
    show(page, replace(HERE, state="in_use"))
    assert card.in_use_label.isVisible()
    assert not card.main_button.isVisible()
    assert not card.side_button.isVisible(), "what answers cannot be deleted"


def test_giving_up_asks_when_something_would_be_lost(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, replace(BIG, state="queued"))
    assert wants(qtbot, page, card.side_button) == ["cancel", "4B"]
    show(page, replace(ARRIVING, state="paused"))
    with qtbot.assertNotEmitted(page.model_commanded):
        click(qtbot, card.side_button)
        assert "1.8 GB" in card.question.sentence.text()
        click(qtbot, card.question.no_button)
    assert not card.question.isVisible()
    click(qtbot, card.side_button)
    assert wants(qtbot, page, card.question.yes_button) == ["cancel", "4B"]


def test_deleting_asks_and_says_what_it_frees(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, HERE)
    click(qtbot, card.side_button)
    assert card.question.sentence.text() == "Delete Qwen3.5-4B? That frees 3.2 GB."
    assert card.question.no_button.hasFocus(), "Return must not delete"
    show(page, replace(HERE, memory=()))
    assert card.question.isVisible(), "other news do not take the question away"
    assert wants(qtbot, page, card.question.yes_button) == ["delete", "4B"]
    click(qtbot, card.side_button)
    show(page, BIG)
    assert not card.question.isVisible(), "there is nothing left to delete"


def test_what_is_too_big_is_said_and_can_be_insisted_on(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, TOO_BIG)
    assert card.fit_note.text() == "It needs 6.7 GB, and 5.3 GB may be used here."
    assert card.fit_note.property("tone") == "warn"
    with qtbot.assertNotEmitted(page.model_commanded):
        click(qtbot, card.main_button)
    assert card.question.yes_button.text() == "Download anyway"
    assert wants(qtbot, page, card.question.yes_button) == ["download", "9B"]
    show(page, replace(TOO_BIG, state="here"))
    click(qtbot, card.main_button)
    assert wants(qtbot, page, card.question.yes_button) == ["use_anyway", "9B"]


def test_a_failure_says_why_and_can_be_tried_again(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, replace(BIG, state="failed", problem="The disk is full. Free 3 GB."))
    assert card.problem.text() == "The disk is full. Free 3 GB."
    assert card.problem.isVisible()
    assert card.main_button.text() == "Try again"
    assert wants(qtbot, page, card.main_button) == ["download", "4B"]


@pytest.mark.parametrize(
    ("done", "words"), [(1.8, "Stopped at 1.8 of 9.3 GB"), (9.3, ""), (0.0, "")]
)
def test_a_failed_download_says_how_much_has_arrived(
    done: float, words: str, page: MainWindow
) -> None:
    transfer = Transfer(round(done * GB), round(9.3 * GB), 2e6, 5000)
    failed = replace(BIG, state="failed", problem="The connection broke off.", transfer=transfer)
    (card,) = show(page, failed)
    assert (card.progress.isVisible(), card.progress.sentence) == (bool(words), words)
    assert card.problem.isVisible()


def test_a_token_is_asked_for_where_one_is_needed(page: MainWindow, qtbot: QtBot) -> None:
    failed = replace(
        BIG, state="failed", problem="It wants a token.", needs_token=True, token_note="Kept here."
    )
    (card,) = show(page, failed)
    assert card.question.sentence.text() == "Kept here."
    with qtbot.assertNotEmitted(page.models_page.token_given):
        click(qtbot, card.question.yes_button)
    qtbot.keyClicks(card.question.field, " hf_secret ")
    assert card.question.field.displayText() != " hf_secret "
    with qtbot.waitSignal(page.models_page.token_given) as heard:
        qtbot.keyClick(card.question.field, Qt.Key.Key_Return)
    assert heard.args == ["4B", "hf_secret"]
    assert card.question.field.text() == ""


def test_the_models_and_back_by_keyboard_and_mouse(window: MainWindow, qtbot: QtBot) -> None:
    show(window, BIG, DEMO)
    window.set_draft("half a question")
    with qtbot.waitSignal(window.models_shown):
        click(qtbot, window.header.pill)
    assert window.shows_models
    assert not window.composer.isVisible()
    assert window.header.machine_pill.words == "This Mac: M1, 8 GB · 5.3 GB for models"
    click(qtbot, window.header.back_button)
    assert not window.shows_models
    qtbot.keySequence(window.composer.draft, QKeySequence("Ctrl+Shift+M"))
    assert window.shows_models
    qtbot.keyClicks(window.models_page, "xyz")
    qtbot.keyClick(window.models_page, Qt.Key.Key_Escape)
    assert not window.shows_models
    assert window.composer.draft.hasFocus()
    assert window.composer.draft.toPlainText() == "half a question"


def test_escape_leaves_the_models_and_lets_an_answer_go_on(
    window: MainWindow, qtbot: QtBot
) -> None:
    window.set_busy(True)
    window.show_models()
    with qtbot.assertNotEmitted(window.stop_requested):
        qtbot.keyClick(window.models_page, Qt.Key.Key_Escape)
    assert not window.shows_models
    with qtbot.waitSignal(window.stop_requested):
        qtbot.keyClick(window.composer.draft, Qt.Key.Key_Escape)


def test_escape_takes_a_question_away_first(page: MainWindow, qtbot: QtBot) -> None:
    (card,) = show(page, HERE)
    click(qtbot, card.side_button)
    qtbot.keyClick(card.question.no_button, Qt.Key.Key_Escape)
    assert not card.question.isVisible()
    assert page.shows_models
    qtbot.keyClick(page.models_page, Qt.Key.Key_Escape)
    assert not page.shows_models


def test_a_dropped_folder_goes_to_the_models(page: MainWindow, qtbot: QtBot) -> None:
    data = files(Path("/models/some"))
    assert drag(page, data).isAccepted()
    assert page.drop_overlay.accessibleName() == "Drop to add a model"
    with (
        qtbot.assertNotEmitted(page.files_offered),
        qtbot.waitSignal(page.folders_offered) as heard,
    ):
        drop(page, data)
    assert heard.args == [[Path("/models/some")]]


def test_a_folder_can_be_picked(
    page: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *asked: "/models/some")
    with qtbot.waitSignal(page.folders_offered) as heard:
        click(qtbot, page.models_page.add_button)
    assert heard.args == [[Path("/models/some")]]


def test_cards_keep_their_place_while_others_come_and_go(page: MainWindow) -> None:
    first = show(page, BIG, DEMO)
    found = replace(HERE, key="/x", name="Found")
    cards = show(page, BIG, found, DEMO)
    assert [card.entry.key for card in cards] == ["4B", "/x", "demo"]
    assert [cards[0], cards[2]] == first
    tops = [card.mapTo(page, QPoint(0, 0)).y() for card in cards]
    assert tops == sorted(tops)
    assert len(show(page, DEMO, BIG)) == 2
    assert [card.entry.key for card in page.models_page.cards] == ["demo", "4B"]


def test_the_tab_key_goes_through_the_cards_as_they_stand(page: MainWindow, qtbot: QtBot) -> None:
    show(page, BIG, DEMO)
    show(page, BIG, replace(HERE, key="/x", name="Found"), replace(DEMO, state="here"))
    page.models_page.setFocus()
    passed = []
    for _ in range(6):
        focused = QApplication.focusWidget()
        assert focused is not None
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
        passed.append(QApplication.focusWidget())
    first, found, demo = page.models_page.cards
    assert passed == [
        first.main_button,
        first.way_button,
        found.main_button,
        found.side_button,
        demo.main_button,
        page.models_page.add_button,
    ]


@pytest.mark.parametrize("width", [MINIMUM_SIZE[0], 1180])
def test_the_scroll_bar_moves_nothing(page: MainWindow, width: int) -> None:
    page.resize(width, 800)
    (card,) = show(page, BIG)
    place = card.geometry()
    show(page, BIG, *(replace(HERE, key=str(number)) for number in range(9)))
    assert page.models_page.verticalScrollBar().isVisible()
    assert card.geometry() == place
    assert card.mapTo(page, card.rect().topRight()).x() < page.width() - 12


@pytest.mark.parametrize("width", [MINIMUM_SIZE[0], 700, 1180])
@pytest.mark.parametrize("text_steps", [0, 5])
def test_nothing_is_cut_off_in_any_state(
    page: MainWindow, themes: ThemeSource, width: int, text_steps: int
) -> None:
    for _ in range(text_steps):
        themes.step_text_size(1)
    entries = [
        replace(
            TOO_BIG,
            key=state,
            state=state,
            kept_bytes=GB,
            can_delete=True,
            done=0.5,
            transfer=ARRIVING.transfer,
            recommended=True,
            problem="The connection broke off. " * 3 if state == "failed" else "",
        )
        for state in STATES
    ]
    endless = replace(HERE, key="endless", name="a" * 90, place="/folders/" + "b" * 200)
    page.resize(width, 800)
    cards = show(page, endless, *entries)
    QApplication.processEvents()
    for card in cards:
        if card.side_button.isVisible():
            card.on_side_clicked()
    QApplication.processEvents()
    for card in cards:
        assert card.width() <= width
        for part in card.findChildren(QWidget):
            if not part.isVisible():
                continue
            place = part.rect().translated(part.mapTo(card, QPoint(0, 0)))
            assert card.rect().contains(place), (card.entry.state, part)
            if isinstance(part, QLabel):
                assert part.height() >= part.heightForWidth(part.width()), part.text()
            if isinstance(part, QAbstractButton):
                assert part.width() >= part.sizeHint().width()
                name = QAccessible.queryAccessibleInterface(part).text(QAccessible.Text.Name)
                assert name.strip()
    themes.step_text_size(0)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 MB"),
        (900, "1 MB"),
        (9_400_000, "9 MB"),
        (99_000_000, "99 MB"),
        (100_000_000, "0.1 GB"),
        (2_940_000_000, "2.9 GB"),
        (9_960_000_000, "10 GB"),
        (19_300_000_000, "19 GB"),
    ],
)
def test_sizes_are_said_as_disks_are_sold(count: int, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(
    ("transfer", "words"),
    [
        (Transfer(0, 9_000_000), "0 of 9 MB"),
        (
            Transfer(1_800_000_000, 2_900_000_000, 11.4e6, 96),
            "1.8 of 2.9 GB · 11 MB/s · 2 min left",
        ),
        (Transfer(1, 2_900_000_000, 480_000, 6000), "1 MB of 2.9 GB · 480 kB/s · 2 h left"),
        (
            Transfer(3_100_000_000, 3 * GB, 1e6, 3),
            "3.0 of 3.0 GB · 1.0 MB/s · less than a minute left",
        ),
        (Transfer(5, 19_300_000_000, 100, 9e6), "1 MB of 19 GB · 0 kB/s · days left"),
    ],
)
def test_how_far_a_download_is(transfer: Transfer, words: str) -> None:
    assert wording.transfer_line(transfer) == words


def test_the_first_screen_offers_what_is_best_done_next(window: MainWindow, qtbot: QtBot) -> None:
    offer = window.model_offer
    show(window, TOO_BIG, DEMO)
    assert not offer.isVisible(), "nothing that fits"
    show(window, TOO_BIG, BIG, DEMO)
    assert offer.isVisible()
    assert offer.button.text() == "Download 9.3 GB"
    assert wants(qtbot, window, offer.button) == ["download", "4B"]
    assert window.shows_models
    window.show_chat()
    show(window, ARRIVING, DEMO)
    assert offer.sentence.text() == "1.8 of 2.9 GB · 11 MB/s · 1 min left"
    show(window, HERE, DEMO)
    assert wants(qtbot, window, offer.button) == ["use", "4B"]
    window.show_chat()
    show(window, replace(HERE, state="in_use"), replace(DEMO, state="here"))
    assert not offer.isVisible(), "a real model answers"


@pytest.mark.parametrize("height", [MINIMUM_SIZE[1], 640, 800])
def test_the_offer_overlaps_nothing(window: MainWindow, height: int) -> None:
    window.resize(MINIMUM_SIZE[0], height)
    show(window, BIG, DEMO)
    screen, offer = window.first_screen, window.model_offer
    assert offer.isVisible()
    assert screen.rect().contains(offer.geometry())
    assert offer.geometry().top() >= screen.picture_card.geometry().bottom()
    assert offer.button.isVisible()
