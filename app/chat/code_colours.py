"""Which parts of a piece of code get which colour.

Wraps pygments; knows languages and colours, no widget.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String
from pygments.util import ClassNotFound

from app.theme import CodeColours


@dataclass(frozen=True, slots=True)
class ColouredSpan:
    """`length` characters from `start` (both in characters of the whole code) in one colour."""

    start: int
    length: int
    colour: str


def coloured_spans(code: str, language: str, colours: CodeColours) -> list[ColouredSpan]:
    """The coloured parts of `code`; none for an unknown language."""
    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
    except ClassNotFound:
        return []
    return list(_spans(lexer.get_tokens_unprocessed(code), colours))


def _spans(
    tokens: Iterator[tuple[int, object, str]], colours: CodeColours
) -> Iterator[ColouredSpan]:
    named = (Name.Function, Name.Class, Name.Builtin, Name.Tag, Name.Decorator)
    groups = (
        ((Keyword, Operator.Word), colours.keyword),
        ((String,), colours.string),
        ((Number,), colours.number),
        ((Comment,), colours.comment),
        (named, colours.name),
    )
    for start, kind, text in tokens:
        for kinds, colour in groups:
            if any(kind in group for group in kinds):
                yield ColouredSpan(start, len(text), colour)
                break
