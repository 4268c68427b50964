"""What a very long prompt costs the window: pasting it, the next key, and showing it as a question.

python -m tools.bench.long_draft [--characters 200000]

The baseline of each row is Qt's own field and text, which get the same text in one piece. Its time
grows with the square of a paragraph without spaces: a million characters take it half a minute.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QMimeData, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QTextBrowser, QWidget

from app.conversation.message import ChatMessage
from app.main_window import MainWindow
from app.theme_source import ThemeSource

_WIDTH_PX, _HEIGHT_PX = 720, 400


def took_ms(act: Callable[[], object]) -> float:
    """How long something takes, painting included."""
    began = time.perf_counter()
    act()
    QApplication.processEvents()
    return (time.perf_counter() - began) * 1000


def shown(widget: QWidget) -> None:
    """Put a widget on the screen as large as the conversation's column."""
    widget.resize(_WIDTH_PX, _HEIGHT_PX)
    widget.show()
    QApplication.processEvents()


def plain_qt(text: str) -> tuple[float, float, float]:
    """Milliseconds for pasting, a key, and showing, with Qt's own widgets."""
    field, page = QPlainTextEdit(), QTextBrowser()
    for widget in (field, page):
        shown(widget)
    paste = took_ms(lambda: field.insertPlainText(text))
    key = took_ms(lambda: QTest.keyClick(field, Qt.Key.Key_A))
    show = took_ms(lambda: (page.setPlainText(text), page.document().size()))
    field.close()
    page.close()
    return paste, key, show


def fireside(text: str, themes: ThemeSource) -> tuple[float, float, float]:
    """The same with the composer and the transcript of the window."""
    window = MainWindow(themes)
    window.show()
    QApplication.processEvents()
    data = QMimeData()
    data.setText(text)
    draft = window.composer.draft
    paste = took_ms(lambda: draft.insertFromMimeData(data))
    key = took_ms(lambda: QTest.keyClick(draft, Qt.Key.Key_A))
    show = took_ms(lambda: window.add_user_message(ChatMessage("user", text), {}))
    window.close()
    window.deleteLater()
    return paste, key, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="long_draft", description=__doc__.splitlines()[0])
    parser.add_argument("--characters", type=int, default=200_000)
    count = parser.parse_args().characters
    application = QApplication(sys.argv[:1])
    themes = ThemeSource()
    themes.set_choice("light")
    kinds = {
        "lines": "a line of forty characters, more or less\n" * (count // 41),
        "one paragraph": "word " * (count // 5),
        "no space at all": "x" * count,
    }
    print(f"{count:,} characters, in ms         paste      a key    as a question")
    for kind, text in kinds.items():
        for name, times in (("plain Qt", plain_qt(text)), ("Fireside", fireside(text, themes))):
            print(f"{kind:16} {name:10}" + "".join(f"{value:13,.0f}" for value in times))
    application.processEvents()
    return 0


if __name__ == "__main__":
    sys.exit(main())
