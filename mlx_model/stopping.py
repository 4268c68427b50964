"""Finds stop strings in a text that comes in pieces; knows no token, no thinking and no engine.

What is found does not depend on where the pieces begin and end: the text ends before the stop
string that is complete first, or the longest of those that are complete together.
"""

from collections.abc import Sequence


class StopStrings:
    """Hands a text through up to a stop string, and holds back what could become one.

    Attributes:
        found: a stop string is complete; the text is over.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` may be empty; none of them is."""
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._ahead: int | None = None  # of what is held, the white space ahead of the text
        self.found = False

    def feed(self, piece: str) -> str:
        """The text that can be shown now that `piece` has come.

        The first piece brings something visible, perhaps after white space: that ahead of the text
        may begin a stop string but be none.
        """
        text = self._held + piece
        if self._ahead is None:
            self._ahead = len(text) - len(text.lstrip())
        found = [
            (start + len(stop), start)
            for stop in self._stops
            if (start := text.find(stop, 0 if stop.strip() else self._ahead)) >= 0
        ]
        if found:
            self.found = True
            self._held = ""
            return text[: min(found)[1]]
        shown = len(text) - self._beginning_at_the_end_of(text)
        self._held = text[shown:]
        self._ahead = max(0, self._ahead - shown)
        return text[:shown]

    def finish(self) -> str:
        """What is still held back: the text has ended, so it becomes no stop string any more."""
        held, self._held = self._held, ""
        return held

    def _beginning_at_the_end_of(self, text: str) -> int:
        """How many of the last characters of `text` could be the beginning of a stop string."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
