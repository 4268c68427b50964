"""The reasoning before an answer, folded to one line until somebody wants to read it."""

from PySide6.QtCore import QRectF, Signal, Slot
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.buttons import FoldButton
from app.chat.text_block import TextBlock
from app.theme import FOCUS_WIDTH
from app.theme_source import ThemeSource

_INDENT_PX = 14
_GAP_PX = 4


class ThinkingFold(QWidget):
    """Grows while the model thinks; says how long it took afterwards.

    Signals:
        height_changed(): it was folded or opened.
    """

    height_changed = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._pieces: list[str] = []
        self._button = FoldButton(themes, "Thinking", self)
        self._button.setCheckable(True)
        self._button.set_label("Thinking")
        self._button.toggled.connect(self.on_toggled)
        self._text = TextBlock(themes, "small", self, dim=True)
        self._text.setAccessibleName("Thinking")
        self._text.hide()

    @property
    def text(self) -> str:
        """The reasoning so far."""
        return "".join(self._pieces)

    @property
    def button(self) -> FoldButton:
        """The line that folds and opens it."""
        return self._button

    def append(self, text: str) -> None:
        """Take more reasoning."""
        self._pieces.append(text)
        if self._button.isChecked():
            self._text.append_plain(text)

    def finish(self, text: str, seconds: float | None) -> None:
        """The whole reasoning is `text` and took `seconds`."""
        self._pieces = [text.strip()]
        self._button.set_label("Thought" if seconds is None else f"Thought for {seconds:.1f} s")
        if self._button.isChecked():
            self._text.show_plain(self.text)

    def height_for(self, width: int) -> int:
        """Place the line and, when open, the text; the height of both."""
        hint = self._button.sizeHint()
        self._button.setGeometry(
            _INDENT_PX - 4 - FOCUS_WIDTH, 0, min(hint.width(), width - _INDENT_PX), hint.height()
        )
        if not self._button.isChecked():
            return hint.height()
        inner = width - _INDENT_PX
        height = self._text.height_for(inner)
        self._text.setGeometry(_INDENT_PX, hint.height() + _GAP_PX, inner, height)
        return hint.height() + _GAP_PX + height

    @Slot(bool)
    def on_toggled(self, is_open: bool) -> None:
        """Show or hide the text."""
        if is_open:
            self._text.show_plain(self.text.lstrip())
        self._text.setVisible(is_open)
        self._button.update()
        self.height_changed.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        line = QColor(self._themes.theme.colours.line)
        painter.fillRect(QRectF(0, 0, 2, self.height()), line)
