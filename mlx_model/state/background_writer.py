"""Does one piece of work after the other on a thread of its own, such as writing a file.

The thread lives as long as a piece of work. It may not touch mlx.
"""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("fireside.states")

# After a disk has refused something, for so long nothing is tried.
_PAUSE_S = 300.0


class BackgroundWriter:
    """Takes one piece of work at a time; used from one thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._paused_until_s = 0.0

    @property
    def refuses(self) -> bool:
        """Whether the disk has refused something not long ago."""
        return time.monotonic() < self._paused_until_s

    def wait(self, limit_s: float) -> bool:
        """Whether it is free, after waiting so long for it."""
        if self._thread is not None:
            self._thread.join(limit_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        return True

    def start(self, work: Callable[[], None]) -> None:
        """Begin; `wait` must have said that it is free."""
        if self._thread is not None:
            raise RuntimeError("one piece of work at a time")
        # A daemon: what it leaves behind when the program ends is known to be of no use.
        self._thread = threading.Thread(
            target=self._run, args=(work,), name="state writer", daemon=True
        )
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._paused_until_s = time.monotonic() + _PAUSE_S
            _log.warning("states are not kept on the disk for a while: %s", error)
        except Exception:  # noqa: BLE001 - nobody waits for this thread
            self._paused_until_s = time.monotonic() + _PAUSE_S
            _log.exception("states could not be kept on the disk")
