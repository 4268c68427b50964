"""A picture and a clip as they stand in the conversation, large enough to look at.

They draw images they are given; they read no file.
"""

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, QSizeF, Qt, Slot
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.chat import wording
from app.conversation.message import Attachment
from app.theme import RADIUS_CARD, translucent
from app.theme_source import ThemeSource

_WIDEST_PX = 360
_TALLEST_PX = 280
_MOST_ENLARGED = 2.0
_CLIP_WIDTH_PX = 420
_STRIP_PX = 66
_FOOTER_PX = 33
_FOOTER_SIDE_PX = 12
_MOST_COLUMNS = 12


def picture_size(pixels: QSize, column_px: int) -> QSize:
    """How large a picture is shown: whole, inside the column, small ones enlarged a little."""
    if pixels.isEmpty():
        return QSize(0, 0)
    width = min(_WIDEST_PX, column_px)
    scale = min(width / pixels.width(), _TALLEST_PX / pixels.height(), _MOST_ENLARGED)
    return QSize(max(1, round(pixels.width() * scale)), max(1, round(pixels.height() * scale)))


def rounded(place: QRectF, radius: float) -> QPainterPath:
    """A rectangle with round corners, for clipping."""
    path = QPainterPath()
    path.addRoundedRect(place, radius, radius)
    return path


class ScaledImage:
    """An image with its last scaled version, so that repainting costs nothing."""

    def __init__(self, image: QImage) -> None:
        self._image = image
        self._scaled = QImage()

    @property
    def pixels(self) -> QSize:
        """Size of the original."""
        return self._image.size()

    def paint(self, painter: QPainter, place: QRectF) -> None:
        """Fill `place` with the middle of the image, sharp at the painter's pixel ratio."""
        if self._image.isNull() or place.isEmpty():
            return
        ratio = painter.device().devicePixelRatioF()
        wanted = QSize(round(place.width() * ratio), round(place.height() * ratio))
        if self._scaled.size() != wanted:
            grown = self._image.scaled(
                wanted,
                Qt.AspectRatioMode.KeepAspectRatioByExpanding,
                Qt.TransformationMode.SmoothTransformation,
            )
            corner = QRect(
                (grown.width() - wanted.width()) // 2,
                (grown.height() - wanted.height()) // 2,
                wanted.width(),
                wanted.height(),
            )
            self._scaled = grown.copy(corner)
        painter.drawImage(place, self._scaled)


class ContactSheet:
    """Frames of a clip side by side, as many as fit with next to nothing cut off.

    `place` is about how large the sheet will be; a single picture makes a sheet of one.
    """

    def __init__(self, frames: list[QImage], place: QSizeF, rows: int = 1) -> None:
        shown = [frame for frame in frames if not frame.isNull()]
        self._rows = rows if len(shown) > 1 else 1
        columns = 1
        if len(shown) > 1:
            frame_width = shown[0].width() / shown[0].height() * place.height() / rows
            columns = max(1, min(_MOST_COLUMNS, round(place.width() / frame_width)))
        self._cells = [ScaledImage(frame) for frame in chosen_frames(shown, columns * self._rows)]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return not self._cells

    def paint(self, painter: QPainter, place: QRectF, gap: str) -> None:
        """Fill `place`, row by row, with hairlines of the colour `gap` between the frames."""
        columns = -(-len(self._cells) // self._rows)
        if not columns:
            return
        lefts = [round(place.left() + place.width() * i / columns) for i in range(columns + 1)]
        tops = [round(place.top() + place.height() * i / self._rows) for i in range(self._rows + 1)]
        for number, cell in enumerate(self._cells):
            row, column = divmod(number, columns)
            left, top = lefts[column], tops[row]
            cell.paint(painter, QRectF(left, top, lefts[column + 1] - left, tops[row + 1] - top))
        for left in lefts[1:-1]:
            painter.fillRect(QRectF(left, place.top(), 1, place.height()), QColor(gap))
        for top in tops[1:-1]:
            painter.fillRect(QRectF(place.left(), top, place.width(), 1), QColor(gap))


def chosen_frames(frames: list[QImage], most: int) -> list[QImage]:
    """At most `most` frames, evenly spread from the first to the last; alone, the middle one."""
    if len(frames) <= most:
        return frames
    if most == 1:
        return [frames[len(frames) // 2]]
    return [frames[round(i * (len(frames) - 1) / (most - 1))] for i in range(most)]


class PictureTile(QWidget):
    """One picture with round corners."""

    def __init__(
        self,
        themes: ThemeSource,
        attachment: Attachment,
        image: QImage,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self._image = ScaledImage(image)
        size = self._image.pixels
        if size.isEmpty():
            size = QSize(attachment.width or 4, attachment.height or 3)
        elif attachment.width and attachment.height:
            # A thumbnail may be smaller than the picture; the picture's own size decides.
            size = QSize(attachment.width, attachment.height)
        self.pixels = size
        self.setAccessibleName(f"Picture {attachment.name}")
        self.setToolTip(wording.tip(wording.full_facts(attachment)))
        themes.changed.connect(self.on_theme_changed)

    def size_for(self, column_px: int) -> QSize:
        """The size to show it in where it stands alone, inside a column."""
        return picture_size(self.pixels, column_px)

    @Slot()
    def on_theme_changed(self) -> None:
        """Paint again in the new colours."""
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        place = QRectF(self.rect())
        colours = self._themes.theme.colours
        painter.setClipPath(rounded(place, RADIUS_CARD))
        painter.fillRect(place, QColor(colours.user))
        self._image.paint(painter, place)
        painter.setClipping(False)
        # A faint edge keeps white pictures apart from a white page.
        painter.setPen(QPen(translucent(colours.text, 0.10), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(place.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS_CARD, RADIUS_CARD)


class ClipCard(QWidget):
    """A clip as a strip of its frames, with what is sent of it below."""

    def __init__(
        self,
        themes: ThemeSource,
        attachment: Attachment,
        frames: list[QImage],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self._name = attachment.name
        self._extent = wording.extent(attachment)
        self._cost = wording.joined(wording.cost(attachment), attachment.remark)
        self._sheet = ContactSheet(frames, QSizeF(_CLIP_WIDTH_PX, _STRIP_PX))
        words = wording.joined(self._name, self._extent, self._cost)
        self.setAccessibleName(f"Clip {words}")
        self.setToolTip(wording.tip(wording.full_facts(attachment)))
        themes.changed.connect(self.on_theme_changed)

    def size_for(self, column_px: int) -> QSize:
        """The size to show it in, inside a column."""
        scale = max(1.0, self._themes.theme.text_scale)
        return QSize(min(_CLIP_WIDTH_PX, column_px), _STRIP_PX + round(_FOOTER_PX * scale))

    @Slot()
    def on_theme_changed(self) -> None:
        """Paint again in the new colours."""
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        place = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        shape = rounded(place, RADIUS_CARD)
        painter.fillPath(shape, QColor(theme.colours.card))
        painter.setClipPath(shape)
        painter.fillRect(QRectF(0, 0, self.width(), _STRIP_PX), QColor(theme.colours.user))
        self._sheet.paint(painter, QRectF(0, 0, self.width(), _STRIP_PX), theme.colours.card)
        painter.setClipping(False)
        painter.setPen(QPen(QColor(theme.colours.line), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(shape)
        # White frames would run into a white footer.
        painter.drawLine(
            QPointF(0.5, _STRIP_PX - 0.5), QPointF(self.width() - 0.5, _STRIP_PX - 0.5)
        )
        self._paint_footer(painter)

    def _paint_footer(self, painter: QPainter) -> None:
        theme = self._themes.theme
        font = theme.font("note")
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.dim))
        row = QRectF(
            _FOOTER_SIDE_PX,
            _STRIP_PX,
            self.width() - 2 * _FOOTER_SIDE_PX,
            self.height() - _STRIP_PX,
        )
        centred = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(row, centred | Qt.AlignmentFlag.AlignRight, self._cost)
        free = row.width() - metrics.horizontalAdvance(self._cost) - 16
        rest = f"{wording.SEPARATOR}{self._extent}" if self._extent else ""
        name = metrics.elidedText(
            self._name, Qt.TextElideMode.ElideMiddle, free - metrics.horizontalAdvance(rest)
        )
        painter.drawText(row, centred | Qt.AlignmentFlag.AlignLeft, name + rest)
