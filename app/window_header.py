"""The bar at the top: what the chat is about, New chat, and which model answers."""

from PySide6.QtCore import QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QMenu, QSizePolicy, QWidget

from app.buttons import QuietButton, RoundButton
from app.theme import HEADER_HEIGHT, NARROW_WIDTH, SIDE_MARGIN
from app.theme_source import ThemeSource

_PILL_HEIGHT_PX = 26
_PILL_SIDE_PX = 11
_GAP_PX = 6


class ModelPill(QWidget):
    """Says which model answers and what it is good for; it does nothing when clicked."""

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._name = ""
        self._note = ""
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        themes.changed.connect(self.on_theme_changed)

    @property
    def words(self) -> str:
        """All that it says."""
        return self._name + self._rest()

    def show_model(self, name: str, note: str) -> None:
        """`name` stands out, `note` follows it."""
        self._name = name
        self._note = note
        self.setAccessibleName(f"Model: {self.words}")
        self.setToolTip(f"{self.words} answers in this chat")
        self.updateGeometry()
        self.update()

    @Slot()
    def on_theme_changed(self) -> None:
        """Measure and paint again."""
        self.updateGeometry()
        self.update()

    def _rest(self) -> str:
        return f" · {self._note}" if self._note else ""

    def _name_font(self) -> QFont:
        return self._themes.theme.font("note", QFont.Weight.Medium)

    def sizeHint(self) -> QSize:
        theme = self._themes.theme
        name = QFontMetricsF(self._name_font()).horizontalAdvance(self._name)
        rest = QFontMetricsF(theme.font("note")).horizontalAdvance(self._rest())
        height = max(_PILL_HEIGHT_PX, round(theme.font_px("note") * 2))
        return QSize(round(name + rest) + 2 * _PILL_SIDE_PX + 2, height)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._name:
            return
        theme = self._themes.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(theme.colours.line), 1))
        painter.setBrush(QColor(theme.colours.card))
        place = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(place, place.height() / 2, place.height() / 2)
        row = place.adjusted(_PILL_SIDE_PX, 0, -_PILL_SIDE_PX + 2, 0)
        centred = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.setFont(self._name_font())
        painter.setPen(QColor(theme.colours.text))
        painter.drawText(row, centred, self._name)
        row.setLeft(row.left() + QFontMetricsF(painter.font()).horizontalAdvance(self._name))
        painter.setFont(theme.font("note"))
        painter.setPen(QColor(theme.colours.dim))
        rest = QFontMetricsF(painter.font()).elidedText(
            self._rest(), Qt.TextElideMode.ElideRight, row.width()
        )
        painter.drawText(row, centred, rest)


class WindowHeader(QWidget):
    """Title at the left, New chat and the model at the right.

    Signals:
        new_chat_requested(): the button was pressed.
    """

    new_chat_requested = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._title = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.new_chat_button = QuietButton(
            themes, "note-pencil", "New chat", role="small", parent=self
        )
        self.new_chat_button.setToolTip("New chat")
        self.new_chat_button.clicked.connect(self.new_chat_requested)
        self.pill = ModelPill(themes, self)
        self.menu_button = RoundButton(
            themes, "dots-three-bold", "Menu", diameter=28, icon_px=18, kind="bare", parent=self
        )
        self.menu_button.hide()
        self.menu_button.clicked.connect(self.on_menu_clicked)
        self._menu: QMenu | None = None
        themes.changed.connect(self.on_theme_changed)
        self.on_theme_changed()

    def set_title(self, title: str) -> None:
        """What the chat is about; empty for a chat without a question."""
        self._title = title
        self.setAccessibleName(title or "New chat")
        self.new_chat_button.setVisible(bool(title))
        self._lay_out()

    def set_menu(self, menu: QMenu) -> None:
        """Offer a menu here, for desktops without a menu bar at the top of the screen."""
        self._menu = menu
        self.menu_button.show()
        self._lay_out()

    @property
    def title(self) -> str:
        """The whole title, also where it is shown cut."""
        return self._title

    @Slot()
    def on_menu_clicked(self) -> None:
        """Open the menu below its button."""
        if self._menu is not None:
            corner = self.menu_button.rect().bottomRight()
            place = self.menu_button.mapToGlobal(corner)
            place.setX(place.x() - self._menu.sizeHint().width())
            self._menu.popup(place)

    @Slot()
    def on_theme_changed(self) -> None:
        """Sizes of text may have changed."""
        scale = max(1.0, self._themes.theme.text_scale)
        self.setFixedHeight(round(HEADER_HEIGHT * scale))
        self._lay_out()

    def _lay_out(self) -> None:
        narrow = self.width() < NARROW_WIDTH
        self.new_chat_button.setText("" if narrow else "New chat")
        right = self.width() - SIDE_MARGIN
        if self._menu is not None:
            right += 6
            right = self._put(self.menu_button, right) - 2
        free = max(0, right - SIDE_MARGIN)
        pill = self.pill.sizeHint()
        pill_width = min(pill.width(), free)
        self.pill.setGeometry(
            right - pill_width, (self.height() - 1 - pill.height()) // 2, pill_width, pill.height()
        )
        right -= pill_width + _GAP_PX
        if not self.new_chat_button.isHidden():
            right = self._put(self.new_chat_button, right) - _GAP_PX
        self._title_right = right
        self.update()

    def _put(self, button: QWidget, right: int) -> int:
        hint = button.sizeHint()
        left = right - hint.width()
        button.setGeometry(
            left, (self.height() - 1 - hint.height()) // 2, hint.width(), hint.height()
        )
        return left

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._lay_out()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._themes.theme
        painter = QPainter(self)
        painter.fillRect(QRectF(0, self.height() - 1, self.width(), 1), QColor(theme.colours.line))
        font = theme.font("small", QFont.Weight.DemiBold)
        row = QRectF(SIDE_MARGIN, 0, self._title_right - SIDE_MARGIN - 4, self.height() - 1)
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.text))
        painter.drawText(
            row,
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            QFontMetricsF(font).elidedText(
                self._title, Qt.TextElideMode.ElideRight, max(0.0, row.width())
            ),
        )
