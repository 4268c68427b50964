"""Renders the window in all its states to build/screenshots/, to be looked at.

    python -m tools.screenshots [NAME]...        the states, light and dark, wide and narrow

Uses no engine: every state is put together by hand. QT_SCALE_FACTOR=2 gives the sharp versions.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QApplication

from app.main_window import MainWindow
from app.theme import MINIMUM_SIZE
from app.theme_source import AppearanceChoice, ThemeSource
from tools.screenshots.states import STATES

OUTPUT_DIR = Path("build/screenshots")
SIZES = {"wide": (1180, 800), "narrow": (MINIMUM_SIZE[0], 800)}
CHOICES: tuple[AppearanceChoice, ...] = ("light", "dark")


def render(application: QApplication, themes: ThemeSource, name: str, size_name: str) -> Path:
    """Put one state on a fresh window and save what it looks like."""
    window = MainWindow(themes)
    window.resize(*SIZES[size_name])
    window.set_model_label("Demo model", "coloured shapes only")
    window.show()
    # Not over any button.
    QCursor.setPos(window.mapToGlobal(window.rect().bottomLeft()))
    application.processEvents()
    STATES[name](window)
    for _ in range(3):
        application.processEvents()
    path = OUTPUT_DIR / f"{name}-{size_name}-{themes.choice}.png"
    window.grab().save(str(path))
    window.close()
    window.deleteLater()
    return path


def main(names: list[str]) -> int:
    """Render the named states, or all of them."""
    application = QApplication(sys.argv[:1])
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    themes = ThemeSource()
    for choice in CHOICES:
        themes.set_choice(choice)
        for name in names or STATES:
            for size_name in SIZES:
                print(render(application, themes, name, size_name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
