"""How much memory other programs leave free at the moment. Knows no model and no mlx."""

import re
import subprocess
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# What macOS hands out without taking anything from a program that uses it.
_UNUSED_PAGES = ("Pages free", "Pages inactive", "Pages speculative")


def free_memory_bytes() -> int | None:
    """What a program can have now without anything being swapped out; None where nobody says."""
    try:
        if sys.platform == "darwin":
            told = subprocess.run(
                ["/usr/bin/vm_stat"], capture_output=True, text=True, check=True, timeout=5
            ).stdout
            return from_vm_stat(told)
        return from_meminfo(_MEMINFO.read_text(encoding="ascii"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def from_vm_stat(told: str) -> int:
    """Free bytes by the output of macOS' vm_stat; ValueError if it is something else."""
    size = _number(r"page size of (\d+) bytes", told)
    return size * sum(_number(rf"{name}:\s+(\d+)\.", told) for name in _UNUSED_PAGES)


def from_meminfo(told: str) -> int:
    """Free bytes by Linux' /proc/meminfo; ValueError if it is something else."""
    return 1024 * _number(r"MemAvailable:\s+(\d+) kB", told)


def _number(pattern: str, told: str) -> int:
    found = re.search(pattern, told)
    if found is None:
        raise ValueError(f"nothing like {pattern}")
    return int(found[1])
