"""One line that says what is being done before the first word, with a thin bar."""

from PySide6.QtCore import QRectF, Qt, Slot
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.theme_source import ThemeSource

_HEIGHT_PX = 24
_BAR_WIDTH_PX = 60
_BAR_HEIGHT_PX = 4
_GAP_PX = 10


class ProgressLine(QWidget):
    """Shows a sentence and, where it is known, the share that is done.

    The bar is `bar_px` wide, and shorter before the sentence would be cut.
    """

    def __init__(
        self, themes: ThemeSource, bar_px: int = _BAR_WIDTH_PX, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self._bar_px = bar_px
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
    def fraction(self) -> float | None:
        """How far the bar is; None where there is no bar."""
        return self._fraction

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
        font = self._font()
        metrics = QFontMetricsF(font)
        left = 0.0
        radius = _BAR_HEIGHT_PX / 2
        if self._fraction is not None:
            room = self.width() - metrics.horizontalAdvance(self._sentence) - _GAP_PX - 1
            width = max(min(float(self._bar_px), room), min(self._bar_px, _BAR_WIDTH_PX))
            top = (self.height() - _BAR_HEIGHT_PX) / 2
            bar = QRectF(0, top, width, _BAR_HEIGHT_PX)
            painter.setBrush(QColor(theme.colours.line))
            painter.drawRoundedRect(bar, radius, radius)
            done = max(0.0, min(1.0, self._fraction))
            bar.setWidth(max(_BAR_HEIGHT_PX, width * done))
            painter.setBrush(QColor(theme.colours.accent))
            painter.drawRoundedRect(bar, radius, radius)
            left = width + _GAP_PX
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.dim))
        row = QRectF(left, 0, self.width() - left, self.height())
        painter.drawText(
            row,
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            metrics.elidedText(self._sentence, Qt.TextElideMode.ElideRight, row.width()),
        )

    def _font(self) -> QFont:
        font = self._themes.theme.font("small")
        font.setFeature(font.Tag("tnum"), 1)
        return font
