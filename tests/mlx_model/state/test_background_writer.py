"""One piece of work at a time, on another thread; what fails there pauses and ends nothing."""

import logging
import threading

import pytest

from mlx_model.state.background_writer import BackgroundWriter

WAIT_S = 10


def test_work_is_done_elsewhere_and_waited_for() -> None:
    writer, go_on, where = BackgroundWriter(), threading.Event(), []

    def work() -> None:
        go_on.wait(WAIT_S)
        where.append(threading.current_thread())

    writer.start(work)
    assert not writer.wait(0.01)
    with pytest.raises(RuntimeError, match="at a time"):
        writer.start(work)
    go_on.set()
    assert writer.wait(WAIT_S)
    assert where != [threading.current_thread()]
    assert not writer.refuses


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a bug")])
def test_after_a_failure_it_rests(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise error

    writer = BackgroundWriter()
    with caplog.at_level(logging.WARNING):
        writer.start(work)
        assert writer.wait(WAIT_S)
    assert writer.refuses
    assert str(error) in caplog.text
