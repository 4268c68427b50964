"""Paints behind a text document what Qt's own layout draws less well.

Bars beside quotes, rules, list markers and the rounded chips behind inline code, all found by the
properties that `markdown_render` sets.
"""

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QTextBlock, QTextDocument

from app.chat.markdown_render import (
    IS_CODE,
    IS_RULE,
    LIST_INDENT_PX,
    LIST_MARKER,
    QUOTE_DEPTH,
    QUOTE_INDENT_PX,
    TASK_DONE,
    TASK_OPEN,
)
from app.icons import paint_icon
from app.theme import Theme

_CHIP_RADIUS = 5
_CHIP_SIDE_PX = 2.5
_MARKER_SPACE_PX = 8
_TASK_SPACE_PX = 4
_BULLET_RADIUS = 2.3
_TASK_ICONS = {TASK_OPEN: "square", TASK_DONE: "check-square"}


def paint_marks(painter: QPainter, document: QTextDocument, theme: Theme, exposed: QRectF) -> None:
    """Paint the marks of the blocks that lie inside `exposed`, in document coordinates."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    block = document.begin()
    while block.isValid():
        place = _place(block)
        if place.top() > exposed.bottom():
            return
        if place.bottom() + place.height() >= exposed.top() and block.layout().lineCount():
            _paint_block(painter, block, place, theme)
        block = block.next()


def _place(block: QTextBlock) -> QRectF:
    """The lines of a block without its margins; their positions count from its corner."""
    place = block.document().documentLayout().blockBoundingRect(block)
    layout = block.layout()
    if layout.lineCount():
        last = layout.lineAt(layout.lineCount() - 1)
        place.setHeight(last.y() + last.height())
    return place


def _paint_block(painter: QPainter, block: QTextBlock, place: QRectF, theme: Theme) -> None:
    form = block.blockFormat()
    line = QColor(theme.colours.line)
    depth = form.intProperty(QUOTE_DEPTH)
    if depth:
        above = block.previous()
        deep_above = above.blockFormat().intProperty(QUOTE_DEPTH) if above.isValid() else 0
        for level in range(depth):
            top = _place(above).bottom() if level < deep_above else place.top()
            painter.fillRect(QRectF(level * QUOTE_INDENT_PX, top, 2, place.bottom() - top), line)
    if form.boolProperty(IS_RULE):
        width = block.document().textWidth()
        painter.fillRect(QRectF(0, round(place.center().y()), width, 1), line)
    marker = form.stringProperty(LIST_MARKER)
    if marker:
        _paint_marker(painter, block, place, marker, theme)
    _paint_chips(painter, block, place.topLeft(), theme)


def _paint_marker(
    painter: QPainter, block: QTextBlock, place: QRectF, marker: str, theme: Theme
) -> None:
    first = block.layout().lineAt(0)
    font = block.document().defaultFont()
    metrics = QFontMetricsF(font)
    base_line = place.y() + first.y() + first.ascent()
    text_left = block.blockFormat().leftMargin()
    if marker.endswith("."):
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.dim))
        left = text_left - _MARKER_SPACE_PX + 2 - metrics.horizontalAdvance(marker)
        painter.drawText(QPointF(left, base_line), marker)
        return
    if marker in _TASK_ICONS:
        side = round(metrics.ascent()) + 2
        top = base_line - (metrics.capHeight() + side) / 2
        box = QRectF(text_left - side - _TASK_SPACE_PX, round(top), side, side)
        paint_icon(painter, _TASK_ICONS[marker], theme.colours.dim, box)
        return
    centre = QPointF(text_left - LIST_INDENT_PX / 2 - 1, base_line - metrics.xHeight() / 2)
    painter.setPen(QColor(theme.colours.dim))
    painter.setBrush(QColor(theme.colours.dim) if marker == "•" else Qt.BrushStyle.NoBrush)
    painter.drawEllipse(centre, _BULLET_RADIUS, _BULLET_RADIUS)


def _paint_chips(painter: QPainter, block: QTextBlock, origin: QPointF, theme: Theme) -> None:
    layout = block.layout()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(theme.colours.user))
    item = block.begin()
    while not item.atEnd():
        piece = item.fragment()
        item += 1
        if not piece.charFormat().boolProperty(IS_CODE):
            continue
        position = piece.position() - block.position()
        end = position + piece.length()
        while position < end:
            line = layout.lineForTextPosition(position)
            stop = min(end, line.textStart() + line.textLength())
            if stop <= position:
                break
            left = _x(line.cursorToX(position))
            right = _x(line.cursorToX(stop))
            base_line = origin.y() + line.y() + line.ascent()
            size = theme.font_px("code")
            painter.drawRoundedRect(
                QRectF(
                    origin.x() + left - _CHIP_SIDE_PX,
                    base_line - size - 1,
                    right - left + 2 * _CHIP_SIDE_PX,
                    size + 6,
                ),
                _CHIP_RADIUS,
                _CHIP_RADIUS,
            )
            position = stop


def _x(answer: object) -> float:
    """`QTextLine.cursorToX` gives a float or a pair, depending on the binding's version."""
    if isinstance(answer, tuple):
        answer = answer[0]
    assert isinstance(answer, int | float)
    return float(answer)
