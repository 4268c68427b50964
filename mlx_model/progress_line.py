"""One line on a terminal that says how far the work has come, and goes away again."""

from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """Draws on `stream` if it is a terminal, else nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._draws = stream.isatty()
        self._drawn = False

    def show(self, stage: str, done: int, total: int) -> None:
        """Say how much of `total` is done; nothing for a total of 0."""
        if total:
            self.say(f"{stage}, {100 * done // total} %")

    def say(self, text: str) -> None:
        """Put `text` in the line's place."""
        if self._draws:
            self._drawn = True
            self._write(f"{_CLEAR_LINE}{text}")

    def clear(self) -> None:
        """Take the line away before something else is written."""
        if self._drawn:
            self._drawn = False
            self._write(_CLEAR_LINE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
