"""Lets Ctrl+C and a polite kill end the program as the window's close button does."""

import signal
import socket
from types import FrameType

from PySide6.QtCore import QObject, QSocketNotifier, Signal, Slot


class Interrupts(QObject):
    """Turns SIGINT and SIGTERM into a Qt signal. Build it in the main thread.

    Python runs its signal handlers between bytecodes, and there are none while Qt waits for events;
    the byte that arrives in a socket wakes it.

    Signals:
        interrupted(): the program is asked to end.
    """

    interrupted = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._notifier = QSocketNotifier(self._reader.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self.on_byte_arrived)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave_to_qt)

    @Slot()
    def on_byte_arrived(self) -> None:
        """A signal came."""
        self._reader.recv(64)
        self.interrupted.emit()

    def close(self) -> None:
        """Give the signals back to Python."""
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self._reader.close()
        self._writer.close()


def _leave_to_qt(number: int, frame: FrameType | None) -> None:
    """The byte in the socket says it all."""
