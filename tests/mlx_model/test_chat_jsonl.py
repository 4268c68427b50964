"""The protocol's order and its two threads, with an engine whose replies the test holds back."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

from mlx_model.chat_jsonl import serve
from mlx_model.errors import MediaError
from mlx_model.events import (
    Event,
    Finished,
    Notice,
    Prepared,
    Progress,
    ReplyStats,
    TextDelta,
    ThinkingDelta,
)
from mlx_model.messages import ReplyRequest, TextPart

WAIT_S = 10

Behaviour = Callable[[ReplyRequest, threading.Event], Iterator[Event]]


Idling = Callable[[threading.Event], Iterator[Event]]


def nothing(cancel: threading.Event) -> Iterator[Event]:
    yield from ()


class Engine:
    """Replies and reads ahead as the test wants; both in the same way."""

    def __init__(self, behaviour: Behaviour, idling: Idling) -> None:
        self.reply = self.prepare = behaviour
        self.idle = idling
        self.warmed = threading.Semaphore(0)

    def warm_up(self, cancel: threading.Event) -> None:
        assert not cancel.is_set()
        self.warmed.release()


class Session:
    """A served engine, its input and output being pipes; the test's thread is the other program."""

    def __init__(self, behaviour: Behaviour, idling: Idling = nothing) -> None:
        source_fd, requests_fd = os.pipe()
        events_fd, sink_fd = os.pipe()
        self.requests: BinaryIO = os.fdopen(requests_fd, "wb")
        self.events: BinaryIO = os.fdopen(events_fd, "rb")
        self._source: BinaryIO = os.fdopen(source_fd, "rb")
        self._sink: BinaryIO = os.fdopen(sink_fd, "wb")
        self.error: BaseException | None = None
        self.engine = Engine(behaviour, idling)
        # A test that has failed leaves it waiting.
        self.thread = threading.Thread(target=self._serve, args=(self.engine,), daemon=True)
        self.thread.start()

    def _serve(self, engine: Engine) -> None:
        try:
            serve(engine, self._source, self._sink)
        except BrokenPipeError as error:
            self.error = error
        finally:
            with contextlib.suppress(BrokenPipeError):
                self._sink.close()

    def send(self, *lines: Any) -> None:
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode()
            self.requests.write(data + b"\n")
        self.requests.flush()

    def receive(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.events.readline())
        return record

    def end(self) -> list[dict[str, Any]]:
        """Close the input; everything that still comes."""
        self.requests.close()
        rest = [json.loads(line) for line in self.events]
        self.close()
        return rest

    def close(self) -> None:
        self.requests.close()
        self.events.close()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        self._source.close()  # waits for the reader, whom the end of input has released


def ask(request_id: Any, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"id": request_id, "messages": [{"role": "user", "content": text}], **fields}


def echo(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    part = request.messages[-1].content[0]
    assert isinstance(part, TextPart)
    yield TextDelta(part.text)
    yield Finished("stop", ReplyStats(generated_tokens=1))


def until_cancelled(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    yield TextDelta("working")
    yield Finished("cancelled" if cancel.wait(WAIT_S) else "stop", ReplyStats())


def test_every_event_has_its_line() -> None:
    def everything(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield Progress("looking", 3, 12)
        yield ThinkingDelta("hm")
        yield TextDelta("né 🙂\n")
        yield Notice("A sentence.")
        yield Finished("length", ReplyStats(prompt_tokens=5, time_to_first_token_s=0.5))

    session = Session(everything)
    session.send(ask(1))
    records = session.end()
    assert records[:4] == [
        {"id": 1, "type": "progress", "stage": "looking", "done": 3, "total": 12},
        {"id": 1, "type": "thinking", "text": "hm"},
        {"id": 1, "type": "text", "text": "né 🙂\n"},
        {"id": 1, "type": "notice", "text": "A sentence."},
    ]
    assert records[4].pop("stats") == {
        "prompt_tokens": 5,
        "reused_tokens": 0,
        "read_tokens": 0,
        "encoded_patches": 0,
        "generated_tokens": 0,
        "time_to_first_token_s": 0.5,
        "prefill_tokens_per_s": 0.0,
        "decode_tokens_per_s": 0.0,
        "drafted_tokens": 0,
        "accepted_drafts": 0,
        "drafting": False,
        "peak_memory_bytes": 0,
    }
    assert records[4:] == [{"id": 1, "type": "finished", "reason": "length"}]


def ahead(request_id: Any, text: str = "Hello") -> dict[str, Any]:
    return {"id": request_id, "prepare": {"messages": [{"role": "user", "content": text}]}}


def reading_until_cancelled(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    """Answers "now"; reads anything else ahead until something else is wanted."""
    part = request.messages[-1].content[0]
    if part == TextPart("now"):
        yield from echo(request, cancel)
        return
    yield Progress("reading", 0, 9)
    yield Prepared(9, 0, 9, 0, is_complete=not cancel.wait(WAIT_S))


@pytest.mark.parametrize("newer", [ask(2, "now"), ahead(2, "now")])
def test_reading_ahead_gives_way_to_whatever_is_asked_for(newer: dict[str, Any]) -> None:
    session = Session(reading_until_cancelled)
    session.send(ahead(1))
    assert session.receive() == {
        "id": 1,
        "type": "progress",
        "stage": "reading",
        "done": 0,
        "total": 9,
    }
    session.send(newer)
    prepared = session.receive()
    assert (prepared["id"], prepared["type"], prepared["is_complete"]) == (1, "prepared", False)
    assert session.receive() == {"id": 2, "type": "text", "text": "now"}
    assert [record["type"] for record in session.end()] == ["finished"]


def test_reading_ahead_is_cancelled_as_a_reply_is_and_goes_on_at_the_end_of_the_input() -> None:
    session = Session(reading_until_cancelled)
    session.send(ahead("a"))
    session.receive()
    session.send({"id": 2, "cancel": "a"})
    assert session.receive()["is_complete"] is False
    session.send(ahead("a", "now"))  # the id is free again
    assert [record["type"] for record in session.end()] == ["text", "finished"]


@pytest.mark.parametrize("line", [ask(2), ahead(2), b"not JSON", {"id": 3, "cancel": 1}])
def test_time_between_two_lines_is_used_until_the_next_one_comes(line: Any) -> None:
    begun = threading.Semaphore(0)
    given_way: list[bool] = []

    def idle(cancel: threading.Event) -> Iterator[Event]:
        begun.release()
        yield Progress("reading", 0, 9)
        given_way.append(cancel.wait(WAIT_S))

    session = Session(echo, idle)
    for sent, events in ((ask(1), 2), (line, 1)):
        assert begun.acquire(timeout=WAIT_S)
        session.send(sent)
        for _ in range(events):
            session.receive()
    session.end()
    assert given_way[:2] == [True, True]


def test_who_sends_nothing_for_a_while_is_taken_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(echo)
    session.send(ask(1))
    assert [session.receive()["type"] for _ in range(2)] == ["text", "finished"]
    session.end()
    assert not session.engine.warmed.acquire(blocking=False), "there was always something to do"
    monkeypatch.setattr("mlx_model.chat_jsonl.AWAY_S", 0.01)
    session = Session(echo)
    assert session.engine.warmed.acquire(timeout=WAIT_S)
    session.end()


def test_what_goes_wrong_between_two_lines_is_nobodys_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors: Iterator[Exception] = iter([MediaError("gone.png is not there."), ValueError("a bug")])

    begun = threading.Semaphore(0)

    def idle(cancel: threading.Event) -> Iterator[Event]:
        begun.release()
        yield Progress("reading", 0, 9)
        for error in errors:
            raise error

    session = Session(echo, idle)
    assert begun.acquire(timeout=WAIT_S)
    session.send(ask(1))
    assert [session.receive()["type"] for _ in range(2)] == ["text", "finished"]
    assert begun.acquire(timeout=WAIT_S)
    session.send(ask(2))
    assert [record["type"] for record in session.end()] == ["text", "finished"]
    assert "ValueError: a bug" in capsys.readouterr().err


def test_text_is_written_as_utf_8_and_read_as_such() -> None:
    session = Session(echo)
    session.send('{"id": 1, "messages": [{"role": "user", "content": "né 日本"}]}'.encode())
    assert session.events.readline() == '{"id": 1, "type": "text", "text": "né 日本"}\n'.encode()
    session.end()


def test_requests_are_answered_in_order_also_after_the_input_has_ended() -> None:
    session = Session(echo)
    session.send(ask(1, "one"), b"no json", ask("b", "two"), {"id": 3}, ask(4, "four"))
    records = session.end()
    assert [(record["id"], record["type"]) for record in records] == [
        (1, "text"),
        (1, "finished"),
        (None, "error"),
        ("b", "text"),
        ("b", "finished"),
        (3, "error"),
        (4, "text"),
        (4, "finished"),
    ]
    assert [record["text"] for record in records if record["type"] == "text"] == [
        "one",
        "two",
        "four",
    ]


def test_the_last_line_needs_no_line_end() -> None:
    session = Session(echo)
    session.requests.write(json.dumps(ask(1)).encode())
    assert [record["type"] for record in session.end()] == ["text", "finished"]


def test_cancel_reaches_the_reply_in_progress() -> None:
    session = Session(until_cancelled)
    session.send(ask(1))
    assert session.receive()["text"] == "working"
    session.send({"id": 2, "cancel": 1})
    record = session.receive()
    assert (record["id"], record["type"], record["reason"]) == (1, "finished", "cancelled")
    assert session.end() == []


def test_cancel_reaches_a_reply_that_waits_its_turn() -> None:
    session = Session(until_cancelled)
    session.send(ask(1), ask(2))
    assert session.receive() == {"id": 1, "type": "text", "text": "working"}
    session.send({"id": 3, "cancel": 2}, {"id": 4, "cancel": 1})
    records = session.end()
    finished = [record for record in records if record["type"] == "finished"]
    assert [(record["id"], record["reason"]) for record in finished] == [
        (1, "cancelled"),
        (2, "cancelled"),
    ]


def test_cancelling_what_is_not_there_is_an_error_of_the_cancel() -> None:
    session = Session(echo)
    session.send({"id": 5, "cancel": 1}, ask(1))
    assert session.receive()["type"] == "error"
    assert session.receive()["type"] == "text"
    assert session.receive()["type"] == "finished"
    session.send({"id": 6, "cancel": 1}, {"id": 7, "cancel": "1"})
    records = session.end()
    assert [(record["id"], record["type"]) for record in records] == [(6, "error"), (7, "error")]


def test_an_id_may_be_used_again_but_not_twice_at_once() -> None:
    session = Session(until_cancelled)
    session.send(ask(1), ask(1))
    assert session.receive()["type"] == "text"
    session.send({"id": 2, "cancel": 1})
    assert session.receive()["type"] == "finished"
    refused = session.receive()
    assert (refused["id"], refused["type"]) == (1, "error")
    assert "taken" in refused["message"]
    session.send(ask(1))
    assert session.receive()["type"] == "text"
    session.send({"id": 2, "cancel": 1})
    assert [record["type"] for record in session.end()] == ["finished"]


def test_what_a_person_can_put_right_is_an_error_event_and_the_next_reply_works() -> None:
    def fails_once(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        part = request.messages[0].content[0]
        if part == TextPart("broken"):
            yield Progress("looking", 0, 4)
            raise MediaError("The picture cat.png cannot be read.")
        yield from echo(request, cancel)

    session = Session(fails_once)
    session.send(ask(1, "broken"), ask(2, "fine"))
    records = session.end()
    assert records[1] == {
        "id": 1,
        "type": "error",
        "message": "The picture cat.png cannot be read.",
    }
    assert [record["type"] for record in records] == ["progress", "error", "text", "finished"]


def test_a_bug_ends_the_reply_and_not_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        if request.messages[0].content[0] == TextPart("broken"):
            raise ZeroDivisionError("planted")
        yield from echo(request, cancel)

    session = Session(broken)
    session.send(ask(1, "broken"), ask(2))
    records = session.end()
    assert [(record["id"], record["type"]) for record in records] == [
        (1, "error"),
        (2, "text"),
        (2, "finished"),
    ]
    assert "planted" not in records[0]["message"]
    assert "ZeroDivisionError: planted" in capsys.readouterr().err


def test_serving_ends_when_nobody_listens_any_more() -> None:
    def chatty(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        while True:
            yield TextDelta("more ")

    session = Session(chatty)
    session.send(ask(1))
    session.receive()
    session.close()
    assert isinstance(session.error, BrokenPipeError)
