"""The hand-over between the two threads: order, joining, and how often the reader is woken."""

import threading

from app.inference.token_buffer import Entry, TokenBuffer
from mlx_model.events import Notice, Progress, TextDelta, ThinkingDelta


def test_runs_of_text_are_joined_in_order() -> None:
    buffer = TokenBuffer()
    for text in ("a ", "red ", "circle"):
        buffer.put(1, TextDelta(text))
    assert buffer.drain() == [Entry(1, TextDelta("a red circle"))]
    assert buffer.drain() == []


def test_thinking_and_text_stay_apart() -> None:
    buffer = TokenBuffer()
    for event in (ThinkingDelta("hm"), ThinkingDelta("m"), TextDelta("yes"), ThinkingDelta("?")):
        buffer.put(1, event)
    assert [entry.event for entry in buffer.drain()] == [
        ThinkingDelta("hmm"),
        TextDelta("yes"),
        ThinkingDelta("?"),
    ]


def test_two_replies_are_never_joined() -> None:
    buffer = TokenBuffer()
    buffer.put(1, TextDelta("old"))
    buffer.put(2, TextDelta("new"))
    assert buffer.drain() == [Entry(1, TextDelta("old")), Entry(2, TextDelta("new"))]


def test_only_the_newest_progress_is_told() -> None:
    buffer = TokenBuffer()
    for done in range(4):
        buffer.put(1, Progress("looking", done, 4))
    buffer.put(1, Notice("one"))
    buffer.put(1, Notice("two"))
    assert [entry.event for entry in buffer.drain()] == [
        Progress("looking", 3, 4),
        Notice("one"),
        Notice("two"),
    ]


def test_the_reader_is_woken_once_between_two_drains() -> None:
    buffer = TokenBuffer()
    assert [buffer.put(1, TextDelta("x")) for _ in range(3)] == [True, False, False]
    buffer.drain()
    assert [buffer.put(1, TextDelta("x")) for _ in range(2)] == [True, False]


def test_nothing_is_lost_between_two_threads() -> None:
    buffer = TokenBuffer()
    count = 5_000
    wakings = []

    def write() -> None:
        for number in range(count):
            if buffer.put(1, TextDelta(f"{number},")):
                wakings.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    received = []
    drains = 0
    while writer.is_alive():
        received += buffer.drain()
        drains += 1
    writer.join()
    received += buffer.drain()
    text = "".join(entry.event.text for entry in received if isinstance(entry.event, TextDelta))
    assert text == "".join(f"{number}," for number in range(count))
    assert len(wakings) <= drains + 1
