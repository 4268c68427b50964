"""One line that says what is being done before the first word, with a thin bar."""

from PySide6.QtCore import QRectF, Qt, Slot
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.theme_source import ThemeSource

_HEIGHT_PX = 24
_BAR_WIDTH_PX = 60
_BAR_HEIGHT_PX = 4
_GAP_PX = 10


class ProgressLine(QWidget):
    """Shows a sentence and, where it is known, the share that is done."""

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._sentence = ""
        self._fraction: float | None = None
        themes.changed.connect(self.on_theme_changed)

    def show_progress(self, sentence: str, fraction: float | None) -> None:
        """Say `sentence`; `fraction` is from 0 to 1, None where nobody can tell."""
        self._sentence = sentence
        self._fraction = fraction
        self.setAccessibleName(sentence)
        self.update()

    @property
    def sentence(self) -> str:
        """What it says now."""
        return self._sentence

    def height_for(self, width: int) -> int:
        """The height in px, the same for every width."""
        return max(_HEIGHT_PX, self._themes.theme.line_px("small"))

    @Slot()
    def on_theme_changed(self) -> None:
        """Paint again in the new colours."""
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        left = 0.0
        radius = _BAR_HEIGHT_PX / 2
        if self._fraction is not None:
            top = (self.height() - _BAR_HEIGHT_PX) / 2
            bar = QRectF(0, top, _BAR_WIDTH_PX, _BAR_HEIGHT_PX)
            painter.setBrush(QColor(theme.colours.line))
            painter.drawRoundedRect(bar, radius, radius)
            done = max(0.0, min(1.0, self._fraction))
            bar.setWidth(max(_BAR_HEIGHT_PX, _BAR_WIDTH_PX * done))
            painter.setBrush(QColor(theme.colours.accent))
            painter.drawRoundedRect(bar, radius, radius)
            left = _BAR_WIDTH_PX + _GAP_PX
        font = theme.font("small")
        font.setFeature(font.Tag("tnum"), 1)
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.dim))
        painter.drawText(
            QRectF(left, 0, self.width() - left, self.height()),
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            self._sentence,
        )
