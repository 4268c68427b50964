"""The bar at the top: what the chat is about, New chat, and which model answers.

Above the models it says so, shows the way back, and what this machine has room for.
"""

from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QMenu, QSizePolicy, QWidget

from app.buttons import QuietButton, RoundButton, ThemedButton
from app.theme import FOCUS_WIDTH, HEADER_HEIGHT, NARROW_WIDTH, SIDE_MARGIN
from app.theme_source import ThemeSource

_PILL_HEIGHT_PX = 26
_PILL_SIDE_PX = 11
_GAP_PX = 6


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a pill's words; strong ones stand out."""

    text: str
    strong: bool = False


class SpanPill(ThemedButton):
    """A pill with words of two weights."""

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(themes, "", parent)
        self._spans: tuple[Span, ...] = ()

    @property
    def words(self) -> str:
        """All that it says."""
        return "".join(span.text for span in self._spans)

    def show_spans(self, *spans: Span) -> None:
        """Say these words; empty pieces are left out."""
        self._spans = tuple(span for span in spans if span.text)
        self.updateGeometry()
        self.update()

    def _font(self, span: Span) -> QFont:
        weight = QFont.Weight.Medium if span.strong else QFont.Weight.Normal
        return self.themes.theme.font("note", weight)

    def sizeHint(self) -> QSize:
        width = sum(
            QFontMetricsF(self._font(span)).horizontalAdvance(span.text) for span in self._spans
        )
        height = max(_PILL_HEIGHT_PX, round(self.themes.theme.font_px("note") * 2))
        return QSize(round(width) + 2 * (_PILL_SIDE_PX + 1 + FOCUS_WIDTH), height + 2 * FOCUS_WIDTH)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._spans:
            return
        colours = self.themes.theme.colours
        painter = self.begin()
        radius = (self.height() - 2 * FOCUS_WIDTH) / 2
        fill = self.shaded(colours.card, colours.text)
        place = self.paint_ground(painter, radius, fill, colours.line)
        row = place.adjusted(_PILL_SIDE_PX, 0, -_PILL_SIDE_PX + 2, 0)
        for span in self._spans:
            painter.setFont(self._font(span))
            metrics = QFontMetricsF(painter.font())
            painter.setPen(QColor(colours.text if span.strong else colours.dim))
            painter.drawText(
                row,
                Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
                metrics.elidedText(span.text, Qt.TextElideMode.ElideRight, row.width()),
            )
            row.setLeft(min(row.right(), row.left() + metrics.horizontalAdvance(span.text)))


class WindowHeader(QWidget):
    """Title at the left, New chat and the model at the right.

    Signals:
        new_chat_requested(), back_requested(): their buttons were pressed.
        models_requested(): the name of the model was pressed.
    """

    new_chat_requested = Signal()
    back_requested = Signal()
    models_requested = Signal()

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
        self.pill = SpanPill(themes, self)
        self.pill.clicked.connect(self.models_requested)
        self.machine_pill = SpanPill(themes, self)
        # Only to look at.
        self.machine_pill.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.machine_pill.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.machine_pill.hide()
        self.back_button = RoundButton(
            themes,
            "arrow-left",
            "Back to the chat",
            diameter=28,
            icon_px=18,
            kind="bare",
            parent=self,
        )
        self.back_button.clicked.connect(self.back_requested)
        self.back_button.hide()
        self._above_models = False
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
        self._show_parts()

    def show_model(self, name: str, note: str) -> None:
        """Which model answers: `name` stands out, `note` follows it."""
        self.pill.show_spans(Span(name, strong=True), Span(f" · {note}" if note else ""))
        self.pill.setAccessibleName(f"Model: {self.pill.words}")
        self.pill.setToolTip(f"{self.pill.words} answers in this chat. Click to choose another.")
        self._lay_out()

    def show_machine(self, machine: str, budget: str) -> None:
        """What the models have room in: "This Mac: M1, 8 GB", "5.3 GB"; empty while unknown."""
        room = [Span(" · "), Span(budget, strong=True), Span(" for models")] if budget else []
        self.machine_pill.show_spans(Span(machine), *room)
        self.machine_pill.setAccessibleName(self.machine_pill.words)
        self._show_parts()

    def set_above_models(self, above_models: bool) -> None:
        """Whether the models are below this bar, or a chat."""
        self._above_models = above_models
        self._show_parts()

    def _show_parts(self) -> None:
        models = self._above_models
        self.setAccessibleName("Models" if models else self._title or "New chat")
        self.new_chat_button.setVisible(bool(self._title) and not models)
        self.pill.setVisible(not models)
        self.back_button.setVisible(models)
        self.machine_pill.setVisible(models and bool(self.machine_pill.words))
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
        shown = self.machine_pill if self._above_models else self.pill
        pill = shown.sizeHint()
        pill_width = min(pill.width(), free)
        shown.setGeometry(
            right - pill_width, (self.height() - 1 - pill.height()) // 2, pill_width, pill.height()
        )
        right -= pill_width + _GAP_PX
        if not self.new_chat_button.isHidden():
            right = self._put(self.new_chat_button, right) - _GAP_PX
        self._title_left = SIDE_MARGIN
        if self._above_models:
            hint = self.back_button.sizeHint()
            self._put(self.back_button, SIDE_MARGIN - _GAP_PX + hint.width())
            self._title_left = self.back_button.geometry().right() + _GAP_PX
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
        width = self._title_right - self._title_left - 4
        row = QRectF(self._title_left, 0, width, self.height() - 1)
        painter.setFont(font)
        painter.setPen(QColor(theme.colours.text))
        painter.drawText(
            row,
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            QFontMetricsF(font).elidedText(
                "Models" if self._above_models else self._title,
                Qt.TextElideMode.ElideRight,
                max(0.0, row.width()),
            ),
        )
