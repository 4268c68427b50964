"""The field a question is typed into: grows with its text, sends on Enter, takes pasted files.

Knows keys and the clipboard; what happens to a draft is decided elsewhere.
"""

from pathlib import Path

from PySide6.QtCore import QMimeData, Qt, Signal, Slot
from PySide6.QtGui import QImage, QInputMethodEvent, QKeyEvent, QTextOption
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QWidget

from app.chat.long_paragraphs import in_pieces, whole
from app.theme_source import ThemeSource

_MOST_LINES = 9
_PAGE_KEYS = (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
_SHIFTED = Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.AltModifier


def local_files(data: QMimeData) -> list[Path]:
    """The files on this computer that were dropped or pasted, in order."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


class DraftEdit(QPlainTextEdit):
    """Plain text with Enter to send and Shift+Enter for a new line.

    Very long paragraphs are kept in pieces inside; nobody who reads or writes the text sees them.

    Signals:
        send_pressed(): Enter, and no input method is in the middle of a word.
        files_offered(object): list of Path that were pasted.
        image_pasted(object): a QImage from the clipboard.
    """

    send_pressed = Signal()
    files_offered = Signal(object)
    image_pasted = Signal(object)

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._composing = False
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        # Drops belong to the whole window.
        self.setAcceptDrops(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setAccessibleName("Question")
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)
        themes.changed.connect(self.on_theme_changed)
        self.on_theme_changed()

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing but spaces; cheap, however long the text is."""
        block = self.document().begin()
        while block.isValid():
            if whole(block.text()).strip():
                return False
            block = block.next()
        return True

    def height_for(self, width: int) -> int:
        """The height that shows the text at this width, up to nine lines."""
        line_px = self.fontMetrics().lineSpacing()
        if self.width() != width:
            self.resize(width, self.height())
        lines = max(1, min(_MOST_LINES, round(self.document().size().height())))
        needed = self.document().size().height() > _MOST_LINES
        always, never = Qt.ScrollBarPolicy.ScrollBarAsNeeded, Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(always if needed else never)
        return lines * line_px + 4

    @Slot()
    def on_theme_changed(self) -> None:
        """Take over the size of the text."""
        self.setFont(self._themes.theme.font("transcript"))

    def toPlainText(self) -> str:
        return whole(super().toPlainText())

    def setPlainText(self, text: str) -> None:
        super().setPlainText(in_pieces(text))

    def insertPlainText(self, text: str) -> None:
        super().insertPlainText(in_pieces(text, before=self.textCursor().positionInBlock()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self._composing:
                return  # it ends the word; a new line inside the word would tear it apart
            if event.modifiers() & _SHIFTED:
                self.insertPlainText("\n")
                self.ensureCursorVisible()
            else:
                self.send_pressed.emit()
            return
        if event.key() in _PAGE_KEYS and not self.verticalScrollBar().maximum():
            event.ignore()  # the window scrolls the conversation instead
            return
        super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:
        self._composing = bool(event.preeditString())
        super().inputMethodEvent(event)

    def createMimeDataFromSelection(self) -> QMimeData:
        data = super().createMimeDataFromSelection()
        text = whole(data.text())
        data.clear()
        data.setText(text)
        return data

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        return source.hasImage() or bool(local_files(source)) or source.hasText()

    def insertFromMimeData(self, source: QMimeData) -> None:
        # A file copied in a file manager comes with an icon as its image; the file is meant.
        files = local_files(source)
        if files:
            self.files_offered.emit(files)
            return
        if source.hasImage():
            image = source.imageData()
            if isinstance(image, QImage) and not image.isNull():
                self.image_pasted.emit(image)
            return
        self.insertPlainText(source.text())
        self.ensureCursorVisible()
