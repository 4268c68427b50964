"""One question: pictures and clips large, the words in a quiet bubble, everything at the right."""

from pathlib import Path

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.buttons import FoldButton
from app.chat import wording
from app.chat.label import ThemedLabel
from app.chat.media_cards import ClipCard, PictureTile
from app.chat.reply_message import BLEED_PX
from app.chat.text_block import TextBlock
from app.conversation.message import ChatMessage
from app.theme import FOCUS_WIDTH, RADIUS_BUBBLE
from app.theme_source import ThemeSource

_GAP_PX = 8
_BUBBLE_SHARE = 0.86
_BUBBLE_SIDE_PX = 14
_BUBBLE_TOP_PX = 7
_BUBBLE_BOTTOM_PX = 10
_NARROWEST_NAME_PX = 90
_ROW_HEIGHT_PX = 160
_ROW_WIDTHS_PX = (96, 280)
# The most characters and lines that a bubble shows, folded and open. A pasted book is not what the
# conversation is read for, and laying out all of it would stop the window for a second.
_FOLDED = (1_500, 20)
_OPEN = (100_000, 4_000)


class UserMessage(QWidget):
    """A question as it was sent; a very long one is folded.

    Signals:
        height_changed(): it was folded or opened.
    """

    height_changed = Signal()

    def __init__(
        self,
        themes: ThemeSource,
        message: ChatMessage,
        thumbnails: dict[Path, list[QImage]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self.setAccessibleName("Question")
        self.pictures: list[PictureTile] = []
        self.clips: list[ClipCard] = []
        for attachment in message.attachments:
            images = thumbnails.get(attachment.path, [])
            if attachment.kind == "video":
                self.clips.append(ClipCard(themes, attachment, images, self))
            else:
                image = images[0] if images else QImage()
                self.pictures.append(PictureTile(themes, attachment, image, self))
        self.caption = ThemedLabel(themes, "note", "dim", parent=self)
        self.caption.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.caption.setWordWrap(True)
        self._caption = _caption(message)
        self.caption.setVisible(bool(self.pictures))
        self.text = TextBlock(themes, parent=self)
        self.text.setAccessibleName("Question")
        self._words = message.text
        self.text.show_plain(_beginning(message.text, *_FOLDED))
        self.text.setVisible(bool(message.text))
        self.fold_button = FoldButton(themes, "Show all", self)
        self.fold_button.setCheckable(True)
        self.fold_button.setVisible(_beginning(message.text, *_FOLDED) != message.text)
        self.fold_button.toggled.connect(self.on_fold_toggled)
        self._label_fold_button()
        self._bubble = QRect()

    def height_for(self, width: int) -> int:
        """Place everything for a column of `width` px; the height in px."""
        right = BLEED_PX + width
        top = self._place_pictures(width, right)
        for clip in self.clips:
            size = clip.size_for(width)
            clip.setGeometry(right - size.width(), top, size.width(), size.height())
            top += size.height() + _GAP_PX
        if self.text.isHidden():
            return top - _GAP_PX
        most = round(width * _BUBBLE_SHARE) - 2 * _BUBBLE_SIDE_PX
        inner = self.text.natural_width(most)
        fold = QSize(0, 0) if self.fold_button.isHidden() else self.fold_button.sizeHint()
        inner = max(inner, min(most, fold.width()))
        height = self.text.height_for(inner)
        self._bubble = QRect(
            right - inner - 2 * _BUBBLE_SIDE_PX,
            top,
            inner + 2 * _BUBBLE_SIDE_PX,
            height + fold.height() + _BUBBLE_TOP_PX + _BUBBLE_BOTTOM_PX,
        )
        left = self._bubble.left() + _BUBBLE_SIDE_PX
        self.text.setGeometry(left, top + _BUBBLE_TOP_PX, inner, height)
        # The button's words line up with the text above them.
        self.fold_button.setGeometry(
            left - 4 - FOCUS_WIDTH, top + _BUBBLE_TOP_PX + height + 2, fold.width(), fold.height()
        )
        self.update()
        return self._bubble.bottom() + 1

    @Slot(bool)
    def on_fold_toggled(self, is_open: bool) -> None:
        """Show the rest of a long question, or only its beginning again."""
        self.text.show_plain(_beginning(self._words, *(_OPEN if is_open else _FOLDED)))
        self._label_fold_button()
        self.height_changed.emit()

    def _label_fold_button(self) -> None:
        count = wording.counted(len(self._words), "character")
        fits = _beginning(self._words, *_OPEN) == self._words
        more = f"Show all {count}" if fits else f"Show more of {count}"
        self.fold_button.set_label("Show less" if self.fold_button.isChecked() else more)

    def _place_pictures(self, width: int, right: int) -> int:
        """Rows of pictures from the right edge; the y where the next part begins."""
        if not self.pictures:
            return 0
        alone = len(self.pictures) == 1
        rows: list[list[tuple[PictureTile, int, int]]] = [[]]
        used = 0
        for tile in self.pictures:
            size = tile.size_for(width) if alone else _size_in_row(tile, width)
            if rows[-1] and used + size.width() > width:
                rows.append([])
                used = 0
            rows[-1].append((tile, size.width(), size.height()))
            used += size.width() + _GAP_PX
        top = 0
        for row in rows:
            left = right - sum(item[1] for item in row) - _GAP_PX * (len(row) - 1)
            for tile, tile_width, tile_height in row:
                tile.setGeometry(left, top, tile_width, tile_height)
                left += tile_width + _GAP_PX
            top += max(item[2] for item in row) + _GAP_PX
        self._show_caption(width)
        caption_height = self.caption.heightForWidth(width)
        self.caption.setGeometry(BLEED_PX, top - 3, width, caption_height)
        return top - 3 + caption_height + _GAP_PX

    def _show_caption(self, width: int) -> None:
        """Cut the name, not the figures, where both do not fit in one line, or give it its own."""
        name, figures = self._caption
        metrics = self.caption.fontMetrics()
        free = width - metrics.horizontalAdvance(wording.SEPARATOR + figures) - 2
        has_own_line = free < _NARROWEST_NAME_PX < metrics.horizontalAdvance(name)
        room = width if has_own_line else free
        shown = metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, room)
        self.caption.setText(
            f"{shown}\n{figures}" if has_own_line else wording.joined(shown, figures)
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.text.isHidden():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._themes.theme.colours.user))
        painter.drawRoundedRect(QRectF(self._bubble), RADIUS_BUBBLE, RADIUS_BUBBLE)


def _beginning(text: str, characters: int, lines: int) -> str:
    """The text itself, or its first words and an ellipsis where it is longer than that."""
    shown = text[:characters]
    shown = "\n".join(shown.split("\n", lines)[:lines])
    if len(shown) == len(text):
        return text
    at_word, space, _ = shown.rpartition(" ")
    return f"{(at_word if space else shown).rstrip()} …"


def _size_in_row(tile: PictureTile, column_px: int) -> QSize:
    """Pictures side by side are equally high; very wide and very tall ones show their middle."""
    narrowest, widest = _ROW_WIDTHS_PX
    width = round(tile.pixels.width() * _ROW_HEIGHT_PX / max(1, tile.pixels.height()))
    return QSize(min(column_px, widest, max(narrowest, width)), _ROW_HEIGHT_PX)


def _caption(message: ChatMessage) -> tuple[str, str]:
    """What was sent of the pictures: a name or a count, and figures. Clips say it themselves."""
    pictures = [item for item in message.attachments if item.kind == "image"]
    if len(pictures) == 1:
        only = pictures[0]
        return only.name, wording.facts(only)
    counts = [item.token_count for item in pictures]
    known = [count for count in counts if count is not None]
    tokens = wording.counted(sum(known), "token") if len(known) == len(counts) else ""
    return wording.counted(len(pictures), "picture"), tokens
