"""The page "Models": a card for each model, and a way to add one that is in a folder.

Knows no engine: it tells what the person wants and shows what it is told.
"""

from itertools import pairwise
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFileDialog, QScrollArea, QWidget

from app.buttons import QuietButton
from app.chat.label import ThemedLabel
from app.library.model_card import ModelCardView
from app.model_entry import ModelEntry, ModelShelf
from app.theme import COLUMN_WIDTH, SIDE_MARGIN
from app.theme_source import ThemeSource

_GAP_PX = 12
_TOP_PX = 24
# Where the words of the button above begin.
_NOTE_INDENT_PX = 27
_ADD = "Add a folder with a model"


class ModelsPage(QScrollArea):
    """All models in one centred column.

    Signals:
        commanded(str, str): what is to be done ("download", "pause", "cancel", "use",
            "use_anyway", "delete", "forget", "stay"),
            and the key of the model.
        way_chosen(str, str): the key of a model and how it is to be got.
        token_given(str, str): the key of a model and a token for its download.
        folders_offered(object): list of Path, folders that may hold a model.
    """

    commanded = Signal(str, str)
    way_chosen = Signal(str, str)
    token_given = Signal(str, str)
    folders_offered = Signal(object)

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._cards: dict[str, ModelCardView] = {}
        self.setAccessibleName("Models")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setAutoFillBackground(False)
        self.notice = ThemedLabel(themes, "small", "warn")
        self.notice.setWordWrap(True)
        self.notice.hide()
        self.add_button = QuietButton(themes, "plus", _ADD, role="small")
        self.add_button.clicked.connect(self.on_add_clicked)
        self.found_note = ThemedLabel(themes, "small", "dim")
        self._found = ""
        ground = QWidget()
        ground.setAutoFillBackground(False)
        ground.installEventFilter(self)
        self.setWidget(ground)
        for widget in (self.notice, self.add_button, self.found_note):
            widget.setParent(ground)

    @property
    def cards(self) -> list[ModelCardView]:
        """The cards in their order."""
        return list(self._cards.values())

    def card(self, key: str) -> ModelCardView:
        """The card of one model. Raises KeyError when there is none."""
        return self._cards[key]

    def show_shelf(self, shelf: ModelShelf) -> None:
        """Show these models in this order; cards that stay keep what is being asked on them."""
        for key in self._cards.keys() - {entry.key for entry in shelf.entries}:
            card = self._cards.pop(key)
            card.hide()
            card.deleteLater()
        ordered = {}
        for entry in shelf.entries:
            card = self._cards.get(entry.key) or self._new_card(entry)
            if card.entry != entry:
                card.show_entry(entry)
            ordered[entry.key] = card
        if list(ordered.values()) != self.cards:
            self._order_tabs(list(ordered.values()))
        self._cards = ordered
        self._found = shelf.found_note
        self._lay_out()

    def show_notice(self, sentence: str) -> None:
        """Something about no model in particular, above the cards; empty takes it away."""
        self.notice.setText(sentence)
        self.notice.setVisible(bool(sentence))
        self._lay_out()
        if sentence:
            self.verticalScrollBar().setValue(0)

    def close_questions(self) -> bool:
        """Take away what is being asked on the cards; False when nothing was."""
        closed = [card.close_question() for card in self._cards.values()]
        return any(closed)

    def point_to(self, key: str) -> None:
        """Scroll to a model and put the focus on what can be done with it."""
        card = self._cards.get(key)
        if card is not None:
            # A card that has only just been made gets its place first.
            QTimer.singleShot(0, card, lambda: self._bring_into_view(card))

    @Slot()
    def on_add_clicked(self) -> None:
        """Let the person pick a folder."""
        name = QFileDialog.getExistingDirectory(self, _ADD)
        if name:
            self.folders_offered.emit([Path(name)])

    def _order_tabs(self, cards: list[ModelCardView]) -> None:
        """The Tab key goes from card to card as they stand, and then to the button below."""
        stops = [stop for card in cards for stop in card.tab_stops]
        for stop, following in pairwise([*stops, self.add_button]):
            QWidget.setTabOrder(stop, following)

    def _bring_into_view(self, card: ModelCardView) -> None:
        self.ensureWidgetVisible(card, 0, _TOP_PX)
        if card.main_button.isVisible():
            card.main_button.setFocus(Qt.FocusReason.OtherFocusReason)

    def _lay_out(self) -> None:
        """One column, each row as high as its words are at this width."""
        # Of the whole page: the scroll bar stands in the margin and moves nothing.
        room = self.width()
        width = min(COLUMN_WIDTH, room - 2 * SIDE_MARGIN)
        left, top = (room - width) // 2, _TOP_PX
        rows: list[QWidget] = [self.notice] if self.notice.text() else []
        for row in [*rows, *self._cards.values()]:
            height = row.heightForWidth(width)
            row.setGeometry(left, top, width, height)
            top += height + _GAP_PX
        hint = self.add_button.sizeHint()
        self.add_button.setGeometry(left, top, min(hint.width(), width), hint.height())
        self.found_note.setText(f"· {self._found}" if self._found else "")
        beside, note_width = left + hint.width() - 4, self.found_note.sizeHint().width()
        if beside + note_width > left + width:
            self.found_note.setText(self._found)
            beside, top = left + _NOTE_INDENT_PX, top + hint.height() - _GAP_PX // 2
        self.found_note.setGeometry(beside, top, min(note_width, width), hint.height())
        top += hint.height() + _TOP_PX
        self.widget().resize(self.viewport().width(), max(self.viewport().height(), top))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:
            self._lay_out()
        return super().eventFilter(watched, event)

    def _new_card(self, entry: ModelEntry) -> ModelCardView:
        card = ModelCardView(self._themes, entry, self.widget())
        card.commanded.connect(self.commanded)
        card.way_chosen.connect(self.way_chosen)
        card.token_given.connect(self.token_given)
        card.show()
        return card
