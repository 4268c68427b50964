"""Paragraphs too long for Qt, cut into pieces that only Qt sees.

Qt lays a paragraph out anew at every key, and for one of a million letters without a space that
takes half a minute. Pure text; knows no widget.
"""

import unicodedata

# Takes Qt about 2 ms; hardly anybody writes a paragraph of that length.
LONGEST = 8_000

# Two word joiners, which show as nothing and which nobody writes twice; the piece ends after them.
_MARK = "\u2060\u2060"
_BREAK = f"{_MARK}\n"
# How far back a piece looks for a space to end after.
_REACH = 200
_JOINERS = ("\u200d", "\ufe0e", "\ufe0f")


def in_pieces(text: str, before: int = 0) -> str:
    """`text` with a hidden break in every paragraph that is longer than `LONGEST`.

    `before` is the length of the paragraph that the first line of `text` continues.
    """
    if before + len(text) <= LONGEST:
        return text
    first, *rest = text.split("\n")
    lines = [_BREAK.join(_pieces(first, LONGEST - before))]
    lines += [_BREAK.join(_pieces(line, LONGEST)) for line in rest]
    return "\n".join(lines)


def whole(text: str) -> str:
    """The text again as it was before `in_pieces`."""
    return text.replace(_BREAK, "").replace(_MARK, "")


def _pieces(line: str, room: int) -> list[str]:
    """The line in pieces: the first has `room` characters at most, the others `LONGEST`."""
    if len(line) <= room:
        return [line]
    pieces = []
    start = 0
    if room < _REACH:
        pieces.append("")
        room = LONGEST
    while len(line) - start > room:
        end = _end_of_piece(line, start, start + room)
        pieces.append(line[start:end])
        start, room = end, LONGEST
    pieces.append(line[start:])
    return pieces


def _end_of_piece(line: str, start: int, most: int) -> int:
    """Where to cut: after a space if there is one near, and never inside one visible character."""
    near = max(start, most - _REACH)
    space = line.rfind(" ", near, most)
    if space >= 0:
        return space + 1
    for end in range(most, near, -1):
        joined = line[end] in _JOINERS or line[end - 1] in _JOINERS
        if not joined and not unicodedata.combining(line[end]):
            return end
    return most
