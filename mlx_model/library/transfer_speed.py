"""How fast bytes arrive, over the last seconds, and how long the rest will take."""

import time
from collections import deque
from collections.abc import Callable

_WINDOW_S = 8.0

Clock = Callable[[], float]


class TransferSpeed:
    """Counts what arrives; `clock` tells seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._arrived = 0
        self._samples = deque([(clock(), 0)])

    def add(self, count: int) -> None:
        """So many bytes have just arrived."""
        self._arrived += count
        now = self._clock()
        self._samples.append((now, self._arrived))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW_S:
            self._samples.popleft()

    @property
    def bytes_per_s(self) -> float:
        """0 before anything has arrived."""
        start_s, before = self._samples[0]
        elapsed_s = self._clock() - start_s
        return (self._arrived - before) / elapsed_s if elapsed_s > 0 else 0.0

    def seconds_left(self, rest_bytes: int) -> float | None:
        """How long so many bytes will take; None if nobody knows."""
        speed = self.bytes_per_s
        return rest_bytes / speed if speed > 0 else None
