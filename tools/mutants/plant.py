"""Plants one bug at a time in a copy of the source tree and runs the tests that must notice it.

The working tree is never touched: everything happens in temporary folders, one for each job.
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.catalogue import Mutant

_COPIED = ("app", "mlx_model", "tests", "tools", "pyproject.toml")
_LINKED = ("assets",)
_PYTEST = ("-m", "pytest", "-m", "not slow", "-q", "-x", "--tb=no", "-p", "no:cacheprovider")
# Statuses of pytest: everything passed, some test failed. Any other says that nothing was judged.
_PASSED, _FAILED = 0, 1
_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one planted bug; `detail` is the test that failed, or what went wrong."""

    mutant: Mutant
    caught: bool
    detail: str


class SourceCopy:
    """A copy of the source tree in which bugs are planted and taken out again."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        for name in _COPIED:
            source, copy = root / name, folder / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copyfile(source, copy)
        for name in _LINKED:
            if (root / name).is_dir():
                shutil.copytree(root / name, folder / name, copy_function=os.symlink)

    def judge(self, mutant: Mutant) -> Outcome:
        """Plant the bug, run its tests up to the first failure, and take it out."""
        fault = mutant.fault(self.folder)
        if fault is not None:
            return Outcome(mutant, False, fault)
        module = self.folder / mutant.module
        source = module.read_text(encoding="utf-8")
        _replace(module, mutant.planted(source))
        try:
            status, detail = self.run_tests(mutant.tests)
        finally:
            _replace(module, source)
        return Outcome(mutant, status == _FAILED, detail)

    def run_tests(self, tests: Sequence[str], limit_s: float = _LIMIT_S) -> tuple[int, str]:
        """Status of pytest, and its first failure or last line; -1 after `limit_s`."""
        # Python tells stale bytecode by the second and the size, and a bug may change neither.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "QT_QPA_PLATFORM": "offscreen"}
        environment.pop("PYTHONPATH", None)
        try:
            run = subprocess.run(
                [sys.executable, *_PYTEST, *tests],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            return -1, f"the tests took longer than {limit_s:.0f} s"
        lines = run.stdout.splitlines() or run.stderr.splitlines() or [""]
        failures = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
        detail = failures[0].split(" ", 1)[1].partition(" - ")[0] if failures else lines[-1]
        return run.returncode, detail


def _replace(file: Path, text: str) -> None:
    """Put a new file in its place: the old one may be a link into the working tree."""
    file.unlink()
    file.write_text(text, encoding="utf-8")


@contextmanager
def source_copies(root: Path, count: int) -> Iterator[list[SourceCopy]]:
    """So many copies of the tree under `root`, which go with their folder."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folders = [Path(name) / str(number) for number in range(count)]
        for folder in folders:
            folder.mkdir()
        yield [SourceCopy(root, folder) for folder in folders]


def first_red(copy: SourceCopy, mutants: Sequence[Mutant]) -> str | None:
    """The first test that fails without any bug: what follows would say nothing. None if none."""
    tests = sorted({test for mutant in mutants for test in mutant.test_files})
    status, detail = copy.run_tests(tests, _LIMIT_S * len(tests))
    return None if status == _PASSED else detail


def judge_all(copies: Sequence[SourceCopy], mutants: Sequence[Mutant]) -> Iterator[Outcome]:
    """One outcome for each bug, in order, as many at once as there are copies."""
    free: queue.Queue[SourceCopy] = queue.Queue()
    for copy in copies:
        free.put(copy)

    def judge(mutant: Mutant) -> Outcome:
        copy = free.get()
        try:
            return copy.judge(mutant)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(judge, mutants)
