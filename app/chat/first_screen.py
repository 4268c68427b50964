"""What an empty conversation shows: what the program does, and two samples to try.

The samples' pictures and questions are given to it; until then it draws three shapes of its own.
"""

import sys

from PySide6.QtCore import QPointF, QRectF, QSize, QSizeF, Qt, Signal, Slot
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QImage,
    QPainter,
    QPaintEvent,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QWidget

from app.buttons import ThemedButton
from app.chat.label import ThemedLabel
from app.chat.media_cards import ContactSheet, rounded
from app.theme import FOCUS_WIDTH, RADIUS_CARD, RADIUS_FIELD, SIDE_MARGIN
from app.theme_source import ThemeSource

_CARD_WIDTH_PX = 216
_CARD_PADDING_PX = 13
_PICTURE_PX = 96
_CARD_GAP_PX = 10
_OFFER_GAP_PX = 20
_LINE_WIDTH_PX = 446
_COMPUTER = "Mac" if sys.platform == "darwin" else "computer"
_WORDS = (f"Pictures and clips are read on this {_COMPUTER}.", "Nothing leaves it.")


class SampleCard(ThemedButton):
    """A picture or a strip of frames, a title and the question that goes with it."""

    def __init__(self, themes: ThemeSource, title: str, parent: QWidget | None = None) -> None:
        super().__init__(themes, title, parent)
        self.setText(title)
        self._question = ""
        self._sheet: ContactSheet | None = None

    @property
    def question(self) -> str:
        """The question on the card."""
        return self._question

    def show_sample(self, question: str, images: list[QImage]) -> None:
        """Show one picture, or the frames of a clip, and the question."""
        self._question = question
        place = QSizeF(_CARD_WIDTH_PX - 2 * _CARD_PADDING_PX, _PICTURE_PX)
        self._sheet = ContactSheet(images, place, rows=2) if images else None
        self.setAccessibleName(f"{self.text()}: {question}")
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        theme = self.themes.theme
        line_px = QFontMetricsF(theme.font("small")).lineSpacing()
        height = round(_CARD_PADDING_PX * 2 + _PICTURE_PX + 10 + line_px * 3 + 6)
        return QSize(_CARD_WIDTH_PX + 2 * FOCUS_WIDTH, height + 2 * FOCUS_WIDTH)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self.themes.theme
        colours = theme.colours
        painter = self.begin()
        fill = self.shaded(colours.card, colours.text)
        place = self.paint_ground(painter, RADIUS_CARD, fill, colours.line)
        inner = place.adjusted(
            _CARD_PADDING_PX, _CARD_PADDING_PX, -_CARD_PADDING_PX, -_CARD_PADDING_PX
        )
        picture = QRectF(inner.left(), inner.top(), inner.width(), _PICTURE_PX)
        painter.save()
        painter.setClipPath(rounded(picture, RADIUS_FIELD))
        if self._sheet is not None:
            self._sheet.paint(painter, picture, colours.card)
        else:
            self._paint_shapes(painter, picture)
        painter.restore()
        title_font = theme.font("small", QFont.Weight.DemiBold)
        row_px = QFontMetricsF(title_font).lineSpacing()
        row = QRectF(inner.left(), picture.bottom() + 10, inner.width(), row_px)
        painter.setFont(title_font)
        painter.setPen(QColor(colours.text))
        painter.drawText(
            row, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self.text()
        )
        painter.setFont(theme.font("small"))
        painter.setPen(QColor(colours.dim))
        rest = QRectF(inner.left(), row.bottom() + 4, inner.width(), row_px * 2 + 4)
        wrapped = Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
        if self._question:
            painter.drawText(rest, int(wrapped), f"“{self._question}”")

    def _paint_shapes(self, painter: QPainter, place: QRectF) -> None:
        colours = self.themes.theme.colours
        red, blue, yellow = colours.sample_shapes
        painter.fillRect(place, QColor(colours.sample_ground))
        painter.setPen(Qt.PenStyle.NoPen)
        step = place.width() / 4
        middle = place.center().y()
        painter.setBrush(QColor(red))
        painter.drawEllipse(QPointF(place.left() + step, middle - 3), 21, 21)
        painter.setBrush(QColor(blue))
        painter.drawRect(QRectF(place.left() + 2 * step - 20, middle - 12, 40, 40))
        painter.setBrush(QColor(yellow))
        right = place.left() + 3 * step + 2
        painter.drawPolygon(
            QPolygonF(
                [
                    QPointF(right, middle - 30),
                    QPointF(right + 23, middle + 9),
                    QPointF(right - 23, middle + 9),
                ]
            )
        )


class OfferCard(QWidget):
    """What may stand below the cards."""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to offer."""
        raise NotImplementedError

    def fit_into(self, width: int, room_px: int) -> int:
        """Leave away what `room_px` has no room for at that width; returns the height taken."""
        raise NotImplementedError


class FirstScreen(QWidget):
    """Title, one line, two cards, and below them an offer where there is one.

    Signals:
        suggestion_chosen(str): "picture" or "clip".
    """

    suggestion_chosen = Signal(str)

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self.title = ThemedLabel(themes, "title", parent=self)
        self.title.setText("Chat with what you see")
        self.line = ThemedLabel(themes, "transcript", "dim", parent=self)
        for label in (self.title, self.line):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
            label.setWordWrap(True)
        self.picture_card = SampleCard(themes, "Try a picture", self)
        self.picture_card.show_sample("List the shapes from left to right.", [])
        self.picture_card.clicked.connect(self.on_picture_clicked)
        self.clip_card = SampleCard(themes, "Try a clip", self)
        self.clip_card.show_sample("Which way does the shape move?", [])
        self.clip_card.clicked.connect(self.on_clip_clicked)
        self._offer: OfferCard | None = None
        themes.changed.connect(self.on_theme_changed)

    def set_suggestion(self, kind: str, question: str, images: list[QImage]) -> None:
        """Show the real sample on the card of `kind` ("picture" or "clip")."""
        card = self.picture_card if kind == "picture" else self.clip_card
        card.show_sample(question, images)

    def set_offer(self, offer: OfferCard) -> None:
        """What stands below the cards while it is due."""
        offer.setParent(self)
        self._offer = offer
        self.on_offer_changed()

    @Slot()
    def on_offer_changed(self) -> None:
        """There is something else to offer, or nothing any more."""
        self._lay_out()

    @Slot()
    def on_picture_clicked(self) -> None:
        """The picture's card."""
        self.suggestion_chosen.emit("picture")

    @Slot()
    def on_clip_clicked(self) -> None:
        """The clip's card."""
        self.suggestion_chosen.emit("clip")

    @Slot()
    def on_theme_changed(self) -> None:
        """Sizes of text may have changed."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.width() - 2 * SIDE_MARGIN
        if width <= 0:
            return
        text_width = min(width, max(_LINE_WIDTH_PX, self.title.sizeHint().width()))
        title = self.title.heightForWidth(min(width, 640))
        in_one_line = self.line.fontMetrics().horizontalAdvance(" ".join(_WORDS)) < text_width
        self.line.setText((" " if in_one_line else "\n").join(_WORDS))
        line = self.line.heightForWidth(text_width)
        cards = self.picture_card.sizeHint()
        card_width = min(cards.width(), (width - _CARD_GAP_PX) // 2)
        cards_width = 2 * card_width + _CARD_GAP_PX
        total = title + 16 + line + 24 + cards.height()
        # Better less than something cut off: the offer is on the page of models as well.
        has_line = total <= self.height()
        self.line.setVisible(has_line)
        if not has_line:
            total -= 16 + line
        offer_height = 0
        if self._offer is not None and self._offer.is_due:
            room = self.height() - total - _OFFER_GAP_PX
            wanted = self._offer.fit_into(cards_width - 2 * FOCUS_WIDTH, room - 2 * _CARD_GAP_PX)
            if wanted <= room:
                offer_height = wanted
                total += _OFFER_GAP_PX + offer_height
        top = min(SIDE_MARGIN, max(0, self.height() - total))
        top = max(top, round((self.height() - total) * 0.36))
        self.title.setGeometry((self.width() - min(width, 640)) // 2, top, min(width, 640), title)
        top += title + 24
        if has_line:
            self.line.setGeometry((self.width() - text_width) // 2, top - 8, text_width, line)
            top += 16 + line
        first_left = left = (self.width() - cards_width) // 2
        for card in (self.picture_card, self.clip_card):
            card.setGeometry(left, top, card_width, cards.height())
            left += card_width + _CARD_GAP_PX
        if self._offer is not None:
            top += cards.height() + _OFFER_GAP_PX
            self._offer.setGeometry(
                first_left + FOCUS_WIDTH, top, cards_width - 2 * FOCUS_WIDTH, offer_height
            )
            self._offer.setVisible(offer_height > 0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._lay_out()
