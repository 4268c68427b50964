"""A label whose type and colour follow the theme."""

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QLabel, QWidget

from app.theme import FontRole
from app.theme_source import ThemeSource


class ThemedLabel(QLabel):
    """Plain text in one role; `tone` is "text", "dim", "warn" or "ok"."""

    def __init__(
        self,
        themes: ThemeSource,
        role: FontRole,
        tone: str = "text",
        *,
        weight: QFont.Weight = QFont.Weight.Normal,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self._role: FontRole = role
        self._weight = weight
        self.setProperty("tone", tone)
        self.setTextFormat(Qt.TextFormat.PlainText)
        themes.changed.connect(self.on_theme_changed)
        self.on_theme_changed()

    @Slot()
    def on_theme_changed(self) -> None:
        """Take over the size of the text."""
        self.setFont(self._themes.theme.font(self._role, self._weight))
