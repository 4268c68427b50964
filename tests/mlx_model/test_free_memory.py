"""Free memory as both systems tell it."""

import pytest

from mlx_model.free_memory import free_memory_bytes, from_meminfo, from_vm_stat

VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                          200000.
Pages speculative:                         5000.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                           7000.
"Translation faults":                  99999999.
"""


def test_macos_counts_what_nobody_uses() -> None:
    assert from_vm_stat(VM_STAT) == (10000 + 200000 + 5000) * 16384


def test_linux_says_it_itself() -> None:
    told = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n"
    assert from_meminfo(told) == 20_000_000 * 1024


def test_anything_else_is_refused() -> None:
    with pytest.raises(ValueError, match="MemAvailable"):
        from_meminfo("MemTotal: 1 kB")
    with pytest.raises(ValueError, match="page size"):
        from_vm_stat("")


def test_this_machine_has_some() -> None:
    free = free_memory_bytes()
    assert free is not None
    assert free > 1 << 20
