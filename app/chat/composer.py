"""Where a question is written: chips, text, and the buttons that attach, think, send and stop.

The draft stays until somebody clears it; sending only asks.
"""

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.buttons import PillButton, QuietButton, RoundButton
from app.chat.attachment_chips import AttachmentChips
from app.chat.detail_pill import DetailPill
from app.chat.draft_edit import DraftEdit
from app.chat.label import ThemedLabel
from app.theme import COMPOSER_WIDTH, FOCUS_WIDTH, RADIUS_COMPOSER, SIDE_MARGIN, translucent
from app.theme_source import ThemeSource

_PADDING_PX = 12
_TEXT_SIDE_PX = 16
_ABOVE_PX = 4
_BELOW_PX = 30
_SHADOW_REACH_PX = 20
_SHADOW_DROP_PX = 5


class Composer(QWidget):
    """The card at the bottom of the window, centred, with room for its shadow and a line of status.

    Signals:
        send_requested(str, object, bool): text, list of the Attachments known so far, and whether
            to think first. Chips may still be pending or have a problem: the receiver decides.
        stop_requested(): the round button was pressed while a reply is being written.
        attach_requested(): the + button.
    """

    send_requested = Signal(str, object, bool)
    stop_requested = Signal()
    attach_requested = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._is_busy = False
        self._status = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.chips = AttachmentChips(themes, self)
        self.chips.changed.connect(self.on_content_changed)
        self.draft = DraftEdit(themes, self)
        self.draft.setPlaceholderText("Ask about a picture, or drop one here")
        self.draft.textChanged.connect(self.on_content_changed)
        self.draft.send_pressed.connect(self.on_send_pressed)
        self.attach_button = RoundButton(
            themes, "plus", "Attach pictures or clips", diameter=30, icon_px=16, parent=self
        )
        self.attach_button.clicked.connect(self.attach_requested)
        self.think_button = PillButton(themes, "Think", "off", parent=self)
        self.think_button.setCheckable(True)
        self.think_button.setToolTip("Think before answering: slower, often better")
        self.think_button.toggled.connect(self.on_think_toggled)
        self.detail_pill = DetailPill(themes, self)
        self.detail_pill.offered.connect(self.on_content_changed)
        self.send_button = RoundButton(
            themes, "arrow-up-bold", "Send", diameter=32, icon_px=16, kind="filled", parent=self
        )
        self.send_button.clicked.connect(self.on_send_clicked)
        self.status = ThemedLabel(themes, "note", "dim", parent=self)
        self.status.setWordWrap(True)
        self.removal_button = QuietButton(themes, "x", "Remove them", parent=self)
        self.removal_button.clicked.connect(self.chips.remove_problems)
        self.removal_button.hide()
        themes.changed.connect(self.on_content_changed)
        self.setFocusProxy(self.draft)
        for before, after in (
            (self.draft, self.attach_button),
            (self.attach_button, self.think_button),
            (self.think_button, self.detail_pill),
            (self.detail_pill, self.send_button),
            (self.send_button, self.removal_button),
        ):
            QWidget.setTabOrder(before, after)
        self.on_content_changed()

    @property
    def is_busy(self) -> bool:
        """Whether a reply is being written."""
        return self._is_busy

    def set_busy(self, is_busy: bool) -> None:
        """Turn the round button into Stop, or back into Send."""
        self._is_busy = is_busy
        if is_busy:
            self.send_button.set_icon("stop-fill", "Stop")
        else:
            self.send_button.set_icon("arrow-up-bold", "Send")
        self.on_content_changed()

    def set_status(self, text: str) -> None:
        """The line below the card."""
        self._status = text
        self.status.setText(text)
        self.removal_button.hide()
        self._lay_out()

    def offer_removal(self, sentence: str, offer: str) -> None:
        """Say that there are files which cannot be sent, and offer to take them away."""
        self.set_status(sentence)
        self.removal_button.set_label("x", offer)
        self.removal_button.show()
        self.chips.show_problem()
        self._lay_out()

    def clear(self) -> None:
        """Take away the text and the chips."""
        self.draft.clear()
        self.chips.clear()

    def _has_content(self) -> bool:
        return bool(self.chips.chips) or not self.draft.is_blank

    @Slot()
    def on_content_changed(self) -> None:
        """Text, chips or the theme changed: measure again."""
        self.send_button.setEnabled(self._is_busy or self._has_content())
        self.status.setText(self._status)
        self.updateGeometry()
        self._lay_out()

    @Slot(bool)
    def on_think_toggled(self, is_on: bool) -> None:
        """Say what the pill is set to."""
        self.think_button.set_value("on" if is_on else "off")
        self._lay_out()

    @Slot()
    def on_send_clicked(self) -> None:
        """Send or stop, whatever the button is now."""
        if self._is_busy:
            self.stop_requested.emit()
        else:
            self.on_send_pressed()

    @Slot()
    def on_send_pressed(self) -> None:
        """Ask to send what is there; not while an answer is being written."""
        if self._is_busy:
            self.status.setText("An answer is being written: wait for it, or press Esc to stop it.")
            self._lay_out()
            return
        if self._has_content():
            self.send_requested.emit(
                self.draft.toPlainText().strip(),
                self.chips.attachments,
                self.think_button.isChecked(),
            )

    def _card(self) -> QRectF:
        width = self._card_width()
        height = self.height() - _ABOVE_PX - self._below_px(width)
        return QRectF((self.width() - width) // 2, _ABOVE_PX, width, height)

    def _card_width(self) -> int:
        return min(COMPOSER_WIDTH, self.width() - 2 * SIDE_MARGIN)

    def _below_px(self, width: int) -> int:
        """The room below the card: one line of status, or more where it does not fit in one."""
        return max(_BELOW_PX, self.status.heightForWidth(self._status_width(width)) + 8)

    def _status_width(self, width: int) -> int:
        offer = self.removal_button
        return width - 4 - (0 if offer.isHidden() else offer.sizeHint().width())

    def _wanted_height(self) -> int:
        width = self._card_width()
        chips = self.chips.height_for(width - 2 * _PADDING_PX)
        text = self.draft.height_for(width - 2 * _TEXT_SIDE_PX)
        buttons = self.send_button.sizeHint().height()
        above_text = chips + 10 if chips else 2
        inside = _PADDING_PX + above_text + text + 8 + buttons + 8
        return _ABOVE_PX + inside + self._below_px(width)

    def _lay_out(self) -> None:
        if self.width() <= 2 * SIDE_MARGIN:
            return
        wanted = self._wanted_height()
        if wanted != self.minimumHeight():
            self.setFixedHeight(wanted)
        card = self._card().toRect()
        width = card.width()
        top = card.top() + _PADDING_PX
        chips = self.chips.height_for(width - 2 * _PADDING_PX)
        self.chips.setGeometry(card.left() + _PADDING_PX, top, width - 2 * _PADDING_PX, chips)
        self.chips.setVisible(bool(chips))
        top += chips + 10 if chips else 2
        text = self.draft.height_for(width - 2 * _TEXT_SIDE_PX)
        self.draft.setGeometry(card.left() + _TEXT_SIDE_PX, top, width - 2 * _TEXT_SIDE_PX, text)
        left = card.left() + _PADDING_PX - FOCUS_WIDTH
        middle = top + text + 8 + self.send_button.sizeHint().height() // 2
        for button in (self.attach_button, self.think_button, self.detail_pill):
            left += _put(button, left, middle) + 4
        send = self.send_button.sizeHint().width()
        _put(self.send_button, card.left() + width - _PADDING_PX - send + FOCUS_WIDTH, middle)
        bottom = card.top() + card.height()
        below = self._below_px(width)
        self._lay_out_status(QRect(card.left() + 2, bottom + 2, width - 4, below - 4))
        self.update()

    def _lay_out_status(self, row: QRect) -> None:
        """The sentence, and right after it what can be done about it."""
        words = self.status.fontMetrics().horizontalAdvance(self.status.text()) + 4
        width = min(words, self._status_width(row.width() + 4))
        self.status.setGeometry(row.left(), row.top(), width, row.height())
        if not self.removal_button.isHidden():
            _put(self.removal_button, row.left() + width, row.center().y() + 1)

    def sizeHint(self) -> QSize:
        return QSize(COMPOSER_WIDTH, max(self.minimumHeight(), 100))

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._lay_out()

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self._themes.theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        card = self._card()
        painter.setPen(Qt.PenStyle.NoPen)
        # Rings of the shadow colour, the larger the fainter: soft, and cheap enough for a repaint.
        strength = 2 * colours.shadow_strength / _SHADOW_REACH_PX**2
        for reach in range(_SHADOW_REACH_PX, 0, -1):
            painter.setBrush(translucent(colours.shadow, strength * (_SHADOW_REACH_PX - reach)))
            ring = card.adjusted(-reach, -reach, reach, reach).translated(0, _SHADOW_DROP_PX)
            painter.drawRoundedRect(ring, RADIUS_COMPOSER + reach, RADIUS_COMPOSER + reach)
        painter.setPen(QPen(QColor(colours.line), 1))
        painter.setBrush(QColor(colours.card))
        painter.drawRoundedRect(
            card.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS_COMPOSER, RADIUS_COMPOSER
        )


def _put(button: QWidget, left: int, middle: int) -> int:
    """Place a button with its centre line at `middle`; its width."""
    hint = button.sizeHint()
    button.setGeometry(left, middle - hint.height() // 2, hint.width(), hint.height())
    return hint.width()
