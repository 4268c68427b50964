"""A fenced block of code: language, Copy, colours, and a scroll bar of its own for long lines.

Grows while it streams; its colours are refreshed now and then, and for good when it is finished.
"""

import math

from PySide6.QtCore import QRect, QRectF, Qt, QTimer, Slot
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QGuiApplication,
    QPainter,
    QPaintEvent,
    QSyntaxHighlighter,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QWidget

from app.buttons import QuietButton
from app.chat.code_colours import ColouredSpan, coloured_spans
from app.theme import RADIUS_CHIP
from app.theme_source import ThemeSource

_HEADER_PX = 34
_SIDE_PX = 14
_BOTTOM_PX = 12
_SCROLL_BAR_PX = 12
_COLOUR_EVERY_MS = 300
_LIVE_COLOUR_CHARS = 8000
_COPIED_MS = 1500


class CodeHighlighter(QSyntaxHighlighter):
    """Applies ready-made spans; the lexing is done elsewhere, for the code as a whole."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._spans: list[ColouredSpan] = []

    def show_spans(self, spans: list[ColouredSpan]) -> None:
        """Colour the document with these spans."""
        self._spans = spans
        self._next = 0
        self.rehighlight()

    def ink_at(self, position: int) -> QColor:
        """The colour given to the character at `position`; invalid where none was given."""
        for span in self._spans:
            if span.start <= position < span.start + span.length:
                return QColor(span.colour)
        return QColor()

    def highlightBlock(self, text: str) -> None:
        first = self.currentBlock().position()
        last = first + len(text)
        form = QTextCharFormat()
        if not first:
            self._next = 0
        while self._next < len(self._spans):
            span = self._spans[self._next]
            end = span.start + span.length
            if span.start >= last:
                return
            if end > first:
                form.setForeground(QColor(span.colour))
                self.setFormat(max(0, span.start - first), end - max(first, span.start), form)
            if end > last:
                return
            self._next += 1


class CodeText(QPlainTextEdit):
    """The code itself: read-only, unwrapped, scrolls sideways only."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setAcceptDrops(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Code")
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)

    def lines_height(self) -> int:
        """Height of all lines in px."""
        first = self.blockBoundingGeometry(self.document().begin())
        return math.ceil(first.height() * self.blockCount()) + 1

    def wheelEvent(self, event: QWheelEvent) -> None:
        delta = event.angleDelta()
        if abs(delta.x()) > abs(delta.y()):
            super().wheelEvent(event)
        else:
            event.ignore()


class CodeBlock(QWidget):
    """One fenced block on its own ground."""

    def __init__(self, themes: ThemeSource, language: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._language = language
        self._code = ""
        self._text = CodeText(self)
        self._highlighter = CodeHighlighter(self._text.document())
        self._copy = QuietButton(themes, "copy", "Copy", parent=self)
        self._copy.setAccessibleName("Copy code")
        self._copy.clicked.connect(self.on_copy_clicked)
        self._colour_timer = _single_shot(self, _COLOUR_EVERY_MS)
        self._colour_timer.timeout.connect(self.on_colour_due)
        self._copied_timer = _single_shot(self, _COPIED_MS)
        self._copied_timer.timeout.connect(self.on_copied_shown)
        themes.changed.connect(self.on_theme_changed)
        self.on_theme_changed()

    @property
    def code(self) -> str:
        """The code as it would be copied."""
        return self._code

    @property
    def copy_button(self) -> QuietButton:
        """The button in the corner."""
        return self._copy

    def ink_at(self, position: int) -> QColor:
        """The colour of the character at `position`; invalid where it is the usual one."""
        return self._highlighter.ink_at(position)

    def lines_fit(self) -> bool:
        """Whether every line lies inside what `height_for` gave it."""
        return self._text.viewport().height() >= self._text.lines_height() - 1

    def show_code(self, code: str, *, finished: bool) -> None:
        """Show `code`, which continues what is shown already or replaces it."""
        if code.startswith(self._code):
            cursor = QTextCursor(self._text.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(code[len(self._code) :])
        else:
            self._text.setPlainText(code)
        self._code = code
        if finished:
            self._colour_timer.stop()
            self.on_colour_due()
        elif not self._colour_timer.isActive() and len(code) < _LIVE_COLOUR_CHARS:
            self._colour_timer.start()

    def height_for(self, width: int) -> int:
        """Lay out for a width; the height that shows every line."""
        body = self._text.lines_height()
        inner = width - 2 * _SIDE_PX
        if self._widest_line() > inner:
            body += _SCROLL_BAR_PX
        height = _HEADER_PX + body + _BOTTOM_PX
        self._text.setGeometry(QRect(_SIDE_PX, _HEADER_PX, inner, body))
        size = self._copy.sizeHint()
        self._copy.setGeometry(
            width - size.width() - 6, (_HEADER_PX - size.height()) // 2, size.width(), size.height()
        )
        return height

    @Slot()
    def on_theme_changed(self) -> None:
        """Take over fonts and colours."""
        self._text.setFont(self._themes.theme.font("code"))
        self.on_colour_due()
        self.update()

    @Slot()
    def on_colour_due(self) -> None:
        """Colour what is there now."""
        spans = coloured_spans(self._code, self._language, self._themes.theme.colours.syntax)
        self._highlighter.show_spans(spans)

    @Slot()
    def on_copy_clicked(self) -> None:
        """Put the code on the clipboard and say so for a moment."""
        QGuiApplication.clipboard().setText(self._code)
        self._copy.set_label("check", "Copied")
        self._copied_timer.start()
        self.height_for(self.width())

    @Slot()
    def on_copied_shown(self) -> None:
        """Offer Copy again."""
        self._copy.set_label("copy", "Copy")
        self._copy.setAccessibleName("Copy code")
        self.height_for(self.width())

    def _widest_line(self) -> float:
        metrics = QFontMetricsF(self._text.font())
        longest = max(self._code.split("\n"), key=len, default="")
        return metrics.horizontalAdvance(longest.expandtabs(8))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.colours.code))
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS_CHIP, RADIUS_CHIP)
        painter.setPen(QColor(theme.colours.dim))
        painter.setFont(theme.font("note"))
        painter.drawText(
            QRectF(_SIDE_PX, 0, self.width() / 2, _HEADER_PX),
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            self._language or "code",
        )


def _single_shot(parent: QWidget, interval_ms: int) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    return timer
