"""Splits a reply into thinking and answer while it streams; knows ids and text, no tokenizer.

Only the ids of `<think>` and `</think>` count as marks: the same letters written with ordinary
tokens (somebody quoting them) are text like any other.
"""

from collections.abc import Sequence

from mlx_model.events import TextDelta, ThinkingDelta
from mlx_model.stopping import StopStrings


class ReplyParser:
    """State machine over one reply; blank lines around the thinking and the answer are dropped.

    Whitespace is held back until something visible follows it, and in the answer whatever could
    become a stop string, so that what has been handed out never has to be taken back.
    """

    def __init__(
        self, thinking: bool, think_ids: tuple[int, int], stop: Sequence[str] = ()
    ) -> None:
        """`thinking`: the prompt already ends in `<think>`; `think_ids`: its id and the closing."""
        self._open_id, self._close_id = think_ids
        self._thinking = thinking
        self._stops = StopStrings(stop)
        self._begun = False  # something visible of the current part has come
        self._blank = ""  # whitespace not handed out: before the part, or after what was
        self._handed_out = False  # something of the current part

    @property
    def thinking(self) -> bool:
        """Whether the reply is still inside its thinking."""
        return self._thinking

    @property
    def thought(self) -> bool:
        """Whether the reply is inside a thinking of which something has been handed out."""
        return self._thinking and self._handed_out

    @property
    def answered(self) -> bool:
        """Whether any of the answer has been handed out."""
        return self._handed_out and not self._thinking

    @property
    def stopped(self) -> bool:
        """Whether the answer has come to a stop string, which ends the reply."""
        return self._stops.found

    def feed(self, token_id: int, text: str) -> ThinkingDelta | TextDelta | None:
        """Take the next token and the text it completed; returns what can be shown now."""
        if self._is_mark(token_id):
            self._thinking = token_id == self._open_id
            self._begun = self._handed_out = False
            self._blank = ""
            return None
        if not self._begun:
            text, self._blank = self._blank + text, ""
            if not text.strip():
                self._blank = text
                return None
            self._begun = True
        return self._visible(text if self._thinking else self._stops.feed(text))

    def finish(self) -> TextDelta | ThinkingDelta | None:
        """The reply is over: what was held back because it could have become a stop string."""
        return self._visible(self._stops.finish())

    def _is_mark(self, token_id: int) -> bool:
        """Whether this id changes the state; one where it means nothing is shown as its text.

        `</think>` closes the thinking; `<think>` opens it, but only before the answer has begun.
        Repeating either before anything visible is dropped.
        """
        if token_id == self._close_id:
            return self._thinking or not self._begun
        return token_id == self._open_id and not self._begun

    def _visible(self, text: str) -> ThinkingDelta | TextDelta | None:
        """Keep white space at the end back, and drop blank lines at the beginning of the part."""
        text = self._blank + text
        visible = text.rstrip()
        self._blank = text[len(visible) :]
        if not visible:
            return None
        if not self._handed_out:
            visible = _without_blank_lines_before(visible)
            self._handed_out = True
        if self._thinking:
            return ThinkingDelta(visible)
        return TextDelta(visible)


def _without_blank_lines_before(text: str) -> str:
    """`text` from its first line that is not blank; the indentation of that line stays."""
    indent = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, indent) + 1 :]
