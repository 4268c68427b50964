"""Reads lines from a terminal or pipe without a thread and without blocking the event loop."""

import codecs
import os

from PySide6.QtCore import QObject, QSocketNotifier, Signal, Slot

_CHUNK_BYTES = 4096


class LineReader(QObject):
    """Turns what arrives at a file descriptor into lines. Lives in the GUI thread.

    Signals:
        line_read(str): one line, without its end.
        ended(): there will be no more.
    """

    line_read = Signal(str)
    ended = Signal()

    def __init__(self, descriptor: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._notifier = QSocketNotifier(descriptor, QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self.on_readable)

    @Slot()
    def on_readable(self) -> None:
        """Something arrived, or the other side closed."""
        try:
            data = os.read(self._descriptor, _CHUNK_BYTES)
        except OSError:
            # A terminal that has gone away reads as an error, a closed pipe as nothing.
            data = b""
        self._rest += self._decoder.decode(data, final=not data)
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            self.line_read.emit(line.removesuffix("\r"))
        if not data:
            self._notifier.setEnabled(False)
            if self._rest:
                self.line_read.emit(self._rest)
                self._rest = ""
            self.ended.emit()
