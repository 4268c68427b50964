"""What a person's hand does at the window: drops files, types, presses Send.

Goes through the window's own events and widgets, so that what works here works by hand.
"""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication

from app.main_window import MainWindow


def drop_files(window: MainWindow, paths: Sequence[Path]) -> bool:
    """Drag files onto the middle of the window and let go; False when it refused them."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    middle = QPoint(window.width() // 2, window.height() // 2)
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(middle, Qt.DropAction.CopyAction, mime, buttons, keys)
    QApplication.sendEvent(window, enter)
    if not enter.isAccepted():
        return False
    drop = QDropEvent(QPointF(middle), Qt.DropAction.CopyAction, mime, buttons, keys)
    QApplication.sendEvent(window, drop)
    return drop.isAccepted()


def ask(window: MainWindow, text: str) -> None:
    """Put `text` into the composer and press Send."""
    window.set_draft(text)
    window.composer.send_button.click()
