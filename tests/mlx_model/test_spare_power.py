"""Idle work stops where a person needs the machine's strength for something else."""

import threading
from pathlib import Path

import pytest

from mlx_model.engine import Engine
from mlx_model.spare_power import (
    LOW_BATTERY_PERCENT,
    Leave,
    SparePower,
    has_spare_power,
    linux_has_spare_power,
    mac_has_spare_power,
)
from tests.mlx_model.demo_reuse import DEMO, LIMITS, NEVER, PICTURE, ask, prepared, request_of, user

PLUGGED = "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t12%; charging; 1:20 remaining\n"
BATTERY = (
    "Now drawing from 'Battery Power'\n -InternalBattery-0\t{}%; discharging; 3:01 remaining\n"
)
SETTINGS = " lowpowermode         {}\n displaysleep         10\n"


@pytest.mark.parametrize(
    ("battery", "settings", "pressure", "spare"),
    [
        (PLUGGED, SETTINGS.format(0), "1\n", True),
        (BATTERY.format(LOW_BATTERY_PERCENT), SETTINGS.format(0), "1\n", True),
        (BATTERY.format(LOW_BATTERY_PERCENT - 1), SETTINGS.format(0), "1\n", False),
        (BATTERY.format(100), SETTINGS.format(1), "1\n", False),
        (PLUGGED, SETTINGS.format(1), "1\n", False),
        (PLUGGED, SETTINGS.format(0), "2\n", False),
        (PLUGGED, SETTINGS.format(0), "4\n", False),
        ("Now drawing from 'AC Power'\n", "", "", True),
        ("", "", "", True),
    ],
)
def test_a_mac_tells(battery: str, settings: str, pressure: str, spare: bool) -> None:
    assert mac_has_spare_power(battery, settings, pressure) is spare


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


BAT = "sys__class__power_supply__BAT0__"
STALLED = (
    "some avg10={} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
)


@pytest.mark.parametrize(
    ("files", "spare"),
    [
        ({}, True),
        ({BAT + "type": "Battery", BAT + "status": "Discharging", BAT + "capacity": "39"}, False),
        ({BAT + "type": "Battery", BAT + "status": "Discharging", BAT + "capacity": "40"}, True),
        ({BAT + "type": "Battery", BAT + "status": "Charging", BAT + "capacity": "3"}, True),
        (
            {
                BAT + "type": "Battery",
                BAT + "scope": "Device",  # of a mouse
                BAT + "status": "Discharging",
                BAT + "capacity": "3",
            },
            True,
        ),
        ({BAT + "type": "Battery", BAT + "status": "Discharging", BAT + "capacity": "?"}, True),
        ({"sys__firmware__acpi__platform_profile": "low-power"}, False),
        ({"sys__firmware__acpi__platform_profile": "balanced"}, True),
        ({"proc__pressure__memory": STALLED.format("9.99")}, True),
        ({"proc__pressure__memory": STALLED.format("10.00")}, False),
        ({"proc__pressure__memory": "nothing of the kind"}, True),
    ],
)
def test_linux_tells(tmp_path: Path, files: dict[str, str], spare: bool) -> None:
    put(tmp_path, **files)
    assert linux_has_spare_power(tmp_path) is spare


def test_this_machine_can_be_asked() -> None:
    assert type(has_spare_power()) is bool


def test_the_system_is_not_asked_for_every_chunk() -> None:
    asked: list[bool] = []
    power = SparePower(lambda: bool(asked.append(True)))
    assert [power() for _ in range(5)] == [False] * 5
    assert len(asked) == 1


def test_either_reason_ends_idle_work() -> None:
    cancel, strength = threading.Event(), [True]
    leave = Leave(cancel, lambda: strength[0])
    assert not leave.is_set()
    strength[0] = False
    assert leave.is_set()
    strength[0] = True
    assert not leave.is_set()
    cancel.set()
    assert leave.is_set()


def test_the_engine_works_ahead_only_with_strength_to_spare() -> None:
    engine = Engine.load(DEMO, LIMITS)
    engine.has_spare_power = lambda: False
    draft = request_of(user(PICTURE, PICTURE, "What"))
    done = prepared(engine.prepare(draft, NEVER))
    assert (done.is_complete, done.read_tokens, done.encoded_patches) == (False, 0, 0)
    assert ask(engine, user("Hello")).text, "what somebody waits for is done all the same"
    assert not prepared(engine.catch_up(NEVER)).is_complete
    chunks = iter([True, True, True, True])
    engine.has_spare_power = lambda: next(chunks, False)
    engine.forget()
    done = prepared(engine.prepare(draft, NEVER))
    assert not done.is_complete, "it stops in the middle, too"
    engine.has_spare_power = lambda: True
    assert prepared(engine.prepare(draft, NEVER)).is_complete
