"""Files damaged in every way: a picture, a clip or one sentence, in bounded time and memory.

The loaders run in a process of their own, so that a decoder that crashes or hangs is a finding
with a number, not the end of the tests. `make soak` reads ten times as many.
"""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.fuzz.mutations import mutant
from tests.fuzz.sound_files import CLIPS, FORMATS, sound_files

ROOT = Path(__file__).parents[2]
COUNT, LONG_COUNT = 200, 2000
MOST_SECONDS = 10.0
# By the clock of a busy machine; between two answers may lie the start of Python, too.
MOST_SILENT_SECONDS = 60.0
MOST_BYTES = 2 << 30


class ReadingProcess:
    """The process that reads damaged files, replaced by a new one whenever it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def read(self, format_name: str, first: int, stop: int) -> Iterator[dict[str, Any]]:
        """One answer for each file; a file that ended the process has the outcome "died ..."."""
        number = first
        while number < stop:
            self._ask(f"{format_name} {number} {stop}\n")
            while number < stop:
                answer = self._answer()
                if isinstance(answer, str):
                    yield {"number": number, "outcome": answer, "seconds": 0.0, "peak_bytes": 0}
                    number += 1
                    break
                yield answer
                number += 1

    def kill(self) -> None:
        """Do what a decoder might do."""
        assert self._process
        self._process.kill()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def _ask(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.reading_process"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._answers = queue.Queue()
            listener = threading.Thread(
                target=_listen, args=(self._process.stdout, self._answers), daemon=True
            )
            listener.start()
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any] | str:
        """What was read, or how the process ended."""
        try:
            line = self._answers.get(timeout=MOST_SILENT_SECONDS)
        except queue.Empty:
            self.close()
            return "died: it hung"
        if line is None:
            assert self._process
            status = self._process.wait()
            self.close()
            return f"died: exit status {status}"
        answer: dict[str, Any] = json.loads(line)
        return answer


def _listen(stream: IO[str], answers: "queue.Queue[str | None]") -> None:
    for line in stream:
        answers.put(line)
    answers.put(None)


@pytest.fixture(scope="module")
def reading() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.close()


def check(reading: ReadingProcess, format_name: str, first: int, stop: int) -> None:
    outcomes, findings = [], []
    for answer in reading.read(format_name, first, stop):
        outcomes.append(answer["outcome"])
        if answer["outcome"] not in ("read", "refused"):
            findings.append((answer["number"], answer["outcome"]))
        if answer["seconds"] > MOST_SECONDS:
            findings.append((answer["number"], f"took {answer['seconds']:.1f} s"))
        if answer["peak_bytes"] > MOST_BYTES:
            findings.append((answer["number"], f"took {answer['peak_bytes'] >> 20} MB"))
    assert not findings, f"{format_name}, damaged files by number: {findings}"
    assert len(outcomes) == stop - first
    # Otherwise the damage is too small or too great to show anything.
    assert outcomes.count("read") > len(outcomes) // 20
    assert outcomes.count("refused") > len(outcomes) // 20


@pytest.mark.parametrize("format_name", FORMATS)
def test_damaged_files_are_read_or_refused(reading: ReadingProcess, format_name: str) -> None:
    check(reading, format_name, 0, COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", FORMATS)
def test_many_damaged_files_are_read_or_refused(reading: ReadingProcess, format_name: str) -> None:
    check(reading, format_name, COUNT, COUNT + LONG_COUNT)


@pytest.mark.parametrize("format_name", FORMATS)
def test_whole_files_are_read(format_name: str, tmp_path: Path) -> None:
    from tests.fuzz.reading_process import read_clip, read_picture

    path = tmp_path / "whole"
    for content in sound_files(format_name):
        path.write_bytes(content)
        read = read_clip if format_name in CLIPS else read_picture
        assert read(path) == "read"


def test_the_same_number_is_the_same_damage() -> None:
    seeds = sound_files("png")
    assert mutant(seeds, 7) == mutant(seeds, 7)
    assert len({mutant(seeds, number) for number in range(100)}) > 95
    assert not any(mutant(seeds, number) in seeds for number in range(100))


def test_a_reader_that_dies_is_a_finding(reading: ReadingProcess) -> None:
    answers = reading.read("png", 0, 300)
    next(answers)
    reading.kill()
    rest = list(answers)
    assert any(answer["outcome"].startswith("died") for answer in rest)
    assert [answer["number"] for answer in rest] == list(range(1, 300))
