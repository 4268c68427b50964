"""Cuts a growing Markdown text into blocks, so that finished ones never have to be drawn again.

Pure text work: knows no widget. Every complete line is looked at once, whatever the length of the
text. Inline rules are the renderer's business.
"""

import re
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["text", "code"]

# A list longer than this is cut between two of its items, so that its tail stays cheap.
LONG_LIST_CHARS = 1200

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^`]*)$")
_LIST_ITEM = re.compile(r"^( {0,3})([-*+]|\d{1,9}[.)])( |\t|$)")
_HALF_FENCE = re.compile(r"^ {0,3}(`{1,2}|~{1,2}|`{3,}[^`]*|~{3,}.*)$")
_HALF_MARKER = re.compile(r"^\s*([-=*+#>|_~]+|\d{1,9}[.)]?)\s*$")
_HALF_TASK = re.compile(r"^\s*([-*+]|\d{1,9}[.)])\s+\[([ xX]?\]?)$")


@dataclass(frozen=True, slots=True)
class MarkdownBlock:
    """A run of Markdown that is drawn as one: prose, lists and tables, or one fenced block.

    `text` is Markdown source for "text", the bare code for "code". `joined` marks the continuation
    of a list that was cut, which needs no gap above it.
    """

    kind: BlockKind
    text: str
    language: str = ""
    joined: bool = False


@dataclass(slots=True)
class _Fence:
    mark: str
    length: int
    indent: int
    language: str

    def closed_by(self, line: str) -> bool:
        bare = line.strip()
        return len(bare) >= self.length and not bare.strip(self.mark)


class MarkdownSplitter:
    """Takes text as it arrives; gives back blocks that are finished and the tail that is not."""

    def __init__(self) -> None:
        self._partial = ""
        self._lines: list[str] = []
        self._blank_lines = 0
        self._length = 0
        self._fence: _Fence | None = None
        self._inner_fence: _Fence | None = None
        self._in_list = False
        self._joined = False
        self._done: list[MarkdownBlock] = []

    def feed(self, text: str) -> list[MarkdownBlock]:
        """Take more text; the blocks that it finished, in order."""
        pieces = (self._partial + text).split("\n")
        self._partial = pieces.pop()
        for line in pieces:
            self._take_line(line.removesuffix("\r"))
        return self._drain()

    def finish(self) -> list[MarkdownBlock]:
        """No more text will come: the rest of the blocks. The splitter starts afresh."""
        if self._partial:
            self._take_line(self._partial.removesuffix("\r"))
            self._partial = ""
        self._end_block()
        return self._drain()

    @property
    def tail(self) -> MarkdownBlock | None:
        """The block in progress as it may be shown now, or None.

        A last line that may yet become a fence, a marker or an underline is held back, and emphasis
        that is still open is closed, so that marks do not flash by.
        """
        if self._fence is not None:
            shown = list(self._lines)
            partial = self._partial
            if partial and not self._fence.closed_by(partial + self._fence.mark * 2):
                shown.append(_dedented(partial, self._fence.indent))
            return MarkdownBlock("code", "\n".join(shown), self._fence.language)
        text = "\n".join([*self._lines, *[""] * (self._blank_lines if self._partial else 0)])
        inside = self._inner_fence is not None
        if self._partial and (inside or not _is_half_written(self._partial)):
            partial = self._partial if inside else _closed_emphasis(self._partial)
            text = f"{text}\n{partial}" if self._lines else partial
        if not text.strip():
            return None
        return MarkdownBlock("text", text, joined=self._joined)

    def _take_line(self, line: str) -> None:
        if self._fence is not None:
            if self._fence.closed_by(line):
                self._end_block()
            else:
                self._lines.append(_dedented(line, self._fence.indent))
            return
        if self._inner_fence is not None:
            if self._inner_fence.closed_by(line):
                self._inner_fence = None
            self._add_line(line)
            return
        if not line.strip():
            self._take_blank_line()
            return
        indent = len(line) - len(line.lstrip(" "))
        item = _LIST_ITEM.match(line)
        if self._in_list and self._blank_lines and not item and indent < 2:
            self._end_block()
        fence = _FENCE.match(line)
        if fence:
            self._open_fence(fence)
            if self._fence is not None:
                return
        elif item:
            self._take_item(indent)
        self._add_line(line)

    def _take_blank_line(self) -> None:
        if self._in_list:
            self._blank_lines += 1
        elif self._lines:
            self._end_block()

    def _take_item(self, indent: int) -> None:
        if self._in_list and indent < 2 and self._length > LONG_LIST_CHARS:
            self._end_block()
            self._joined = True
        self._in_list = True

    def _open_fence(self, match: re.Match[str]) -> None:
        indent, marks, info = len(match[1]), match[2], match[3].strip()
        words = info.split()
        fence = _Fence(marks[0], len(marks), indent, words[0].lower() if words else "")
        if self._in_list and indent >= 2:
            self._inner_fence = fence
        elif indent < 4:
            self._end_block()
            self._fence = fence

    def _add_line(self, line: str) -> None:
        self._lines.extend([""] * self._blank_lines)
        self._blank_lines = 0
        self._lines.append(line)
        self._length += len(line) + 1

    def _end_block(self) -> None:
        if self._fence is not None:
            block = MarkdownBlock("code", "\n".join(self._lines), self._fence.language)
            self._done.append(block)
        elif self._lines:
            self._done.append(MarkdownBlock("text", "\n".join(self._lines), joined=self._joined))
        self._lines = []
        self._blank_lines = 0
        self._length = 0
        self._fence = self._inner_fence = None
        self._in_list = self._joined = False

    def _drain(self) -> list[MarkdownBlock]:
        done, self._done = self._done, []
        return done


def _dedented(line: str, indent: int) -> str:
    lead = len(line) - len(line.lstrip(" "))
    return line[min(lead, indent) :]


def _is_half_written(line: str) -> bool:
    return any(half.match(line) for half in (_HALF_FENCE, _HALF_MARKER, _HALF_TASK))


def _closed_emphasis(line: str) -> str:
    for mark in ("`", "**"):
        if line.count(mark) % 2:
            return line.removesuffix(mark) if line.endswith(mark) else line + mark
    return line
