"""Draws Markdown into a text document with the formats of the theme.

Parses with markdown-it (tags are kept as text, never interpreted; pictures are shown as their
words, never loaded). Appends only: what a document already holds is not touched.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token
from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFrameFormat,
    QTextTableCellFormat,
    QTextTableFormat,
)

from app.chat.markdown_blocks import MarkdownBlock
from app.theme import FontRole, Theme

PARAGRAPH_GAP = 8
ITEM_GAP = 4
HEADING_GAP = 18
LIST_INDENT_PX = 22
QUOTE_INDENT_PX = 16
CELL_PADDING_PX = 6

# Marks for `text_marks`, which paints them: on blocks quote depth, rule and list marker, on text
# the chip behind code.
QUOTE_DEPTH = QTextFormat.Property.UserProperty.value + 1
IS_RULE = QTextFormat.Property.UserProperty.value + 2
LIST_MARKER = QTextFormat.Property.UserProperty.value + 3
IS_CODE = QTextFormat.Property.UserProperty.value + 4

# Markers of list items that are tasks, open and done.
TASK_OPEN, TASK_DONE = "☐", "☑"
_TASK = re.compile(r"\[([ xX])\](?:\s|$)")

_HEADING_SCALE = {"h1": 1.4, "h2": 1.2, "h3": 1.07}
_LINE_SEPARATOR = "\u2028"
_parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@dataclass(slots=True)
class _ListLevel:
    """A list that is open: `number` is the next item's, None in a list with bullets."""

    number: int | None
    items: int = 0

    def next_marker(self, depth: int) -> str:
        self.items += 1
        if self.number is None:
            return "•" if depth == 1 else "◦"
        self.number += 1
        return f"{self.number - 1}."


@dataclass(slots=True)
class _Place:
    """How deep in lists and quotes the renderer is, and whether a list item has just begun."""

    lists: list[_ListLevel] = field(default_factory=list)
    quote_depth: int = 0
    opens_item: bool = False


class MarkdownRenderer:
    """Appends blocks of Markdown to one document."""

    def __init__(
        self, document: QTextDocument, theme: Theme, role: FontRole = "transcript"
    ) -> None:
        self._theme = theme
        self._role: FontRole = role
        self._document = document
        self._cursor = QTextCursor(document)
        self._cursor.movePosition(QTextCursor.MoveOperation.End)
        # A new document has an empty block to fill, and so has the place after a table.
        self._block_waits = document.isEmpty()
        self._gap = PARAGRAPH_GAP

    def append(self, block: MarkdownBlock) -> None:
        """Add a block of prose; one that is `joined` continues the list above it."""
        self._gap = ITEM_GAP if block.joined else PARAGRAPH_GAP
        place = _Place()
        self._cursor.beginEditBlock()
        self._blocks(_parser.parse(block.text), place)
        self._cursor.endEditBlock()

    def append_plain(self, text: str, *, follows: bool = False) -> None:
        """Add text as it is, a paragraph a line; the first one may follow on the same line."""
        self._cursor.beginEditBlock()
        for number, line in enumerate(text.split("\n")):
            self._gap = 0
            if number or not follows or self._block_waits:
                self._new_block(_Place())
            self._cursor.insertText(line, QTextCharFormat())
        self._cursor.endEditBlock()

    def _blocks(self, tokens: Sequence[Token], place: _Place) -> None:
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token.type == "table_open":
                end = next(i for i in range(index, len(tokens)) if tokens[i].type == "table_close")
                self._table(tokens[index + 1 : end])
                index = end
            elif token.type == "heading_open":
                self._heading(token.tag, tokens[index + 1], place)
                index += 2
            else:
                self._block(token, place)
            index += 1

    def _block(self, token: Token, place: _Place) -> None:
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                ordered = token.type.startswith("ordered")
                start = int(token.attrGet("start") or 1) if ordered else None
                place.lists.append(_ListLevel(start))
            case "bullet_list_close" | "ordered_list_close":
                place.lists.pop()
                self._gap = PARAGRAPH_GAP
            case "list_item_open":
                place.opens_item = True
                if place.lists[-1].items or len(place.lists) > 1:
                    self._gap = ITEM_GAP
            case "blockquote_open":
                place.quote_depth += 1
            case "blockquote_close":
                place.quote_depth -= 1
            case "inline":
                task = _take_task(token) if place.opens_item else ""
                self._new_block(place, marker=task)
                self._inline(token, place)
            case "fence" | "code_block":
                self._code(token.content.rstrip("\n"), place)
            case "hr":
                self._rule(place)

    def _new_block(
        self, place: _Place, *, line_px: int = 0, ground: str = "", marker: str = ""
    ) -> None:
        form = QTextBlockFormat()
        form.setLineHeight(
            line_px or self._theme.line_px(self._role),
            QTextBlockFormat.LineHeightTypes.FixedHeight.value,
        )
        form.setTopMargin(self._gap)
        self._gap = PARAGRAPH_GAP
        depth = len(place.lists)
        form.setLeftMargin(QUOTE_INDENT_PX * place.quote_depth + LIST_INDENT_PX * depth)
        if place.quote_depth:
            form.setProperty(QUOTE_DEPTH, place.quote_depth)
        if place.opens_item:
            own = place.lists[-1].next_marker(depth)
            form.setProperty(LIST_MARKER, marker or own)
            place.opens_item = False
        if ground:
            form.setBackground(QBrush(QColor(ground)))
        if self._block_waits:
            self._cursor.setBlockFormat(form)
            self._cursor.setBlockCharFormat(QTextCharFormat())
            self._block_waits = False
        else:
            self._cursor.insertBlock(form, QTextCharFormat())

    def _heading(self, tag: str, inline: Token, place: _Place) -> None:
        size = self._theme.font_px(self._role) * _HEADING_SCALE.get(tag, 1.0)
        self._gap = HEADING_GAP
        self._new_block(place, line_px=round(size * 1.4))
        form = QTextCharFormat()
        form.setFontWeight(QFont.Weight.DemiBold)
        form.setProperty(QTextFormat.Property.FontPixelSize, round(size))
        self._inline(inline, place, form)

    def _code(self, code: str, place: _Place) -> None:
        form = self._code_format()
        line_px = round(self._theme.font_px("code") * 1.4)
        for number, line in enumerate(code.split("\n")):
            if number:
                self._gap = 0
            self._new_block(place, line_px=line_px, ground=self._theme.colours.code)
            self._cursor.insertText(line, form)

    def _rule(self, place: _Place) -> None:
        self._new_block(place, line_px=9)
        block = self._cursor.blockFormat()
        block.setProperty(IS_RULE, True)
        self._cursor.setBlockFormat(block)

    def _code_format(self) -> QTextCharFormat:
        form = QTextCharFormat()
        form.setFontFamilies(list(self._theme.fonts.code))
        # The only way for a text format to switch ligatures off.
        form.setFontStyleStrategy(QFont.StyleStrategy.PreferNoShaping)
        form.setProperty(QTextFormat.Property.FontPixelSize, self._theme.font_px("code"))
        return form

    def _inline(self, token: Token, place: _Place, base: QTextCharFormat | None = None) -> None:
        colours = self._theme.colours
        formats = [QTextCharFormat(base) if base is not None else QTextCharFormat()]
        if place.quote_depth:
            formats[0].setForeground(QColor(colours.dim))
        for child in token.children or ():
            form = formats[-1]
            if child.nesting == 1:
                formats.append(self._opened(child, form))
            elif child.nesting == -1:
                formats.pop()
            elif child.type == "code_inline":
                code = QTextCharFormat(form)
                code.merge(self._code_format())
                code.setProperty(IS_CODE, True)
                self._cursor.insertText(child.content, code)
            else:
                self._cursor.insertText(_plain(child), form)

    def _opened(self, token: Token, outer: QTextCharFormat) -> QTextCharFormat:
        form = QTextCharFormat(outer)
        match token.type:
            case "strong_open":
                form.setFontWeight(QFont.Weight.DemiBold)
            case "em_open":
                form.setFontItalic(True)
            case "s_open":
                form.setFontStrikeOut(True)
            case "link_open":
                form.setAnchor(True)
                form.setAnchorHref(str(token.attrGet("href") or ""))
                form.setForeground(QColor(self._theme.colours.accent))
        return form

    def _table(self, tokens: Sequence[Token]) -> None:
        rows, alignments = _table_cells(tokens)
        if self._block_waits:
            self._shrink_block()
        table = self._cursor.insertTable(len(rows), len(alignments), self._table_format())
        for row_number, row in enumerate(rows):
            for column, inline in enumerate(row[: len(alignments)]):
                cell = table.cellAt(row_number, column)
                cell.setFormat(self._cell_format(last=row_number == len(rows) - 1))
                self._cursor = cell.firstCursorPosition()
                block = QTextBlockFormat()
                block.setAlignment(alignments[column])
                self._cursor.setBlockFormat(block)
                form = QTextCharFormat()
                form.setProperty(QTextFormat.Property.FontPixelSize, self._theme.font_px("base"))
                if row_number == 0:
                    form.setFontWeight(QFont.Weight.DemiBold)
                self._inline(inline, _Place(), form)
        self._cursor = QTextCursor(self._document)
        self._cursor.movePosition(QTextCursor.MoveOperation.End)
        self._shrink_block()
        self._block_waits = True

    def _shrink_block(self) -> None:
        """Make the empty block that Qt wants beside a table as good as invisible."""
        form = QTextBlockFormat()
        form.setLineHeight(1, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
        self._cursor.setBlockFormat(form)

    def _table_format(self) -> QTextTableFormat:
        form = QTextTableFormat()
        form.setBorder(0)
        form.setCellSpacing(0)
        form.setCellPadding(0)
        form.setBorderCollapse(True)
        form.setTopMargin(self._gap)
        form.setHeaderRowCount(1)
        return form

    def _cell_format(self, *, last: bool) -> QTextTableCellFormat:
        form = QTextTableCellFormat()
        form.setTopPadding(CELL_PADDING_PX)
        form.setBottomPadding(CELL_PADDING_PX)
        form.setRightPadding(CELL_PADDING_PX * 4)
        if not last:
            form.setBottomBorder(1)
            form.setBottomBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
            form.setBottomBorderBrush(QBrush(QColor(self._theme.colours.line)))
        return form


def _table_cells(
    tokens: Sequence[Token],
) -> tuple[list[list[Token]], list[Qt.AlignmentFlag]]:
    """The inline tokens of a table row by row, the head first, and how each column is aligned."""
    sides = {
        "text-align:right": Qt.AlignmentFlag.AlignRight,
        "text-align:center": Qt.AlignmentFlag.AlignHCenter,
    }
    rows: list[list[Token]] = []
    alignments: list[Qt.AlignmentFlag] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token)
        elif token.type == "th_open":
            style = str(token.attrGet("style") or "")
            alignments.append(sides.get(style, Qt.AlignmentFlag.AlignLeft))
    return rows, alignments


def _take_task(inline: Token) -> str:
    """The marker of a list item that is a task, whose brackets are taken out of the text; or ""."""
    first = inline.children[0] if inline.children else None
    match = _TASK.match(first.content) if first is not None and first.type == "text" else None
    if first is None or match is None:
        return ""
    first.content = first.content[match.end() :]
    return TASK_OPEN if match[1] == " " else TASK_DONE


def _plain(token: Token) -> str:
    """The words of an inline token that has no inside."""
    if token.type == "softbreak":
        return " "
    if token.type == "hardbreak":
        return _LINE_SEPARATOR
    return token.content
