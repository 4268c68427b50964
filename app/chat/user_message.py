"""One question: pictures and clips large, the words in a quiet bubble, everything at the right."""

from pathlib import Path

from PySide6.QtCore import QRect, QRectF, QSizeF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.chat import wording
from app.chat.label import ThemedLabel
from app.chat.media_cards import ClipCard, PictureTile
from app.chat.reply_message import BLEED_PX
from app.chat.text_block import TextBlock
from app.conversation.message import ChatMessage
from app.theme import RADIUS_BUBBLE
from app.theme_source import ThemeSource

_GAP_PX = 8
_BUBBLE_SHARE = 0.86
_BUBBLE_SIDE_PX = 14
_BUBBLE_TOP_PX = 7
_BUBBLE_BOTTOM_PX = 10
_SMALL_BOX = QSizeF(220, 160)


class UserMessage(QWidget):
    """A question as it was sent. It never changes."""

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
        self.caption.setText(_caption(message))
        self.caption.setVisible(bool(self.caption.text()))
        self.text = TextBlock(themes, parent=self)
        self.text.setAccessibleName("Question")
        self.text.show_plain(message.text)
        self.text.setVisible(bool(message.text))
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
        inner = min(most, self.text.natural_width())
        height = self.text.height_for(inner)
        self._bubble = QRect(
            right - inner - 2 * _BUBBLE_SIDE_PX,
            top,
            inner + 2 * _BUBBLE_SIDE_PX,
            height + _BUBBLE_TOP_PX + _BUBBLE_BOTTOM_PX,
        )
        self.text.setGeometry(
            self._bubble.left() + _BUBBLE_SIDE_PX, top + _BUBBLE_TOP_PX, inner, height
        )
        self.update()
        return self._bubble.bottom() + 1

    def _place_pictures(self, width: int, right: int) -> int:
        """Rows of pictures from the right edge; the y where the next part begins."""
        if not self.pictures:
            return 0
        alone = len(self.pictures) == 1
        rows: list[list[tuple[PictureTile, int, int]]] = [[]]
        used = 0
        for tile in self.pictures:
            size = tile.size_for(width) if alone else tile.size_for(width, _SMALL_BOX)
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
        caption_height = self.caption.sizeHint().height()
        caption_width = min(width, self.caption.sizeHint().width())
        self.caption.setGeometry(right - caption_width, top - 3, caption_width, caption_height)
        return top - 3 + caption_height + _GAP_PX

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.text.isHidden():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._themes.theme.colours.user))
        painter.drawRoundedRect(QRectF(self._bubble), RADIUS_BUBBLE, RADIUS_BUBBLE)


def _caption(message: ChatMessage) -> str:
    """What was sent of the pictures, in one line; clips say it themselves."""
    pictures = [item for item in message.attachments if item.kind == "image"]
    if len(pictures) == 1:
        only = pictures[0]
        return wording.joined(only.name, wording.extent(only), wording.cost(only))
    if not pictures:
        return ""
    counts = [item.token_count for item in pictures]
    known = [count for count in counts if count is not None]
    tokens = wording.counted(sum(known), "token") if len(known) == len(counts) else ""
    return wording.joined(wording.counted(len(pictures), "picture"), tokens)
