"""Phosphor outline icons in the colours of the theme.

Names are Phosphor's own without the family, such as "copy" or "arrow-up"; a suffix as in
"stop-fill" or "arrow-up-bold" picks another weight.
"""

import qtawesome
from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QIcon, QPainter


def icon(name: str, colour: str) -> QIcon:
    """An icon in one colour. Needs a QApplication; unknown names raise."""
    result = qtawesome.icon(f"ph.{name}", color=colour)
    assert isinstance(result, QIcon)
    return result


def paint_icon(painter: QPainter, name: str, colour: str, place: QRectF) -> None:
    """Draw an icon into a square in logical px, sharp at the painter's pixel ratio."""
    ratio = painter.device().devicePixelRatioF()
    side = max(1, round(place.width()))
    pixmap = icon(name, colour).pixmap(QSize(side, side), ratio)
    painter.drawPixmap(place.topLeft(), pixmap)
