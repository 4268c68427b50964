"""Where the inference thread leaves what the engine said until the window takes it.

Owns the hand-over and nothing else: no Qt, no thread of its own.
"""

import threading
from collections import deque
from typing import NamedTuple

from mlx_model.events import Event, Progress, TextDelta, ThinkingDelta


class Entry(NamedTuple):
    """One event and the reply it belongs to."""

    reply_id: int
    event: Event


class TokenBuffer:
    """A queue that one thread fills by token and another empties a few dozen times a second.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._announced = False

    def put(self, reply_id: int, event: Event) -> bool:
        """Add an event; True when the reader has to be woken, at most once between two drains."""
        with self._lock:
            self._entries.append(Entry(reply_id, event))
            wake = not self._announced
            self._announced = True
        return wake

    def drain(self) -> list[Entry]:
        """Take everything, oldest first, runs of text joined and outdated progress left out."""
        with self._lock:
            entries, self._entries = self._entries, deque()
            self._announced = False
        joined: list[Entry] = []
        for entry in entries:
            merged = _merge(joined[-1], entry) if joined else None
            if merged is None:
                joined.append(entry)
            else:
                joined[-1] = merged
        return joined


def _merge(earlier: Entry, later: Entry) -> Entry | None:
    """One entry that stands for both, or None when both have to be told."""
    if earlier.reply_id != later.reply_id:
        return None
    match earlier.event, later.event:
        case TextDelta(text=first), TextDelta(text=second):
            return Entry(later.reply_id, TextDelta(first + second))
        case ThinkingDelta(text=first), ThinkingDelta(text=second):
            return Entry(later.reply_id, ThinkingDelta(first + second))
        case Progress(), Progress():
            return later
    return None
