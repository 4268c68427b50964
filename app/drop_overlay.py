"""Covers the window while files are dragged over it: an accent frame and what a drop will do."""

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.theme import RADIUS_CHIP, translucent
from app.theme_source import ThemeSource

_FRAME_PX = 2


class DropOverlay(QWidget):
    """Only to look at: mouse and drags go through it."""

    def __init__(self, themes: ThemeSource, parent: QWidget) -> None:
        super().__init__(parent)
        self._themes = themes
        self._covered = parent
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._words = ""
        self.hide()

    def cover(self, words: str) -> None:
        """Show over the whole parent; `words` say what a drop does."""
        self._words = words
        self.setAccessibleName(words)
        self.setGeometry(self._covered.rect())
        self.raise_()
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        colours = theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), translucent(colours.page, 0.72))
        painter.setPen(QPen(QColor(colours.accent), _FRAME_PX))
        frame = QRectF(self.rect()).adjusted(5, 5, -5, -5)
        painter.drawRoundedRect(frame, RADIUS_CHIP, RADIUS_CHIP)
        font = theme.font("transcript", QFont.Weight.Medium)
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        width, height = metrics.horizontalAdvance(self._words) + 40, metrics.height() + 22
        pill = QRectF(0, 0, width, height)
        pill.moveCenter(QRectF(self.rect()).center())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.accent))
        painter.drawRoundedRect(pill, height / 2, height / 2)
        painter.setPen(QColor(colours.on_accent))
        painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, self._words)
