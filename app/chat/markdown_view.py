"""An answer's text while it streams and after: finished blocks stay, only the last one is redrawn.

Prose between two pieces of code is one text widget, so that it can be selected as a whole.
"""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QWidget

from app.chat.code_block import CodeBlock
from app.chat.markdown_blocks import MarkdownBlock, MarkdownSplitter
from app.chat.text_block import TextBlock
from app.theme_source import ThemeSource

_CODE_GAP_PX = 12


class MarkdownView(QWidget):
    """Draws Markdown that grows.

    `frozen_count` blocks have been drawn for good; `tail_redraws` counts how often the last one was
    drawn before it was finished.
    """

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._splitter = MarkdownSplitter()
        self._parts: list[TextBlock | CodeBlock] = []
        self._tail_text = self._new_text()
        self._tail_text.hide()
        self._tail_code: CodeBlock | None = None
        self._source: list[str] = []
        self._heights: dict[TextBlock | CodeBlock, int] = {}
        self._width = 0
        self.frozen_count = 0
        self.tail_redraws = 0
        themes.changed.connect(self.on_theme_changed)

    @property
    def source(self) -> str:
        """The Markdown so far."""
        return "".join(self._source)

    @property
    def tail_text(self) -> TextBlock:
        """Where prose in progress is drawn, again at every `append`."""
        return self._tail_text

    @property
    def is_empty(self) -> bool:
        """Whether no text has come yet."""
        return not self._source

    def append(self, text: str) -> None:
        """Take more Markdown; call `height_for` afterwards."""
        self._source.append(text)
        for block in self._splitter.feed(text):
            self._freeze(block)
        self._show_tail(self._splitter.tail)

    def finish(self) -> None:
        """No more text will come: the last block is drawn for good."""
        for block in self._splitter.finish():
            self._freeze(block)
        self._show_tail(None)

    def replace(self, text: str) -> None:
        """Show this finished text instead of what was there."""
        for part in self._parts:
            part.hide()
            part.deleteLater()
        if self._tail_code is not None and self._tail_code not in self._parts:
            self._tail_code.deleteLater()
        self._parts, self._tail_code, self._source = [], None, []
        self._heights.clear()
        self._splitter = MarkdownSplitter()
        self.append(text)
        self.finish()

    def height_for(self, width: int) -> int:
        """Place every part for this width; the height of all of them."""
        if width != self._width:
            self._width = width
            self._heights.clear()
        top = 0
        parts: list[TextBlock | CodeBlock] = list(self._parts)
        if not self._tail_text.is_empty:
            parts.append(self._tail_text)
        for number, part in enumerate(parts):
            height = self._heights.get(part)
            if height is None:
                height = self._heights[part] = part.height_for(width)
            if number:
                top += _gap(parts[number - 1], part)
            part.setGeometry(0, top, width, height)
            top += height
        return top

    @Slot()
    def on_theme_changed(self) -> None:
        """Sizes of text may have changed."""
        self._heights.clear()

    def _freeze(self, block: MarkdownBlock) -> None:
        self.frozen_count += 1
        if block.kind == "code":
            code = self._tail_code or self._new_code(block.language)
            code.show_code(block.text, finished=True)
            self._heights.pop(code, None)
            self._tail_code = None
            return
        if not self._parts or isinstance(self._parts[-1], CodeBlock):
            text = self._new_text()
            text.show()
            self._parts.append(text)
        last = self._parts[-1]
        assert isinstance(last, TextBlock)
        last.add_block(block)
        self._heights.pop(last, None)

    def _show_tail(self, tail: MarkdownBlock | None) -> None:
        self.tail_redraws += tail is not None
        if tail is not None and tail.kind == "code":
            if self._tail_code is None:
                self._tail_code = self._new_code(tail.language)
            self._tail_code.show_code(tail.text, finished=False)
            self._heights.pop(self._tail_code, None)
            tail = None
        self._tail_text.show_block(tail)
        self._heights.pop(self._tail_text, None)
        self._tail_text.setVisible(tail is not None)

    def _new_text(self) -> TextBlock:
        text = TextBlock(self._themes, parent=self)
        text.setAccessibleName("Answer")
        return text

    def _new_code(self, language: str) -> CodeBlock:
        code = CodeBlock(self._themes, language, parent=self)
        code.show()
        self._parts.append(code)
        return code


def _gap(above: TextBlock | CodeBlock, below: TextBlock | CodeBlock) -> int:
    if isinstance(above, CodeBlock) or isinstance(below, CodeBlock):
        return _CODE_GAP_PX
    return below.leading_gap
