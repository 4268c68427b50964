"""One answer: thinking folded above, text on the page, actions and figures below."""

from PySide6.QtCore import QRectF, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.buttons import QuietButton
from app.chat.label import ThemedLabel
from app.chat.markdown_view import MarkdownView
from app.chat.progress_line import ProgressLine
from app.chat.thinking_fold import ThinkingFold
from app.conversation.message import ChatMessage
from app.icons import paint_icon
from app.theme import FOCUS_WIDTH
from app.theme_source import ThemeSource

# Buttons have a ground wider than their words; the message is this much wider than the column on
# either side, so that the words line up with the text.
BLEED_PX = 8
_PART_GAP_PX = 8
_FOOTER_GAP_PX = 5
_WARNING_PX = 16
_COPIED_MS = 1500
_RIGHT_CENTRED = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class ReplyMessage(QWidget):
    """An answer that streams in and is then finished or failed.

    Signals:
        height_changed(): lay out again.
        again_requested(): the person wants another answer to the same question.
    """

    height_changed = Signal()
    again_requested = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._is_last = True
        self._is_done = False
        self.setAccessibleName("Answer")
        self.thinking = ThinkingFold(themes, self)
        self.thinking.hide()
        self.thinking.height_changed.connect(self.height_changed)
        self.progress = ProgressLine(themes, parent=self)
        self.progress.show_progress("Reading", None)
        self.view = MarkdownView(themes, self)
        self.problem = ThemedLabel(themes, "base", "warn", parent=self)
        self.problem.setWordWrap(True)
        self.problem.hide()
        self.copy_button = QuietButton(themes, "copy", "Copy", parent=self)
        self.copy_button.setAccessibleName("Copy answer")
        self.copy_button.clicked.connect(self.on_copy_clicked)
        self.copy_button.hide()
        self.again_button = QuietButton(themes, "arrow-clockwise", "Again", parent=self)
        self.again_button.setAccessibleName("Answer again")
        self.again_button.clicked.connect(self.again_requested)
        self.again_button.hide()
        self.footnote = ThemedLabel(themes, "note", "dim", parent=self)
        self.footnote.setWordWrap(True)
        self.footnote.hide()
        self._copied_timer = QTimer(self)
        self._copied_timer.setSingleShot(True)
        self._copied_timer.setInterval(_COPIED_MS)
        self._copied_timer.timeout.connect(self.on_copied_shown)

    def append_text(self, text: str) -> None:
        """More of the answer; the progress line goes away."""
        self.progress.hide()
        self.view.append(text)

    def append_thinking(self, text: str) -> None:
        """More of the reasoning; the progress line goes away."""
        self.progress.hide()
        self.thinking.show()
        self.thinking.append(text)

    def show_progress(self, sentence: str, fraction: float | None) -> None:
        """Say what is being done; only before the first word."""
        if self.view.is_empty and not self.thinking.text and not self._is_done:
            self.progress.show_progress(sentence, fraction)
            self.progress.show()

    def finish(self, message: ChatMessage) -> None:
        """The answer is complete, or was stopped, as `message` says."""
        self._is_done = True
        self.progress.hide()
        if message.text != self.view.source:
            self.view.replace(message.text)
        else:
            self.view.finish()
        if message.thinking:
            self.thinking.finish(message.thinking, message.thinking_s)
            self.thinking.show()
        self.footnote.setText(_footnote(message))
        self.footnote.setVisible(bool(self.footnote.text()))
        self._show_problem(message.problem)

    def fail(self, sentence: str) -> None:
        """The answer could not be given or completed; what came stays."""
        self._is_done = True
        self.progress.hide()
        self.view.finish()
        if self.thinking.text:
            self.thinking.finish(self.thinking.text, None)
        self._show_problem(sentence)

    def set_last(self, is_last: bool) -> None:
        """Only the last answer can be asked for again."""
        self._is_last = is_last
        self.again_button.setVisible(self._is_done and is_last)

    def _show_problem(self, sentence: str | None) -> None:
        self.problem.setText(sentence or "")
        self.problem.setVisible(bool(sentence))
        self.copy_button.setVisible(bool(self.view.source))
        self.again_button.setVisible(self._is_last)

    def height_for(self, width: int) -> int:
        """Place everything for a column of `width` px; the height in px."""
        top = 0
        for part in (self.thinking, self.progress, self.view):
            if part.isHidden() or (part is self.view and self.view.is_empty):
                continue
            top += _PART_GAP_PX if top else 0
            height = part.height_for(width)
            part.setGeometry(BLEED_PX, top, width, height)
            top += height
        if not self.problem.isHidden():
            top += _PART_GAP_PX if top else 0
            indent = _WARNING_PX + 8
            height = self.problem.heightForWidth(width - indent)
            self.problem.setGeometry(BLEED_PX + indent, top, width - indent, height)
            top += height
        return self._place_footer(width, top)

    def _place_footer(self, width: int, top: int) -> int:
        left = BLEED_PX - FOCUS_WIDTH - 6
        bottom = top
        for button in (self.copy_button, self.again_button):
            if button.isHidden():
                continue
            hint = button.sizeHint()
            button.setGeometry(left, top + _FOOTER_GAP_PX, hint.width(), hint.height())
            left += hint.width()
            bottom = max(bottom, top + _FOOTER_GAP_PX + hint.height())
        if self.footnote.isHidden():
            return bottom
        needed = self.footnote.fontMetrics().horizontalAdvance(self.footnote.text()) + 4
        if left + 8 + needed <= BLEED_PX + width and bottom > top:
            row = bottom - top - _FOOTER_GAP_PX
            self.footnote.setGeometry(BLEED_PX + width - needed, top + _FOOTER_GAP_PX, needed, row)
            self.footnote.setAlignment(_RIGHT_CENTRED)
            return bottom
        height = self.footnote.heightForWidth(width)
        self.footnote.setAlignment(_RIGHT_CENTRED)
        self.footnote.setGeometry(BLEED_PX, bottom + 4, width, height)
        return bottom + 4 + height

    @Slot()
    def on_copy_clicked(self) -> None:
        """Put the answer's Markdown on the clipboard and say so for a moment."""
        QGuiApplication.clipboard().setText(self.view.source)
        self.copy_button.set_label("check", "Copied")
        self._copied_timer.start()
        self.height_changed.emit()

    @Slot()
    def on_copied_shown(self) -> None:
        """Offer Copy again."""
        self.copy_button.set_label("copy", "Copy")
        self.copy_button.setAccessibleName("Copy answer")
        self.height_changed.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.problem.isHidden():
            return
        painter = QPainter(self)
        place = self.problem.geometry()
        line = self.problem.fontMetrics().height()
        top = place.top() + (line - _WARNING_PX) / 2
        paint_icon(
            painter,
            "warning-circle",
            self._themes.theme.colours.warn,
            QRectF(BLEED_PX, top, _WARNING_PX, _WARNING_PX),
        )


def _footnote(message: ChatMessage) -> str:
    if message.stopped and "stopped" not in message.footnote.lower():
        return f"stopped · {message.footnote}" if message.footnote else "stopped"
    return message.footnote
