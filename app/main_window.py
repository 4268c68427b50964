"""The window: header, chat or models, menus, and drops anywhere on it.

Knows no engine and decides nothing: it tells what the person did and shows what it is told.
"""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QImage,
    QKeyEvent,
    QResizeEvent,
    QTextCursor,
)
from PySide6.QtWidgets import (
    QAbstractSlider,
    QFileDialog,
    QMainWindow,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.chat.composer import Composer
from app.chat.draft_edit import local_files
from app.chat.first_screen import FirstScreen
from app.chat.transcript import Transcript
from app.conversation.detail import DetailChoice, PictureDetail
from app.conversation.message import Attachment, ChatMessage
from app.drop_overlay import DropOverlay
from app.library.model_offer import ModelOffer
from app.library.models_page import ModelsPage
from app.model_entry import ModelShelf
from app.theme import FIRST_SIZE, MINIMUM_SIZE
from app.theme_source import ThemeSource
from app.theme_style import style_sheet
from app.window_actions import NATIVE_MENU_BAR, WindowActions
from app.window_header import WindowHeader

_COMMAND = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier
_PAGE_STEPS: dict[int, QAbstractSlider.SliderAction] = {
    Qt.Key.Key_PageUp: QAbstractSlider.SliderAction.SliderPageStepSub,
    Qt.Key.Key_PageDown: QAbstractSlider.SliderAction.SliderPageStepAdd,
}
# By whether the models are in view.
_DROP_WORDS = {False: "Drop to attach", True: "Drop to add a model"}
# Longer than any header is wide; a pasted book is no title for a window.
_TITLE_LENGTH = 200
_MEDIA_PATTERNS = (
    "*.png *.jpg *.jpeg *.webp *.gif *.bmp *.tif *.tiff *.heic *.heif *.avif "
    "*.mp4 *.mov *.m4v *.webm *.mkv *.avi"
)


class MainWindow(QMainWindow):
    """The one window. Everything here runs in the GUI thread.

    Signals:
        message_submitted(str, object, bool): text, list of Attachment, think first. The draft stays
            until `clear_composer`.
        stop_requested(): Stop or Esc while busy.
        new_chat_requested(): New chat.
        files_offered(object): list of Path that were dropped, pasted or picked.
        image_pasted(object): a QImage from the clipboard.
        detail_chosen(str): how closely to look at pictures, a PictureDetail.
        attachment_removed(object): the Path of a chip that was removed.
        suggestion_chosen(str): "picture" or "clip" on the first screen.
        regenerate_requested(): another answer to the last question.
        model_commanded(str, str): what is to be done with a model, and its key; see ModelsPage.
        models_shown(): the models have come into view.
        folders_offered(object): list of Path that may hold a model.
    """

    message_submitted = Signal(str, object, bool)
    stop_requested = Signal()
    new_chat_requested = Signal()
    files_offered = Signal(object)
    image_pasted = Signal(object)
    detail_chosen = Signal(str)
    attachment_removed = Signal(object)
    suggestion_chosen = Signal(str)
    regenerate_requested = Signal()
    model_commanded = Signal(str, str)
    models_shown = Signal()
    folders_offered = Signal(object)

    def __init__(self, themes: ThemeSource) -> None:
        super().__init__()
        self._themes = themes
        self.setWindowTitle("Fireside")
        self.setAcceptDrops(True)
        self.header = WindowHeader(themes)
        self.transcript = Transcript(themes)
        self.first_screen = FirstScreen(themes)
        self.composer = Composer(themes)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.first_screen)
        self._pages.addWidget(self.transcript)
        self.models_page = ModelsPage(themes)
        self.model_offer = ModelOffer(themes)
        self.first_screen.set_offer(self.model_offer)
        self._places = QStackedWidget()
        self._places.addWidget(_column([self._pages, self.composer], self._pages))
        self._places.addWidget(self.models_page)
        page = _column([self.header, self._places], self._places)
        page.setObjectName("page")
        self.setCentralWidget(page)
        self.actions_menu = WindowActions(self, themes)
        if not NATIVE_MENU_BAR:
            self.header.set_menu(self.actions_menu.menu)
        self.drop_overlay = DropOverlay(themes, self)
        self._connect()
        self.on_theme_changed()
        self.set_chat_title("")
        self.setMinimumSize(*MINIMUM_SIZE)
        self.resize(*FIRST_SIZE)
        self.composer.draft.setFocus()

    def _connect(self) -> None:
        self._themes.changed.connect(self.on_theme_changed)
        self.header.new_chat_requested.connect(self.new_chat_requested)
        self.actions_menu.new_chat_chosen.connect(self.new_chat_requested)
        self.actions_menu.attach_chosen.connect(self.on_attach_requested)
        self.actions_menu.stop_chosen.connect(self.stop_requested)
        self.actions_menu.paste_outside.connect(self.on_pasted_outside)
        self.actions_menu.models_chosen.connect(self.show_models)
        self.actions_menu.back_chosen.connect(self.on_back_chosen)
        self.header.models_requested.connect(self.show_models)
        self.header.back_requested.connect(self.show_chat)
        self.models_page.commanded.connect(self.model_commanded)
        self.models_page.folders_offered.connect(self.folders_offered)
        self.model_offer.commanded.connect(self.model_commanded)
        self.model_offer.models_requested.connect(self.show_models)
        self.composer.send_requested.connect(self.message_submitted)
        self.composer.stop_requested.connect(self.stop_requested)
        self.composer.detail_pill.detail_chosen.connect(self.detail_chosen)
        self.composer.attach_requested.connect(self.on_attach_requested)
        self.composer.draft.files_offered.connect(self.files_offered)
        self.composer.draft.image_pasted.connect(self.image_pasted)
        self.composer.chips.attachment_removed.connect(self.attachment_removed)
        self.first_screen.suggestion_chosen.connect(self.suggestion_chosen)
        self.transcript.regenerate_requested.connect(self.regenerate_requested)

    # What the window can be told.

    def set_model_label(self, name: str, note: str) -> None:
        """Which model answers, always in view: "Demo model", "coloured shapes only"."""
        self.header.show_model(name, note)

    @property
    def shows_models(self) -> bool:
        """Whether the models are in view, not the chat."""
        return self._places.currentWidget() is self.models_page

    @Slot()
    def show_models(self) -> None:
        """Turn to the models."""
        if not self.shows_models:
            self._turn_to(self.models_page)
            self.models_page.setFocus()
            self.models_shown.emit()

    @Slot()
    def show_chat(self) -> None:
        """Turn back to the chat."""
        if self.shows_models:
            self.models_page.close_questions()
            self._turn_to(self._places.widget(0))
            self.composer.draft.setFocus()

    @Slot(str)
    def show_model_card(self, key: str) -> None:
        """Turn to the models, and to one of them."""
        self.show_models()
        self.models_page.point_to(key)

    def _turn_to(self, place: QWidget) -> None:
        self._places.setCurrentWidget(place)
        self.header.set_above_models(self.shows_models)
        self.actions_menu.set_above_models(self.shows_models)

    def set_shelf(self, shelf: ModelShelf) -> None:
        """Which models there are, and how they are doing."""
        self.models_page.show_shelf(shelf)
        self.header.show_machine(shelf.machine, shelf.budget)
        self.model_offer.show_shelf(shelf)
        self.first_screen.on_offer_changed()

    def set_chat_title(self, title: str) -> None:
        """What the chat is about, in the header and as the window's title."""
        self.header.set_title(title)
        self.setWindowTitle(title or "Fireside")

    def set_status(self, text: str) -> None:
        """The line below the composer."""
        self.composer.set_status(text)

    def remove_chip(self, path: Path) -> None:
        """Take a chip away that nobody asked for."""
        self.composer.chips.remove(path)

    def offer_removal(self, sentence: str, offer: str) -> None:
        """Below the composer: some chips cannot be sent, and a button that takes them away."""
        self.composer.offer_removal(sentence, offer)

    def set_detail_choices(self, choices: list[DetailChoice], chosen: PictureDetail) -> None:
        """How closely the draft's pictures can be looked at; nothing to choose hides it."""
        self.composer.detail_pill.set_choices(choices, chosen)

    def set_suggestion(self, kind: str, question: str, images: list[QImage]) -> None:
        """The sample behind a card of the first screen: one picture, or the frames of a clip."""
        self.first_screen.set_suggestion(kind, question, images)

    def add_chip(self, path: Path) -> None:
        """A chip that says "reading" for a file about which nothing is known yet."""
        self.composer.chips.add(path)

    def update_chip(
        self, path: Path, attachment: Attachment, thumbnail: QImage, filmstrip: list[QImage]
    ) -> None:
        """What the file of a chip is; `filmstrip` has frames of a clip, in order."""
        self.composer.chips.update_chip(path, attachment, thumbnail, filmstrip)

    def set_chip_read(self, path: Path) -> None:
        """The model has read the file of a chip ahead."""
        self.composer.chips.set_read(path)

    def set_chip_problem(self, path: Path, sentence: str) -> None:
        """Why the file of a chip cannot be sent."""
        self.composer.chips.set_problem(path, sentence)

    def clear_composer(self) -> None:
        """The message was taken over: take away text and chips."""
        self.composer.clear()
        self.composer.draft.setFocus()

    def set_draft(self, text: str) -> None:
        """Put text into the composer, ready to be sent or changed."""
        self.composer.draft.setPlainText(text)
        self.composer.draft.moveCursor(QTextCursor.MoveOperation.End)
        self.composer.draft.setFocus()

    def set_busy(self, is_busy: bool) -> None:
        """Whether a reply is being written: Stop takes the place of Send."""
        self.composer.set_busy(is_busy)
        self.actions_menu.set_can_stop(is_busy)

    def set_waiting(self, is_waiting: bool) -> None:
        """Whether a message goes out by itself in a moment; Esc keeps it back."""
        self.actions_menu.set_can_stop(is_waiting)

    def add_user_message(self, message: ChatMessage, thumbnails: dict[Path, list[QImage]]) -> None:
        """Add a question; the first one names the chat."""
        if not self.transcript.messages:
            self.set_chat_title(_title(message))
        self._pages.setCurrentWidget(self.transcript)
        self.transcript.add_user_message(message, thumbnails)

    def begin_reply(self) -> None:
        """Add an empty answer, which the following calls are about."""
        self._pages.setCurrentWidget(self.transcript)
        self.transcript.begin_reply()

    def append_text(self, text: str) -> None:
        """More of the answer."""
        self.transcript.append_text(text)

    def append_thinking(self, text: str) -> None:
        """More of the reasoning."""
        self.transcript.append_thinking(text)

    def set_progress(self, sentence: str, fraction: float | None) -> None:
        """What is being done before the first word; `fraction` from 0 to 1, or None."""
        self.transcript.set_progress(sentence, fraction)

    def finish_reply(self, message: ChatMessage) -> None:
        """The answer is complete, or was stopped."""
        self.transcript.finish_reply(message)

    def fail_reply(self, sentence: str) -> None:
        """There will be no answer, or no more of it."""
        self.transcript.fail_reply(sentence)

    def remove_reply(self) -> None:
        """Take the last answer away, before another one to the same question."""
        self.transcript.remove_reply()

    def take_back_question(self) -> None:
        """Take the last question away, with the answer that nobody has begun."""
        self.transcript.remove_question()
        if not self.transcript.messages:
            self.clear()

    def clear(self) -> None:
        """An empty conversation: back to the first screen. The draft stays."""
        self.transcript.clear()
        self._pages.setCurrentWidget(self.first_screen)
        self.set_chat_title("")
        self.composer.draft.setFocus()

    # What happens to the window.

    @Slot()
    def on_theme_changed(self) -> None:
        """Take over colours and sizes."""
        self.setStyleSheet(style_sheet(self._themes.theme))

    @Slot()
    def on_back_chosen(self) -> None:
        """Esc above the models: a question on a card goes first."""
        if not self.models_page.close_questions():
            self.show_chat()

    @Slot()
    def on_pasted_outside(self) -> None:
        """Paste, while no field has the focus."""
        if not self.shows_models:
            self.composer.draft.paste()

    @Slot()
    def on_attach_requested(self) -> None:
        """Let the person pick files."""
        self.show_chat()
        names, _ = QFileDialog.getOpenFileNames(
            self,
            "Attach pictures or clips",
            "",
            f"Pictures and clips ({_MEDIA_PATTERNS});;All files (*)",
        )
        if names:
            self.files_offered.emit([Path(name) for name in names])

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Keys that nobody else wanted: pages scroll the conversation, letters go into the draft.
        if event.key() in _PAGE_STEPS:
            scrolled = self.models_page if self.shows_models else self.transcript
            scrolled.verticalScrollBar().triggerAction(_PAGE_STEPS[event.key()])
        elif self.shows_models:
            super().keyPressEvent(event)
        elif event.text().isprintable() and event.text() and not event.modifiers() & _COMMAND:
            self.composer.draft.setFocus()
            self.composer.draft.insertPlainText(event.text())
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if local_files(event.mimeData()):
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()
            self.drop_overlay.cover(_DROP_WORDS[self.shows_models])
        elif self.shows_models:
            return
        elif event.mimeData().hasText() and not event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        event.accept()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.drop_overlay.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.drop_overlay.hide()
        files = local_files(event.mimeData())
        if files:
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()
            offered = self.folders_offered if self.shows_models else self.files_offered
            offered.emit(files)
            self.activateWindow()
        elif self.shows_models:
            return
        elif event.mimeData().hasText():
            event.acceptProposedAction()
            self.composer.draft.insertPlainText(event.mimeData().text())
        if not self.shows_models:
            self.composer.draft.setFocus()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.drop_overlay.isVisible():
            self.drop_overlay.cover(_DROP_WORDS[self.shows_models])


def _column(widgets: Sequence[QWidget], stretched: QWidget) -> QWidget:
    """Widgets below one another without any room between; `stretched` takes what is left over."""
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    for widget in widgets:
        layout.addWidget(widget, 1 if widget is stretched else 0)
    return column


def _title(message: ChatMessage) -> str:
    """The first question in one line, or the name of the file it came with."""
    words = " ".join(message.text[: 2 * _TITLE_LENGTH].split())
    if words:
        return words if len(words) <= _TITLE_LENGTH else f"{words[:_TITLE_LENGTH].rstrip()}…"
    return message.attachments[0].name if message.attachments else "New chat"
