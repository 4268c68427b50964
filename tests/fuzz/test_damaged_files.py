"""Files damaged in every way: a picture, a clip or one sentence, in bounded time and memory.

The loaders run in a process of their own, so that a decoder that crashes or hangs is a finding
with a number, not the end of the tests. `make soak` reads ten times as many.
"""

from pathlib import Path

import pytest

from tests.fuzz.mutations import mutant
from tests.fuzz.reading import ReadingProcess
from tests.fuzz.reading_process import READ
from tests.fuzz.sound_files import CLIPS, FORMATS, sound_files

COUNT, LONG_COUNT = 200, 2000
MOST_SECONDS = 10.0
MOST_BYTES = 2 << 30


def check(reading: ReadingProcess, format_name: str, first: int, stop: int) -> None:
    outcomes, findings = [], []
    for answer in reading.damaged(format_name, first, stop):
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
    path = tmp_path / "whole"
    for content in sound_files(format_name):
        path.write_bytes(content)
        assert READ["clip" if format_name in CLIPS else "picture"](path) == ""


def test_the_same_number_is_the_same_damage() -> None:
    seeds = sound_files("png")
    assert mutant(seeds, 7) == mutant(seeds, 7)
    assert len({mutant(seeds, number) for number in range(100)}) > 95
    assert not any(mutant(seeds, number) in seeds for number in range(100))


def test_a_reader_that_dies_is_a_finding(reading: ReadingProcess) -> None:
    answers = reading.damaged("png", 0, 300)
    next(answers)
    reading.kill()
    rest = list(answers)
    assert any(answer["outcome"].startswith("died") for answer in rest)
    assert [answer["number"] for answer in rest] == list(range(1, 300))
