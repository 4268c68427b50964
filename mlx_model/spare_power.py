"""Whether this machine has strength to spare for work that nobody waits for.

It has none on a battery that runs low, in low-power mode, and while programs fight for memory. What
the system does not tell counts as no reason to stop. Knows no model and no mlx.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

# Below this a person has other plans with it.
LOW_BATTERY_PERCENT = 40
# In how many of a hundred seconds some program has waited for memory.
_MOST_STALLED_PERCENT = 10.0
# Asking takes some milliseconds on macOS, and chunks of a prompt may come faster.
_ASK_EVERY_S = 5.0

_PMSET = "/usr/bin/pmset"
_SYSCTL = "/usr/sbin/sysctl"


class Leave(threading.Event):
    """Set by whoever wants the work to stop, and by itself when there is no strength to spare."""

    def __init__(self, cancel: threading.Event, may_go_on: Callable[[], bool]) -> None:
        super().__init__()
        self._cancel = cancel
        self._may_go_on = may_go_on

    def is_set(self) -> bool:
        """Whether to stop now."""
        return self._cancel.is_set() or not self._may_go_on()


class SparePower:
    """Asks the system, but not more often than every few seconds."""

    def __init__(self, ask: Callable[[], bool] | None = None) -> None:
        self._ask = ask or has_spare_power
        self._asked_s: float | None = None
        self._answer = True

    def __call__(self) -> bool:
        now_s = time.monotonic()
        if self._asked_s is None or now_s - self._asked_s >= _ASK_EVERY_S:
            self._answer, self._asked_s = self._ask(), now_s
        return self._answer


def has_spare_power() -> bool:
    """Ask the system now."""
    if sys.platform == "darwin":
        return mac_has_spare_power(
            _told(_PMSET, "-g", "batt"),
            _told(_PMSET, "-g"),
            _told(_SYSCTL, "-n", "kern.memorystatus_vm_pressure_level"),
        )
    return linux_has_spare_power(Path("/"))


def mac_has_spare_power(battery: str, settings: str, pressure: str) -> bool:
    """By what `pmset -g batt`, `pmset -g` and the kernel's memory pressure level say."""
    percent = re.search(r"(\d+)%; discharging", battery)
    if percent is not None and int(percent[1]) < LOW_BATTERY_PERCENT:
        return False
    if re.search(r"^\s*lowpowermode\s+1\b", settings, re.MULTILINE):
        return False
    return pressure.strip() in ("", "1")  # 2 is a warning, 4 critical


def linux_has_spare_power(root: Path) -> bool:
    """By what the kernel's files below `root` say."""
    for supply in (root / "sys/class/power_supply").glob("*"):
        if _text(supply / "type") != "Battery" or _text(supply / "scope") == "Device":
            continue
        percent = _text(supply / "capacity")
        is_low = percent.isdecimal() and int(percent) < LOW_BATTERY_PERCENT
        if is_low and _text(supply / "status") == "Discharging":
            return False
    if _text(root / "sys/firmware/acpi/platform_profile") == "low-power":
        return False
    stalled = re.search(r"^some avg10=([\d.]+)", _text(root / "proc/pressure/memory"))
    return stalled is None or float(stalled[1]) < _MOST_STALLED_PERCENT


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _told(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
