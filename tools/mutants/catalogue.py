"""The catalogue of planted bugs: one TOML file for each area of the code, beside this module.

Owns reading the files, checking that each bug can still be planted, and the table in README.md.
An entry is one exact replacement in one module, or in the demo model's chat template:

    [[mutant]]
    name = "decode-position"
    bug = "After a picture, decoding counts positions from the number of tokens"
    module = "mlx_model/model.py"
    tests = ["tests/mlx_model/test_goldens.py"]
    old = "self._rotary.line(cache.next_position, tokens)"
    new = "self._rotary.line(cache.length, tokens)"

`tests` are the files, or single tests (file::test), of which at least one must fail.
"""

import ast
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_BEGIN, _END = "<!-- planted bugs, written by `make tree` -->", "<!-- end of planted bugs -->"
README_BLOCK = re.compile(f"^{re.escape(_BEGIN)}$.*?^{re.escape(_END)}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: in `module`, `new` takes the place of `old`, and one of `tests` must notice."""

    area: str
    name: str
    bug: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    def fault(self, root: Path) -> str | None:
        """Why the bug cannot be planted in the tree under `root`; None if it can."""
        file = root / self.module
        if not file.is_file():
            return f"{self.module} is not there"
        count = file.read_text(encoding="utf-8").count(self.old)
        if count != 1:
            return f"{self.module} holds the old text {count} times, not once"
        if self.new == self.old:
            return "the new text is the old one"
        try:
            if file.suffix == ".py":
                ast.parse(self.planted(file.read_text(encoding="utf-8")))
        except SyntaxError as error:
            return f"{self.module} would no longer be Python: {error}"
        missing = [test for test in self.test_files if not (root / test).is_file()]
        return f"{', '.join(missing)} is not there" if missing or not self.tests else None

    @property
    def test_files(self) -> tuple[str, ...]:
        """The files of `tests`, each once."""
        return tuple(dict.fromkeys(test.partition("::")[0] for test in self.tests))

    def planted(self, source: str) -> str:
        """The module's text with the bug in it."""
        return source.replace(self.old, self.new)


def read_catalogue(folder: Path = FOLDER) -> list[Mutant]:
    """Every planted bug, area after area in the order of their names."""
    return [
        Mutant(area=file.stem, **{**entry, "tests": tuple(entry["tests"])})
        for file in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["mutant"]
    ]


def readme_table(mutants: Sequence[Mutant]) -> str:
    """The block as it belongs into README.md: one line a bug, between the markers."""
    lines = [_BEGIN, "| What is planted | Where | Noticed by |", "|---|---|---|"]
    for mutant in mutants:
        noticed = ", ".join(f"`{Path(file).stem}`" for file in mutant.test_files)
        lines.append(f"| {mutant.bug} | `{Path(mutant.module).stem}` | {noticed} |")
    return "\n".join([*lines, _END])
