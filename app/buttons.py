"""Buttons that paint themselves from the theme: round, plain, pill, quiet and folding ones.

They know colours and states (hover, pressed, disabled, keyboard focus), not what they are for.
"""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Slot
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFocusEvent,
    QFont,
    QFontMetricsF,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from app.icons import paint_icon
from app.theme import (
    DISABLED_OPACITY,
    FOCUS_OPACITY,
    FOCUS_WIDTH,
    HOVER,
    PRESSED,
    RADIUS_CHIP,
    RADIUS_FIELD,
    FontRole,
    blended,
    translucent,
)
from app.theme_source import ThemeSource

_FOLD_ROW_PX = 24
_CARET_PX = 12
_TEXT_BUTTON_PX = 34
_TEXT_BUTTON_SIDE_PX = 14
_KEYBOARD_REASONS = (
    Qt.FocusReason.TabFocusReason,
    Qt.FocusReason.BacktabFocusReason,
    Qt.FocusReason.ShortcutFocusReason,
)


class ThemedButton(QAbstractButton):
    """What all our buttons share: states, the focus ring, Return as well as Space.

    The ring keeps `FOCUS_WIDTH` px of room around the ground, inside the widget.
    """

    def __init__(self, themes: ThemeSource, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.themes = themes
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._ring = False
        themes.changed.connect(self.on_theme_changed)

    @Slot()
    def on_theme_changed(self) -> None:
        """Measure and paint again with the new theme."""
        self.updateGeometry()
        self.update()

    def shaded(self, ground: str, ink: str) -> str:
        """`ground` in the present state: a little ink when hovered or pressed."""
        if self.isDown():
            return blended(ground, ink, PRESSED)
        if self.underMouse() and self.isEnabled():
            return blended(ground, ink, HOVER)
        return ground

    def paint_ground(self, painter: QPainter, radius: float, fill: str, line: str = "") -> QRectF:
        """Fill the button's shape, with a hairline and the focus ring; returns the shape."""
        place = QRectF(self.rect()).adjusted(FOCUS_WIDTH, FOCUS_WIDTH, -FOCUS_WIDTH, -FOCUS_WIDTH)
        painter.setPen(QPen(QColor(line), 1) if line else Qt.PenStyle.NoPen)
        painter.setBrush(QColor(fill) if fill else Qt.BrushStyle.NoBrush)
        inset = 0.5 if line else 0.0
        shape = place.adjusted(inset, inset, -inset, -inset)
        painter.drawRoundedRect(shape, radius, radius)
        if self._ring and self.hasFocus():
            paint_focus_ring(painter, place, radius, self.themes)
        return place

    def begin(self) -> QPainter:
        """A smooth painter, faded while the button is disabled."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if not self.isEnabled():
            painter.setOpacity(DISABLED_OPACITY)
        return painter

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._ring = event.reason() in _KEYBOARD_REASONS
        super().focusInEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
            return
        super().keyPressEvent(event)


def paint_focus_ring(painter: QPainter, place: QRectF, radius: float, themes: ThemeSource) -> None:
    """The 2 px ring of the accent colour just outside a shape."""
    half = FOCUS_WIDTH / 2
    painter.setPen(QPen(translucent(themes.theme.colours.accent, FOCUS_OPACITY), FOCUS_WIDTH))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(place.adjusted(-half, -half, half, half), radius + half, radius + half)


class RoundButton(ThemedButton):
    """A circle with an icon: filled with the accent, outlined, or bare until hovered."""

    def __init__(
        self,
        themes: ThemeSource,
        icon_name: str,
        name: str,
        *,
        diameter: int = 30,
        icon_px: int = 16,
        kind: str = "outlined",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(themes, name, parent)
        self._icon_name = icon_name
        self._diameter = diameter
        self._icon_px = icon_px
        self._kind = kind
        self.setToolTip(name)

    def set_icon(self, icon_name: str, name: str) -> None:
        """Change what the button shows and says."""
        self._icon_name = icon_name
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.update()

    def sizeHint(self) -> QSize:
        side = self._diameter + 2 * FOCUS_WIDTH
        return QSize(side, side)

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self.themes.theme.colours
        painter = self.begin()
        radius = self._diameter / 2
        if self._kind == "filled":
            self.paint_ground(painter, radius, self.shaded(colours.accent, colours.text))
            ink = colours.on_accent
        elif self._kind == "outlined":
            self.paint_ground(
                painter, radius, self.shaded(colours.card, colours.text), colours.line
            )
            ink = colours.dim
        else:
            shade = self.shaded(colours.page, colours.text)
            self.paint_ground(painter, radius, "" if shade == colours.page else shade)
            ink = colours.dim
        offset = (self.width() - self._icon_px) / 2
        paint_icon(
            painter, self._icon_name, ink, QRectF(offset, offset, self._icon_px, self._icon_px)
        )


class QuietButton(ThemedButton):
    """Text with an icon before it and no ground until hovered: actions below an answer, New chat.

    `strong` makes it semibold in the accent colour.
    """

    def __init__(
        self,
        themes: ThemeSource,
        icon_name: str,
        text: str,
        *,
        strong: bool = False,
        role: FontRole = "note",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(themes, text, parent)
        self._icon_name = icon_name
        self._role: FontRole = role
        self._strong = strong
        self.setText(text)

    def set_label(self, icon_name: str, text: str) -> None:
        """Change icon and text, for example to say that something was copied."""
        self._icon_name = icon_name
        self.setText(text)
        self.setAccessibleName(text)
        self.updateGeometry()
        self.update()

    def _font(self) -> QFont:
        weight = QFont.Weight.DemiBold if self._strong else QFont.Weight.Normal
        return self.themes.theme.font(self._role, weight)

    def _icon_px(self) -> int:
        return self.themes.theme.font_px(self._role) + 2

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(self._font())
        text_width = metrics.horizontalAdvance(self.text()) + 4 if self.text() else 0.0
        icon_width = self._icon_px()
        return QSize(
            round(text_width + icon_width + 12 + 2 * FOCUS_WIDTH),
            round(metrics.height() + 8 + 2 * FOCUS_WIDTH),
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self.themes.theme.colours
        painter = self.begin()
        active = self.isEnabled() and (self.underMouse() or self.isDown())
        fill = self.shaded(colours.page, colours.text) if active else ""
        place = self.paint_ground(painter, RADIUS_FIELD, fill)
        ink = colours.accent if self._strong else (colours.text if active else colours.dim)
        side = self._icon_px()
        left = place.left() + 6
        paint_icon(
            painter, self._icon_name, ink, QRectF(left, (self.height() - side) / 2, side, side)
        )
        painter.setFont(self._font())
        painter.setPen(QColor(ink))
        painter.drawText(
            place.adjusted(6 + side + 4, 0, 0, 0),
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            self.text(),
        )


class TextButton(ThemedButton):
    """A word or two on an outlined ground; `strong` fills it with the accent."""

    def __init__(
        self, themes: ThemeSource, text: str, *, strong: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(themes, text, parent)
        self._strong = strong
        self.setText(text)

    def set_label(self, text: str, *, strong: bool) -> None:
        """Change what the button says, and whether it is what is best done next."""
        self._strong = strong
        self.setText(text)
        self.setAccessibleName(text)
        self.updateGeometry()
        self.update()

    def _font(self) -> QFont:
        return self.themes.theme.font("small", QFont.Weight.Medium)

    def sizeHint(self) -> QSize:
        width = QFontMetricsF(self._font()).horizontalAdvance(self.text())
        height = max(_TEXT_BUTTON_PX, round(self.themes.theme.font_px("small") * 2.4))
        return QSize(
            round(width) + 2 * _TEXT_BUTTON_SIDE_PX + 2 * FOCUS_WIDTH + 1, height + 2 * FOCUS_WIDTH
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self.themes.theme.colours
        painter = self.begin()
        if self._strong:
            fill = self.shaded(colours.accent, colours.text)
            place = self.paint_ground(painter, RADIUS_CHIP, fill)
        else:
            fill = self.shaded(colours.card, colours.text)
            place = self.paint_ground(painter, RADIUS_CHIP, fill, colours.line)
        painter.setFont(self._font())
        painter.setPen(QColor(colours.on_accent if self._strong else colours.text))
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, self.text())


class FoldButton(ThemedButton):
    """A dim line of text with a caret that points right when folded, down when open."""

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(self.themes.theme.font("small"))
        width = metrics.horizontalAdvance(self.text()) + _CARET_PX + 4 + 2 * FOCUS_WIDTH + 8
        return QSize(round(width), max(_FOLD_ROW_PX, round(metrics.height()) + 6))

    def set_label(self, text: str) -> None:
        """Change what the line says."""
        self.setText(text)
        self.setAccessibleName(text)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self.themes.theme
        painter = self.begin()
        ink = theme.colours.text if self.underMouse() else theme.colours.dim
        place = self.paint_ground(painter, RADIUS_FIELD, "")
        painter.setFont(theme.font("small"))
        painter.setPen(QColor(ink))
        text = place.adjusted(4, 0, 0, 0)
        painter.drawText(
            text, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self.text()
        )
        left = text.left() + QFontMetricsF(painter.font()).horizontalAdvance(self.text()) + 4
        name = "caret-down" if self.isChecked() else "caret-right"
        top = (self.height() - _CARET_PX) / 2 + 1
        paint_icon(painter, name, ink, QRectF(left, top, _CARET_PX, _CARET_PX))


class PillButton(ThemedButton):
    """An outlined pill with a word and, in medium weight, its present value: "Think off".

    An icon may stand before the text.
    """

    def __init__(
        self,
        themes: ThemeSource,
        text: str,
        value: str = "",
        *,
        icon_name: str = "",
        height: int = 26,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(themes, f"{text} {value}".strip(), parent)
        self._icon_name = icon_name
        self._height = height
        self._value = value
        self.setText(text)

    def set_value(self, value: str) -> None:
        """Change the value after the word."""
        self._value = value
        self.setAccessibleName(f"{self.text()} {value}".strip())
        self.updateGeometry()
        self.update()

    def _value_font(self) -> QFont:
        return self.themes.theme.font("small", QFont.Weight.Medium)

    def _widths(self) -> tuple[float, float]:
        text = QFontMetricsF(self.themes.theme.font("small")).horizontalAdvance(self.text())
        value = QFontMetricsF(self._value_font()).horizontalAdvance(self._value)
        return text, value + (4 if self._value else 0)

    def sizeHint(self) -> QSize:
        icon_width = 20 if self._icon_name else 0
        grown = max(self._height, round(self.themes.theme.font_px("small") * 2))
        return QSize(
            round(sum(self._widths()) + icon_width + 20 + 2 * FOCUS_WIDTH + 2),
            grown + 2 * FOCUS_WIDTH,
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self.themes.theme
        colours = theme.colours
        painter = self.begin()
        fill = self.shaded(colours.card, colours.text)
        place = self.paint_ground(
            painter, (self.height() - 2 * FOCUS_WIDTH) / 2, fill, colours.line
        )
        left = place.left() + 11
        if self._icon_name:
            paint_icon(
                painter,
                self._icon_name,
                colours.dim,
                QRectF(left, (self.height() - 16) / 2, 16, 16),
            )
            left += 20
        text_width, _ = self._widths()
        vertical = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.setFont(theme.font("small"))
        painter.setPen(QColor(colours.dim if self._value else colours.text))
        painter.drawText(
            QRectF(QPointF(left, place.top()), place.bottomRight()), vertical, self.text()
        )
        if self._value:
            painter.setFont(self._value_font())
            painter.setPen(QColor(colours.text))
            painter.drawText(
                QRectF(QPointF(left + text_width + 4, place.top()), place.bottomRight()),
                vertical,
                self._value,
            )
