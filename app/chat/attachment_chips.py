"""The files that go with the next question, as chips above the text.

A chip is first "reading", then says what the file is and costs, or in a sentence why it cannot be
sent; and "ready" when the model has read it, so that nobody will wait for that.
"""

import math
from pathlib import Path

from PySide6.QtCore import QRect, QRectF, QSizeF, Qt, Signal, Slot
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QImage,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from app.buttons import RoundButton
from app.chat import wording
from app.chat.media_cards import ContactSheet, rounded
from app.conversation.message import Attachment, shown_name
from app.icons import paint_icon
from app.theme import RADIUS_CHIP, Theme
from app.theme_source import ThemeSource

_THUMB = QRect(5, 8, 38, 30)
_THUMB_RADIUS = 6
_TEXT_LEFT_PX = 52
_REMOVE_PX = 20
_WIDEST_PX = 280
_GAP_PX = 8
_CHIP_EDGES_PX = 10
# How much of a third row shows that there is one.
_PEEK_PX = 20
_SCROLL_BAR_PX = 14


class AttachmentChip(QWidget):
    """One file: thumbnail, name, a second line, and a button that removes it.

    Signals:
        remove_requested(object): the Path.
    """

    remove_requested = Signal(object)

    def __init__(self, themes: ThemeSource, path: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self.path = path
        self.attachment: Attachment | None = None
        self.problem = ""
        self._name = shown_name(path)
        self._line = "reading"
        self._sheet: ContactSheet | None = None
        self._rows: list[str] = []
        # Sizes and rows by width: a hundred chips are placed again whenever one of them changes.
        self._measured: dict[int, tuple[int, int, list[str]]] = {}
        self._measured_in = themes.theme
        self.remove_button = RoundButton(
            themes, "x", "Remove", diameter=_REMOVE_PX, icon_px=12, kind="bare", parent=self
        )
        self.remove_button.clicked.connect(self.on_remove_clicked)
        self._describe()

    @property
    def is_pending(self) -> bool:
        """Whether nothing is known about the file yet."""
        return self.attachment is None and not self.problem

    @property
    def line(self) -> str:
        """What the second line says."""
        return self._line

    def show_attachment(
        self, attachment: Attachment, thumbnail: QImage, filmstrip: list[QImage]
    ) -> None:
        """The file was read."""
        self.attachment = attachment
        self.problem = attachment.problem or ""
        self._name = attachment.name
        self._sheet = ContactSheet(filmstrip or [thumbnail], QSizeF(_THUMB.size()))
        self._line = self._of_itself(self.problem) or wording.short_facts(attachment)
        self._describe()

    def show_read(self) -> None:
        """The model has read the file as it is shown now."""
        if self.attachment is not None and not self.problem:
            self._line = _ready_line(self.attachment)
            self._describe()

    def show_problem(self, sentence: str) -> None:
        """The file cannot be sent."""
        self.problem = sentence
        self._line = self._of_itself(sentence)
        self._describe()

    def _of_itself(self, sentence: str) -> str:
        """A sentence about the file as it reads below the file's name."""
        named = f"“{self._name}” "
        return f"It {sentence.removeprefix(named)}" if sentence.startswith(named) else sentence

    def size_for(self, width: int) -> tuple[int, int]:
        """Width and height in px, inside `width`."""
        if self._measured_in is not self._themes.theme:
            self._measured.clear()
            self._measured_in = self._themes.theme
        if width not in self._measured:
            self._measured[width] = self._measure(width)
        chip_width, chip_height, self._rows = self._measured[width]
        return chip_width, chip_height

    def _measure(self, width: int) -> tuple[int, int, list[str]]:
        theme = self._themes.theme
        metrics = QFontMetricsF(theme.font("note"))
        line_px = _line_px(theme)
        frame = _TEXT_LEFT_PX + 12
        name_px = metrics.horizontalAdvance(self._name) + _REMOVE_PX
        line_wide = metrics.horizontalAdvance(self._line)
        if not self.problem:
            # A long name is cut, figures are not, and "ready" must not push the next chip away.
            if self.attachment is not None:
                ready_wide = metrics.horizontalAdvance(_ready_line(self.attachment))
                line_wide = max(line_wide, ready_wide)
            natural = max(min(name_px, _WIDEST_PX - frame), line_wide)
            chip_px = min(width, math.ceil(natural) + frame)
            return chip_px, 2 * line_px + _CHIP_EDGES_PX, [self._line]
        room = min(width - frame, max(_WIDEST_PX, math.ceil(max(name_px, line_wide))))
        rows = _wrapped(self._line, metrics, room)
        used = max(name_px, *(metrics.horizontalAdvance(text) for text in rows))
        height = (1 + len(rows)) * line_px + _CHIP_EDGES_PX
        return min(width, math.ceil(used) + frame), height, rows

    def _describe(self) -> None:
        self._measured.clear()
        self.setAccessibleName(f"{self._name}, {self._line}")
        words = f"{self._name}\n{self._line}"
        if self.attachment is not None and not self.problem:
            words = wording.full_facts(self.attachment)
        self.setToolTip(wording.tip(words))
        self.remove_button.set_icon("x", f"Remove {self._name}")
        self.remove_button.setToolTip(wording.tip(f"Remove {self._name}"))
        self.update()

    @Slot()
    def on_remove_clicked(self) -> None:
        """Ask for this file to be removed."""
        self.remove_requested.emit(self.path)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Backspace, Qt.Key.Key_Delete):
            self.on_remove_clicked()
            return
        super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        hint = self.remove_button.sizeHint()
        self.remove_button.setGeometry(
            self.width() - hint.width() - 3, 3, hint.width(), hint.height()
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        colours = theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(QPen(QColor(colours.warn if self.problem else colours.line), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        place = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(place, RADIUS_CHIP, RADIUS_CHIP)
        self._paint_thumbnail(painter)
        font = theme.font("note")
        metrics = QFontMetricsF(font)
        line_px = metrics.height() + 3
        right = self.width() - _REMOVE_PX - 10
        row = QRectF(_TEXT_LEFT_PX, 5, right - _TEXT_LEFT_PX, line_px)
        painter.setFont(font)
        painter.setPen(QColor(colours.text))
        centred = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        middle = Qt.TextElideMode.ElideMiddle
        painter.drawText(row, centred, metrics.elidedText(self._name, middle, row.width()))
        painter.setPen(QColor(colours.warn if self.problem else colours.dim))
        row.setRight(self.width() - 8)
        for text in self._rows:
            row.translate(0, line_px)
            painter.drawText(
                row, centred, metrics.elidedText(text, Qt.TextElideMode.ElideRight, row.width())
            )

    def _paint_thumbnail(self, painter: QPainter) -> None:
        colours = self._themes.theme.colours
        place = QRectF(_THUMB)
        if self._sheet is not None and not self._sheet.is_empty:
            painter.save()
            painter.setClipPath(rounded(place, _THUMB_RADIUS))
            self._sheet.paint(painter, place, colours.card)
            painter.restore()
            # A white picture would be nothing on a white card.
            painter.setPen(QPen(QColor(colours.line), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            edge = place.adjusted(0.5, 0.5, -0.5, -0.5)
            painter.drawRoundedRect(edge, _THUMB_RADIUS, _THUMB_RADIUS)
            return
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.user))
        painter.drawRoundedRect(place, _THUMB_RADIUS, _THUMB_RADIUS)
        name = "warning-circle" if self.problem else "file"
        ink = colours.warn if self.problem else colours.dim
        centre = place.center()
        paint_icon(painter, name, ink, QRectF(centre.x() - 8, centre.y() - 8, 16, 16))


class AttachmentChips(QScrollArea):
    """All chips, in rows; more than two rows scroll.

    Signals:
        attachment_removed(object): the Path of a chip that the person removed; it is gone already.
        changed(): chips came, went or learnt something.
    """

    attachment_removed = Signal(object)
    changed = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self.chips: list[AttachmentChip] = []
        # The width and theme that the chips are placed for, and the height that they take.
        self._placed_for: tuple[int, Theme, int] | None = None
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setAutoFillBackground(False)
        self.setAccessibleName("Attachments")
        self._page = QWidget()
        self.setWidget(self._page)
        # setWidget switches this on, and the ground would cover the card.
        self._page.setAutoFillBackground(False)

    @property
    def attachments(self) -> list[Attachment]:
        """What is known of the files, in order; pending and unreadable ones are left out."""
        return [chip.attachment for chip in self.chips if chip.attachment and not chip.problem]

    def add(self, path: Path) -> None:
        """A chip for a file of which nothing is known yet; a file already there is left alone."""
        if self._chip(path) is None:
            chip = AttachmentChip(self._themes, path, self._page)
            chip.remove_requested.connect(self.on_remove_requested)
            chip.show()
            self.chips.append(chip)
            self._tell()

    def update_chip(
        self, path: Path, attachment: Attachment, thumbnail: QImage, filmstrip: list[QImage]
    ) -> None:
        """A file was read; nothing happens if its chip is gone."""
        chip = self._chip(path)
        if chip is not None:
            chip.show_attachment(attachment, thumbnail, filmstrip)
            self._tell()

    def set_read(self, path: Path) -> None:
        """The model has read a file; nothing happens if its chip is gone."""
        chip = self._chip(path)
        if chip is not None:
            chip.show_read()
            self._tell()

    def remove(self, path: Path) -> None:
        """Take a chip away; nothing happens if it is gone."""
        chip = self._chip(path)
        if chip is not None:
            self.chips.remove(chip)
            chip.hide()
            chip.deleteLater()
            self._tell()

    def set_problem(self, path: Path, sentence: str) -> None:
        """A file cannot be sent; nothing happens if its chip is gone."""
        chip = self._chip(path)
        if chip is not None:
            is_first = not any(other.problem for other in self.chips)
            chip.show_problem(sentence)
            self._tell()
            if is_first:
                self.show_problem()

    def show_problem(self) -> None:
        """Scroll to the first file that cannot be sent."""
        chip = next((chip for chip in self.chips if chip.problem), None)
        if chip is not None:
            self.verticalScrollBar().setValue(chip.y())

    def remove_problems(self) -> None:
        """Take away every file that cannot be sent, as if the person had removed each."""
        for chip in [chip for chip in self.chips if chip.problem]:
            self.on_remove_requested(chip.path)

    def clear(self) -> None:
        """Take every chip away."""
        for chip in self.chips:
            chip.hide()
            chip.deleteLater()
        self.chips = []
        self._tell()

    def height_for(self, width: int) -> int:
        """Place the chips in rows for a width; the height to give this area, 0 without chips."""
        if not self.chips:
            return 0
        asked = (width, self._themes.theme)
        most = self._most_height()
        if self._placed_for is None or self._placed_for[:2] != asked:
            places = self._in_rows(width, most)
            if places[-1].bottom() >= most:  # room for the scroll bar beside the chips
                width -= _SCROLL_BAR_PX
                places = self._in_rows(width)
            for chip, place in zip(self.chips, places, strict=True):
                chip.setGeometry(place)
            height = max(place.bottom() + 1 for place in places)
            self._page.resize(width, height)
            self._placed_for = (*asked, height)
        return min(self._placed_for[2], most)

    def _most_height(self) -> int:
        """Two rows of chips, and the upper edge of a third."""
        row = 2 * _line_px(self._themes.theme) + _CHIP_EDGES_PX
        return 2 * row + _GAP_PX + _PEEK_PX

    def _in_rows(self, width: int, most_px: float = math.inf) -> list[QRect]:
        """Where the chips go, up to the first one that reaches below `most_px`."""
        places: list[QRect] = []
        left = top = row_height = 0
        for chip in self.chips:
            chip_width, chip_height = chip.size_for(width)
            if left and left + chip_width > width:
                left, top, row_height = 0, top + row_height + _GAP_PX, 0
            places.append(QRect(left, top, chip_width, chip_height))
            if top + chip_height > most_px:
                break
            left += chip_width + _GAP_PX
            row_height = max(row_height, chip_height)
        return places

    def _tell(self) -> None:
        self._placed_for = None
        self.changed.emit()

    def _chip(self, path: Path) -> AttachmentChip | None:
        return next((chip for chip in self.chips if chip.path == path), None)

    @Slot(object)
    def on_remove_requested(self, path: Path) -> None:
        """Take a chip away because the person said so."""
        if self._chip(path) is not None:
            self.remove(path)
            self.attachment_removed.emit(path)


def _ready_line(attachment: Attachment) -> str:
    return wording.joined(wording.short_facts(attachment), "ready")


def _line_px(theme: Theme) -> int:
    return round(QFontMetricsF(theme.font("note")).height() + 3)


def _wrapped(text: str, metrics: QFontMetricsF, width: float) -> list[str]:
    """Words of `text` in rows no wider than `width`; at least one row."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and metrics.horizontalAdvance(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows
