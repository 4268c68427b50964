"""Which theme is in force: follows the system or the person's choice, and tells the widgets.

Everything here runs in the GUI thread.
"""

import sys
from dataclasses import replace
from typing import Literal

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import QApplication

from app.resources import FONTS_DIR
from app.theme import DARK, LIGHT, Fonts, Theme
from app.theme_style import palette

AppearanceChoice = Literal["system", "light", "dark"]

_TEXT_SCALES = (0.85, 0.92, 1.0, 1.1, 1.25, 1.5)


def load_fonts() -> Fonts:
    """The families to use: the system's own on macOS, the bundled ones elsewhere.

    Needs a QApplication. Raises FileNotFoundError if a bundled font is missing or broken.
    """
    if sys.platform == "darwin":
        general = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).families()
        return Fonts(text=tuple(general), code=("SF Mono", "Menlo"))
    for path in sorted(FONTS_DIR.glob("*.ttf")):
        if QFontDatabase.addApplicationFont(str(path)) < 0:
            raise FileNotFoundError(path)
    return Fonts(text=("Inter",), code=("JetBrains Mono", "DejaVu Sans Mono"))


class ThemeSource(QObject):
    """Holds the current theme and applies its palette to the application.

    Signals:
        changed(): colours or text size are different now; `theme` has the new values.
        settled(): every widget has taken them over: the time to lay out again.
    """

    changed = Signal()
    settled = Signal()

    def __init__(self, parent: QObject | None = None, fonts: Fonts | None = None) -> None:
        super().__init__(parent)
        self._choice: AppearanceChoice = "system"
        self.theme = Theme(fonts=fonts or load_fonts())
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self.on_system_scheme_changed)
        self._apply()

    @property
    def choice(self) -> AppearanceChoice:
        """What the person chose; "system" follows the desktop."""
        return self._choice

    def set_choice(self, choice: AppearanceChoice) -> None:
        """Follow the system, or stay light or dark."""
        self._choice = choice
        schemes = {
            "system": Qt.ColorScheme.Unknown,
            "light": Qt.ColorScheme.Light,
            "dark": Qt.ColorScheme.Dark,
        }
        # Native menus and dialogs follow too; the offscreen platform ignores it.
        QGuiApplication.styleHints().setColorScheme(schemes[choice])
        self._apply()

    def step_text_size(self, steps: int) -> None:
        """Larger (1) or smaller (-1) text; 0 goes back to the usual size."""
        if steps == 0:
            scale = 1.0
        else:
            index = _TEXT_SCALES.index(self.theme.text_scale) + steps
            scale = _TEXT_SCALES[max(0, min(index, len(_TEXT_SCALES) - 1))]
        self.theme = replace(self.theme, text_scale=scale)
        self._apply()

    @Slot()
    def on_system_scheme_changed(self) -> None:
        """The desktop went light or dark."""
        if self._choice == "system":
            self._apply()

    def _apply(self) -> None:
        dark = self._choice == "dark" or (
            self._choice == "system"
            and QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark
        )
        self.theme = replace(self.theme, colours=DARK if dark else LIGHT)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.setPalette(palette(self.theme))
            application.setFont(self.theme.font("base"))
        self.changed.emit()
        self.settled.emit()
