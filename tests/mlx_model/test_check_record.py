"""Records of self-checks: what was written is read again, and nothing else is believed."""

import json
from pathlib import Path

import pytest

from mlx_model.check_record import CheckRecord, CheckRecords, Passed, Predictions

SAID = Predictions((0.5, 1.25), {"7": -0.25, "12": -3.0}, "a")
RECORD = CheckRecord(Passed("files", "program", "1.2"), {"1.2": SAID})


def only_file(folder: Path) -> Path:
    (file,) = (folder / "self-check").iterdir()
    return file


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    records = CheckRecords(tmp_path / "made" / "when needed")
    assert records.read("a", "Apple M1") is None
    records.write("a", "Apple M1", RECORD)
    assert records.read("a", "Apple M1") == RECORD
    assert records.read("a", "Apple M2") is None
    assert records.read("b", "Apple M1") is None


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    records = CheckRecords(tmp_path)
    records.write("a", "CPU", RECORD)
    later = CheckRecord(Passed("other files", "program", "1.3"), {"1.3": SAID, "1.2": SAID})
    records.write("a", "CPU", later)
    assert records.read("a", "CPU") == later
    assert only_file(tmp_path).suffix == ".json"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace("1.25", "NaN"),
        lambda text: text.replace("1.25", '"much"'),
        lambda text: text.replace('"program"', '"programme"', 1),
        lambda text: json.dumps(json.loads(text) | {"said": []}),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, damage: object) -> None:
    records = CheckRecords(tmp_path)
    records.write("a", "CPU", RECORD)
    file = only_file(tmp_path)
    text = file.read_text()
    damaged = damage(text)  # type: ignore[operator]
    assert damaged != text
    file.write_text(damaged)
    assert records.read("a", "CPU") is None


def test_a_place_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    records = CheckRecords(blocked)
    records.write("a", "CPU", RECORD)
    assert records.read("a", "CPU") is None


def test_what_is_held_against_is_of_the_same_mlx_or_else_the_newest() -> None:
    other = Predictions((9.0,), {}, "a")
    record = CheckRecord(RECORD.passed, {"1.3": other, "1.2": SAID})
    assert record.reference("1.2") == ("1.2", SAID)
    assert record.reference("1.4") == ("1.3", other)
    assert CheckRecord(RECORD.passed, {}).reference("1.4") is None
