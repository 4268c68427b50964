"""Splits a reply into thinking and answer while it streams; knows ids and text, no tokenizer.

Only the ids of `<think>` and `</think>` count as marks: the same letters written with ordinary
tokens (somebody quoting them) are text like any other.
"""

from mlx_model.events import TextDelta, ThinkingDelta


class ReplyParser:
    """State machine over one reply; blank lines around the thinking and the answer are dropped.

    Whitespace is held back until something visible follows it, so that what has been handed out
    never has to be taken back.
    """

    def __init__(self, thinking: bool, think_ids: tuple[int, int]) -> None:
        """`thinking`: the prompt already ends in `<think>`; `think_ids`: its id and the closing."""
        self._open_id, self._close_id = think_ids
        self._thinking = thinking
        self._blank = ""  # whitespace seen and not yet handed out
        self._started = False  # something visible of the current part has been handed out
        self._answered = False

    @property
    def thinking(self) -> bool:
        """Whether the reply is still inside its thinking."""
        return self._thinking

    @property
    def answered(self) -> bool:
        """Whether any of the answer has been handed out."""
        return self._answered

    def feed(self, token_id: int, text: str) -> ThinkingDelta | TextDelta | None:
        """Take the next token and the text it completed; returns what can be shown now."""
        if self._is_mark(token_id):
            self._thinking = token_id == self._open_id
            self._blank = ""
            self._started = False
            return None
        text = self._blank + text
        visible = text.rstrip()
        if not visible:
            self._blank = text
            return None
        self._blank = text[len(visible) :]
        if not self._started:
            visible = _without_blank_lines_before(visible)
            self._started = True
        if self._thinking:
            return ThinkingDelta(visible)
        self._answered = True
        return TextDelta(visible)

    def _is_mark(self, token_id: int) -> bool:
        """Whether this id changes the state; one where it means nothing is shown as its text.

        `</think>` closes the thinking; `<think>` opens it, but only before the answer has begun.
        Repeating either before anything visible is dropped.
        """
        if token_id == self._close_id:
            return self._thinking or not self._answered
        return token_id == self._open_id and not self._started and not self._answered


def _without_blank_lines_before(text: str) -> str:
    """`text` from its first line that is not blank; the indentation of that line stays."""
    indent = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, indent) + 1 :]
