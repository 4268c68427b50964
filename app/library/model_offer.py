"""The offer of a real model on the first screen, while the demo model answers.

Knows no engine: it is given all the models and picks what to say of them.
"""

import sys

from PySide6.QtCore import QRectF, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.buttons import QuietButton, TextButton
from app.chat.first_screen import OfferCard
from app.chat.label import ThemedLabel
from app.library import wording
from app.model_entry import ModelEntry, ModelShelf
from app.theme import RADIUS_CARD
from app.theme_source import ThemeSource

_PADDING_PX = 16
_COMPUTER = "Mac" if sys.platform == "darwin" else "computer"
_RUNNING = ("queued", "downloading", "checking", "converting", "arrived", "paused", "failed")


class ModelOffer(OfferCard):
    """A card with one model and what can be done about it; hidden while there is nothing to offer.

    Signals:
        commanded(str, str): "download" or "use", and the key of the model.
        models_requested(): the other sizes, or how the download is doing.
    """

    commanded = Signal(str, str)
    models_requested = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._entry: ModelEntry | None = None
        self.title = ThemedLabel(themes, "base", weight=QFont.Weight.DemiBold, parent=self)
        self.sentence = ThemedLabel(themes, "small", "dim", parent=self)
        self.sentence.setWordWrap(True)
        self.button = TextButton(themes, "", parent=self)
        self.button.clicked.connect(self.on_clicked)
        self.others = QuietButton(themes, "caret-right", "Other sizes", role="small", parent=self)
        self.others.clicked.connect(self.models_requested)
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.button)
        self._words = QWidget(self)
        below = QHBoxLayout(self._words)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(self.sentence, 1)
        below.addWidget(self.others, 0, Qt.AlignmentFlag.AlignTop)
        column = self._column = QVBoxLayout(self)
        column.setContentsMargins(_PADDING_PX, 10, _PADDING_PX - 2, 12)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self._words)
        self.hide()

    @property
    def is_due(self) -> bool:
        """Whether there is something to offer."""
        return self._entry is not None

    def show_shelf(self, shelf: ModelShelf) -> None:
        """Pick what to offer from all the models."""
        entry = self._entry = _offered(shelf)
        if entry is None:
            return
        if entry.state in _RUNNING:
            self.title.setText(entry.name)
            self.sentence.setText(entry.problem or wording.progress_line(entry))
            self.button.set_label("Show", strong=False)
        elif entry.state == "here":
            self.title.setText("A real model is here")
            self.sentence.setText(f"{entry.name}: {entry.purpose or 'ready to answer'}.")
            self.button.set_label("Use", strong=True)
        else:
            self.title.setText("Get a real model")
            machine = shelf.machine.partition(": ")[2]
            about = f" ({machine})" if machine else ""
            room = f" with chats of {entry.chat_tokens:,} tokens" if entry.chat_tokens else ""
            self.sentence.setText(f"{entry.name} fits this {_COMPUTER}{about}{room}.")
            way = entry.way
            download = f"Download {wording.size(way.download_bytes)}" if way else "Show"
            self.button.set_label(download, strong=True)
        self.setAccessibleName(f"{self.title.text()}. {self.sentence.text()}")

    def fit_into(self, width: int, room_px: int) -> int:
        """Take `width` px, leaving away what `room_px` has no room for; returns the height."""
        height = self._height(width, with_words=True)
        return height if height <= room_px else self._height(width, with_words=False)

    def _height(self, width: int, *, with_words: bool) -> int:
        self._words.setVisible(with_words)
        self._column.invalidate()
        if not self._column.hasHeightForWidth():
            return self._column.totalSizeHint().height()
        return self._column.totalHeightForWidth(width)

    @Slot()
    def on_clicked(self) -> None:
        """The next step for the offered model."""
        entry = self._entry
        if entry is None:
            return
        if entry.state in _RUNNING or (entry.state == "absent" and entry.way is None):
            self.models_requested.emit()
        else:
            self.commanded.emit("use" if entry.state == "here" else "download", entry.key)
            self.models_requested.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self._themes.theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(colours.line), 1))
        painter.setBrush(QColor(colours.card))
        place = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(place, RADIUS_CARD, RADIUS_CARD)


def _offered(shelf: ModelShelf) -> ModelEntry | None:
    """What is under way, else what is here and right, else what would be right to download."""
    in_use = [entry for entry in shelf.entries if entry.state in ("in_use", "opening")]
    if any(not entry.is_demo for entry in in_use):
        return None
    real = [entry for entry in shelf.entries if not entry.is_demo]
    for entry in real:
        if entry.state in _RUNNING:
            return entry
    here = [entry for entry in real if entry.state == "here" and entry.fit != "too_big"]
    for entry in sorted(here, key=lambda entry: not entry.recommended):
        return entry
    return next((entry for entry in real if entry.recommended and entry.state == "absent"), None)
