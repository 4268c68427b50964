"""A conversation partner for other programs: one JSON object a line in, one an event out.

Owns the protocol's order and its two threads: a reader takes the lines, so that a cancel arrives
while a reply is being made, and whoever called `serve` runs the engine and writes every event.
Between two lines the engine does what makes the next reply come sooner.
"""

import json
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO, Protocol

from mlx_model.errors import FiresideError
from mlx_model.events import Event, Finished, Notice, Prepared, Progress, TextDelta, ThinkingDelta
from mlx_model.jsonl_requests import Ask, Cancel, Prepare, Refused, RequestId, parse_line
from mlx_model.messages import ReplyRequest

Record = dict[str, Any]

# Whoever sends nothing for so long is taken to be away.
AWAY_S = 30.0

_UNEXPECTED = "Something went wrong inside the program; standard error has the details."


class ReplyMaker(Protocol):
    """What is served; `mlx_model.engine.Engine` is the real one."""

    def reply(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Yield the events of one reply."""

    def prepare(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Yield the events of reading ahead."""

    def idle(self, cancel: threading.Event) -> Iterator[Event]:
        """Yield the events of what is worth doing while nobody waits."""

    def warm_up(self, cancel: threading.Event) -> None:
        """Do what is worth doing while nobody is there."""


# What the reader hands on; None is the end of the input.
Inbox = queue.SimpleQueue[Ask | Prepare | Refused | None]


def serve(engine: ReplyMaker, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the lines of `source` on `sink`, in order, until `source` ends and all are answered.

    Call it on the engine's own thread. Raises BrokenPipeError when nobody reads `sink` any more.
    """
    inbox: Inbox = queue.SimpleQueue()
    open_replies = _OpenReplies()
    # A daemon, since nothing can wake it from waiting for a line that never comes.
    threading.Thread(
        target=_take_lines, args=(source, inbox, open_replies), name="requests", daemon=True
    ).start()
    while (command := _next(engine, inbox, open_replies)) is not None:
        for record in _records(engine, command, open_replies):
            sink.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            sink.flush()


def _next(
    engine: ReplyMaker, inbox: Inbox, open_replies: "_OpenReplies"
) -> Ask | Prepare | Refused | None:
    """The next line to answer; the time until it comes is used."""
    cancel = open_replies.rest()
    if inbox.empty():
        try:
            for _ in engine.idle(cancel):
                pass
            if not cancel.wait(AWAY_S):
                engine.warm_up(cancel)
        except FiresideError:
            pass  # a file that has gone since: whoever asks again hears of it
        except Exception:  # noqa: BLE001 - as below
            traceback.print_exc(file=sys.stderr)
    return inbox.get()


class _OpenReplies:
    """The replies asked for and not yet finished, each with the event that stops it.

    What nobody waits for gives way to them: reading ahead, and work between two lines. Used by both
    threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancels: dict[RequestId, threading.Event] = {}
        self._yielding: dict[RequestId | None, threading.Event] = {}

    def add(self, request_id: RequestId, gives_way: bool) -> bool:
        """False if the id is taken. Whatever gives way is stopped, for this one to begin."""
        with self._lock:
            if request_id in self._cancels:
                return False
            for cancel in self._yielding.values():
                cancel.set()
            self._cancels[request_id] = threading.Event()
            if gives_way:
                self._yielding[request_id] = self._cancels[request_id]
            return True

    def rest(self) -> threading.Event:
        """What stops the work between two lines."""
        with self._lock:
            self._yielding[None] = threading.Event()
            return self._yielding[None]

    def wake(self) -> None:
        """There is a line to answer, or the input has ended."""
        with self._lock:
            if None in self._yielding:
                self._yielding[None].set()

    def cancel(self, request_id: RequestId) -> bool:
        """False if there is no such reply."""
        with self._lock:
            if request_id not in self._cancels:
                return False
            self._cancels[request_id].set()
            return True

    def event(self, request_id: RequestId) -> threading.Event:
        with self._lock:
            return self._cancels[request_id]

    def remove(self, request_id: RequestId) -> None:
        with self._lock:
            del self._cancels[request_id]
            self._yielding.pop(request_id, None)


def _take_lines(source: BinaryIO, inbox: Inbox, open_replies: _OpenReplies) -> None:
    """The reader's whole life: cancels take effect here and now, the rest waits its turn."""
    try:
        for line in source:
            command = parse_line(line)
            if isinstance(command, Cancel):
                if not open_replies.cancel(command.target):
                    why = f"There is no unfinished reply with the id {json.dumps(command.target)}."
                    inbox.put(Refused(command.id, why))
                    open_replies.wake()
                continue
            if isinstance(command, Ask | Prepare):
                gives_way = isinstance(command, Prepare)
                if not open_replies.add(command.id, gives_way):
                    taken = json.dumps(command.id)
                    why = f"The id {taken} is taken by a reply that is not finished."
                    command = Refused(command.id, why)
            inbox.put(command)
            open_replies.wake()
    finally:
        inbox.put(None)
        open_replies.wake()


def _records(
    engine: ReplyMaker, command: Ask | Prepare | Refused, open_replies: _OpenReplies
) -> Iterator[Record]:
    if isinstance(command, Refused):
        yield _error(command.id, command.message)
        return
    last: Record | None = None
    make = engine.prepare if isinstance(command, Prepare) else engine.reply
    try:
        for event in make(command.request, open_replies.event(command.id)):
            record = _record(command.id, event)
            if isinstance(event, Finished | Prepared):
                last = record
                break
            yield record
    except FiresideError as error:
        last = _error(command.id, str(error))
    except Exception:  # noqa: BLE001 - only the end of input may end the process
        traceback.print_exc(file=sys.stderr)
        last = _error(command.id, _UNEXPECTED)
    # Free the id first: whoever has read the last event may use it again at once.
    open_replies.remove(command.id)
    yield last if last is not None else _error(command.id, _UNEXPECTED)


def _record(request_id: RequestId, event: Event) -> Record:
    match event:
        case TextDelta(text):
            return {"id": request_id, "type": "text", "text": text}
        case ThinkingDelta(text):
            return {"id": request_id, "type": "thinking", "text": text}
        case Progress(stage, done, total):
            return {
                "id": request_id,
                "type": "progress",
                "stage": stage,
                "done": done,
                "total": total,
            }
        case Notice(text):
            return {"id": request_id, "type": "notice", "text": text}
        case Finished(reason, stats):
            return {"id": request_id, "type": "finished", "reason": reason, "stats": asdict(stats)}
        case Prepared():
            return {"id": request_id, "type": "prepared", **asdict(event)}


def _error(request_id: RequestId | None, message: str) -> Record:
    return {"id": request_id, "type": "error", "message": message}
