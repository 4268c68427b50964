"""The messages of one conversation, in one centred column that follows the text as it comes.

Places its messages itself, at once and in one pass, so that nothing is painted half laid out.
"""

from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QImage, QResizeEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from app.buttons import PillButton
from app.chat.reply_message import BLEED_PX, ReplyMessage
from app.chat.user_message import UserMessage
from app.conversation.message import ChatMessage
from app.theme import COLUMN_WIDTH, SIDE_MARGIN
from app.theme_source import ThemeSource

_TOP_PX = 24
_BOTTOM_PX = 24
_AFTER_QUESTION_PX = 20
_AFTER_ANSWER_PX = 22
_NEAR_END_PX = 24
_JUMP_LIFT_PX = 12


class Transcript(QScrollArea):
    """Scrolls the messages; follows the end until somebody scrolls up.

    Signals:
        regenerate_requested(): another answer to the last question, please.
    """

    regenerate_requested = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._follows = True
        self._placing = False
        self._last_value = 0
        self._last_maximum = 0
        self._heights: dict[QWidget, int] = {}
        self._column_px = 0
        self.messages: list[UserMessage | ReplyMessage] = []
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Conversation")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.viewport().setAutoFillBackground(False)
        self._page = QWidget()
        self.setWidget(self._page)
        # setWidget switches this on, and the ground would cover the card.
        self._page.setAutoFillBackground(False)
        self.jump_button = PillButton(
            themes, "Jump to latest", icon_name="arrow-down", height=30, parent=self
        )
        self.jump_button.hide()
        self.jump_button.clicked.connect(self.on_jump_clicked)
        self.verticalScrollBar().valueChanged.connect(self.on_scrolled)
        themes.settled.connect(self.on_theme_settled)

    @property
    def reply(self) -> ReplyMessage | None:
        """The answer at the end, if the last message is one."""
        last = self.messages[-1] if self.messages else None
        return last if isinstance(last, ReplyMessage) else None

    @property
    def follows(self) -> bool:
        """Whether the view stays at the end as text comes."""
        return self._follows

    def add_user_message(self, message: ChatMessage, thumbnails: dict[Path, list[QImage]]) -> None:
        """Add a question at the end and go there; a clip has a list of frames in `thumbnails`."""
        question = UserMessage(self._themes, message, thumbnails, self._page)
        question.height_changed.connect(self.on_height_changed)
        self._add(question)
        self.follow()

    def begin_reply(self) -> None:
        """Add an empty answer; the following calls are about it."""
        reply = ReplyMessage(self._themes, self._page)
        reply.height_changed.connect(self.on_height_changed)
        reply.again_requested.connect(self.regenerate_requested)
        for message in self.messages:
            if isinstance(message, ReplyMessage):
                message.set_last(False)
        self._add(reply)

    def append_text(self, text: str) -> None:
        """More of the answer."""
        if self.reply is not None:
            self.reply.append_text(text)
            self._lay_out_again(self.reply)

    def append_thinking(self, text: str) -> None:
        """More of the reasoning."""
        if self.reply is not None:
            self.reply.append_thinking(text)
            self._lay_out_again(self.reply)

    def set_progress(self, sentence: str, fraction: float | None) -> None:
        """What is being done before the first word; `fraction` from 0 to 1 or None."""
        if self.reply is not None:
            self.reply.show_progress(sentence, fraction)
            self._lay_out_again(self.reply)

    def finish_reply(self, message: ChatMessage) -> None:
        """The answer is complete."""
        if self.reply is not None:
            self.reply.finish(message)
            self._lay_out_again(self.reply)
            self._announce("Answer stopped" if message.stopped else "Answer complete")

    def fail_reply(self, sentence: str) -> None:
        """There will be no answer, or no more of it."""
        if self.reply is not None:
            self.reply.fail(sentence)
            self._lay_out_again(self.reply)
            self._announce(sentence)

    def remove_reply(self) -> None:
        """Take the answer at the end away, for another one to take its place."""
        if self.reply is not None:
            gone = self.messages.pop()
            self._discard(gone)
            self.lay_out()

    def remove_question(self) -> None:
        """Take the last question away, and the answer to it if there is one."""
        self.remove_reply()
        if self.messages:
            self._discard(self.messages.pop())
        if self.reply is not None:
            self.reply.set_last(True)
        self.lay_out()

    def clear(self) -> None:
        """Take every message away."""
        for message in self.messages:
            self._discard(message)
        self.messages = []
        self.follow()

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._follows = True
        self.lay_out()

    def lay_out(self) -> None:
        """Place every message for the present width and keep the place that is being read."""
        column = min(COLUMN_WIDTH, self.width() - 2 * SIDE_MARGIN)
        if column <= 0:
            return
        if column != self._column_px:
            self._column_px = column
            self._heights.clear()
        bar = self.verticalScrollBar()
        anchor, offset = self._reading_place()
        self._placing = True
        left = (self.width() - column) // 2 - BLEED_PX
        top = _TOP_PX
        for message in self.messages:
            height = self._heights.get(message)
            if height is None:
                height = self._heights[message] = message.height_for(column)
            message.setGeometry(left, top, column + 2 * BLEED_PX, height)
            is_question = isinstance(message, UserMessage)
            top += height + (_AFTER_QUESTION_PX if is_question else _AFTER_ANSWER_PX)
        self._page.resize(self.viewport().width(), top - _AFTER_ANSWER_PX + _BOTTOM_PX)
        if self._page.width() != self.viewport().width():  # the scroll bar came or went
            self._page.resize(self.viewport().width(), self._page.height())
        if self._follows:
            bar.setValue(bar.maximum())
        elif anchor is not None:
            bar.setValue(anchor.y() - offset)
        self._last_value, self._last_maximum = bar.value(), bar.maximum()
        self._placing = False
        self._show_jump_button()

    def _lay_out_again(self, message: UserMessage | ReplyMessage) -> None:
        """Place everything after one message changed."""
        self._heights.pop(message, None)
        self.lay_out()

    def _discard(self, message: UserMessage | ReplyMessage) -> None:
        self._heights.pop(message, None)
        message.hide()
        message.deleteLater()

    def _announce(self, words: str) -> None:
        """Tell a screen reader once, instead of at every word."""
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, words))

    def _reading_place(self) -> tuple[QWidget | None, int]:
        """The first message in view and how far its top lies below the view's top."""
        value = self.verticalScrollBar().value()
        for message in self.messages:
            if message.geometry().bottom() > value:
                return message, message.y() - value
        return None, 0

    def _add(self, message: UserMessage | ReplyMessage) -> None:
        self.messages.append(message)
        message.show()
        self.lay_out()

    def _show_jump_button(self) -> None:
        bar = self.verticalScrollBar()
        self.jump_button.setVisible(not self._follows and bar.value() < bar.maximum())
        size = self.jump_button.sizeHint()
        self.jump_button.setGeometry(
            (self.width() - size.width()) // 2,
            self.height() - size.height() - _JUMP_LIFT_PX,
            size.width(),
            size.height(),
        )
        self.jump_button.raise_()

    @Slot(int)
    def on_scrolled(self, value: int) -> None:
        """Somebody scrolled: up stops following, reaching the end starts it again."""
        if self._placing or self.verticalScrollBar().maximum() != self._last_maximum:
            return  # the layout moved the bar, not a person
        went_up = value < self._last_value
        near_end = value >= self.verticalScrollBar().maximum() - _NEAR_END_PX
        self._follows = near_end and not went_up
        self._last_value = value
        self._show_jump_button()

    @Slot()
    def on_jump_clicked(self) -> None:
        """Go to the end."""
        self.follow()

    @Slot()
    def on_height_changed(self) -> None:
        """A message folded, opened or changed its buttons: what is being read stays in place."""
        follows, self._follows = self._follows, False
        self._heights.clear()
        self.lay_out()
        bar = self.verticalScrollBar()
        self._follows = follows and bar.value() >= bar.maximum() - _NEAR_END_PX
        self._show_jump_button()

    @Slot()
    def on_theme_settled(self) -> None:
        """Sizes of text may have changed."""
        self._heights.clear()
        self.lay_out()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.lay_out()
