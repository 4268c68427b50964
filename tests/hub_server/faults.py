"""What can go wrong between the hub and here, switchable request by request."""

import threading
from dataclasses import dataclass, field
from typing import Literal

# api: listing; resolve: asking for a file; body: where the bytes come from (resolve itself for
# small files, another host for LFS files).
Place = Literal["api", "resolve", "body"]
Action = Literal[
    "status", "drop", "cut", "corrupt", "stall", "whole", "shifted", "gzip", "redirect"
]


@dataclass(frozen=True)
class Fault:
    """One kind of trouble, for the next `times` requests that it fits.

    status   answer with `status` and `headers`
    drop     close the connection after `after_bytes` of the body
    cut      end the body properly after `after_bytes`, as a proxy that gave up does
    corrupt  flip a bit of the byte at `after_bytes` of this body
    stall    send nothing more after `after_bytes` of the body
    whole    ignore the asked range and answer 200 with everything, or with `after_bytes` of it
    shifted  answer with a range that starts one byte too late
    gzip     send everything compressed, asked or not
    redirect send the client once around before answering; for `resolve`
    """

    action: Action
    place: Place = "body"
    name: str = ""
    times: int = 1
    after_bytes: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """The faults still to come; safe to change while the server runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[tuple[Fault, int]] = []

    def add(self, *faults: Fault) -> None:
        """Plan faults; those that fit the same request happen one request after the other."""
        with self._lock:
            self._pending += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        """From here on nothing goes wrong."""
        with self._lock:
            self._pending.clear()

    @property
    def left(self) -> int:
        """How many times something will still go wrong."""
        with self._lock:
            return sum(times for _, times in self._pending)

    def take(self, place: Place, name: str) -> Fault | None:
        """The fault of this request, which is then used up."""
        with self._lock:
            for index, (fault, times) in enumerate(self._pending):
                if fault.place == place and name.endswith(fault.name):
                    self._pending[index] = (fault, times - 1)
                    self._pending = [entry for entry in self._pending if entry[1] > 0]
                    return fault
        return None
