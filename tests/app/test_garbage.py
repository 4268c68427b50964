"""Cycles are collected in the GUI thread, and the old ones only in quiet moments."""

import gc
import weakref
from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot

from app.garbage import GarbageCollector


class Knot:
    """An object that only the cycle collector can free."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def collector(qapp: object) -> Iterator[GarbageCollector]:
    collector = GarbageCollector()
    yield collector
    collector.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def tie_knots(count: int) -> weakref.ref[Knot]:
    knots = [Knot() for _ in range(count)]
    return weakref.ref(knots[0])


def test_python_does_not_collect_by_itself(collector: GarbageCollector) -> None:
    gc.collect()
    knot = tie_knots(50_000)
    assert knot() is not None


def test_the_timer_collects(collector: GarbageCollector, qtbot: QtBot) -> None:
    knot = tie_knots(2000)
    qtbot.waitUntil(lambda: knot() is None, timeout=10_000)


def test_the_old_are_left_alone_while_a_reply_arrives(collector: GarbageCollector) -> None:
    gc.collect()
    knots = [Knot() for _ in range(10)]
    knot = weakref.ref(knots[0])
    gc.collect(1)  # makes them old
    del knots
    collector.on_state_changed("replying")
    for _ in range(30):
        tie_knots(1000)
        collector.collect()
    assert knot() is not None
    collector.on_state_changed("idle")
    collector.collect()
    assert knot() is None


def test_what_lives_as_long_as_the_program_is_set_aside(collector: GarbageCollector) -> None:
    collector.settle()
    assert gc.get_freeze_count() > 10_000
