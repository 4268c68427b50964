"""A piece of text on the page: selectable, without scroll bars of its own, as tall as it needs.

Knows how to lay itself out for a width. Loads nothing from anywhere; links open in the browser.
"""

import math
from typing import Any

from PySide6.QtCore import QByteArray, QMimeData, QRectF, Qt, QUrl, Slot
from PySide6.QtGui import (
    QColor,
    QDesktopServices,
    QPainter,
    QPaintEvent,
    QPalette,
    QTextOption,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QTextBrowser, QWidget

from app.chat.long_paragraphs import in_pieces, whole
from app.chat.markdown_blocks import MarkdownBlock
from app.chat.markdown_render import MarkdownRenderer
from app.chat.text_marks import paint_marks
from app.theme import FontRole
from app.theme_source import ThemeSource

_LINK_SCHEMES = ("http", "https", "mailto")


class TextBlock(QTextBrowser):
    """Prose drawn from Markdown blocks or plain text.

    Blocks are kept, so that a change of theme can draw them again.
    """

    def __init__(
        self,
        themes: ThemeSource,
        role: FontRole = "transcript",
        parent: QWidget | None = None,
        *,
        dim: bool = False,
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self._role: FontRole = role
        self._dim = dim
        self._blocks: list[MarkdownBlock] = []
        self._plain: str | None = None
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setAcceptDrops(False)
        self.setUndoRedoEnabled(False)
        self.setOpenLinks(False)
        # A width of our own: by default the text takes over the viewport's, which lags behind.
        self.setLineWrapMode(QTextBrowser.LineWrapMode.FixedPixelWidth)
        self.viewport().setAutoFillBackground(False)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.document().setDocumentMargin(0)
        self.anchorClicked.connect(self.on_link_clicked)
        themes.changed.connect(self.on_theme_changed)
        self._restart()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self._blocks and not self._plain

    @property
    def leading_gap(self) -> int:
        """The room above the first line, which a document leaves out at its top."""
        return round(self.document().begin().blockFormat().topMargin())

    def add_block(self, block: MarkdownBlock) -> None:
        """Draw one more block below the others, which stay as they are."""
        self._blocks.append(block)
        self._renderer.append(block)

    def show_block(self, block: MarkdownBlock | None) -> None:
        """Replace everything by one block, or by nothing."""
        blocks = [] if block is None else [block]
        if blocks == self._blocks:
            return
        self._blocks = blocks
        self._redraw()

    def show_plain(self, text: str) -> None:
        """Replace everything by text without any markup."""
        self._plain = in_pieces(text)
        self._redraw()

    def append_plain(self, text: str) -> None:
        """Add text without any markup to what is there."""
        self._plain = (self._plain or "") + text
        self._renderer.append_plain(text, follows=True)

    def height_for(self, width: int) -> int:
        """Lay out for a width; the height that shows everything."""
        if self.lineWrapColumnOrWidth() != width:
            self.setLineWrapColumnOrWidth(width)
        return round(self.document().size().height())

    def natural_width(self, most: int) -> int:
        """The width of the longest line in px, when no line may be wider than `most`."""
        self.height_for(most)
        return min(most, math.ceil(self.document().idealWidth()))

    @Slot()
    def on_theme_changed(self) -> None:
        """Draw again in the new colours and sizes."""
        self._redraw()

    @Slot(QUrl)
    def on_link_clicked(self, address: QUrl) -> None:
        """Open a link outside the program."""
        if address.scheme() in _LINK_SCHEMES:
            QDesktopServices.openUrl(address)

    def _restart(self) -> None:
        self.document().clear()
        self.document().setDefaultFont(self._themes.theme.font(self._role))
        self._renderer = MarkdownRenderer(self.document(), self._themes.theme, self._role)
        if self._dim:
            colours = self._themes.theme.colours
            colours_now = self.palette()
            colours_now.setColor(QPalette.ColorRole.Text, QColor(colours.dim))
            self.setPalette(colours_now)

    def _redraw(self) -> None:
        self._restart()
        if self._plain is not None:
            self._renderer.append_plain(self._plain)
        for block in self._blocks:
            self._renderer.append(block)

    def createMimeDataFromSelection(self) -> QMimeData:
        # Plain text only: pasted elsewhere, our colours would come along. The object is Qt's own,
        # because one made by Python crashes the program if it is on the clipboard at the end.
        data = super().createMimeDataFromSelection()
        text = whole(data.text())
        data.clear()
        data.setText(text)
        return data

    def loadResource(self, kind: int, name: QUrl | str) -> Any:
        # Never read a file because an answer names it. After None Qt would look for one itself.
        return QByteArray()

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        paint_marks(painter, self.document(), self._themes.theme, QRectF(event.rect()))
        painter.end()
        super().paintEvent(event)
