"""The catalogue of planted bugs stays plantable, and a bug that no test notices is told."""

from collections import Counter
from pathlib import Path

import pytest

from tools.mutants.catalogue import Mutant, read_catalogue, readme_table
from tools.mutants.plant import first_red, judge_all, source_copies

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = read_catalogue()


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: f"{mutant.area}/{mutant.name}")
def test_a_bug_can_still_be_planted(mutant: Mutant) -> None:
    assert mutant.fault(ROOT) is None


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(CATALOGUE) >= 20
    names = Counter((mutant.area, mutant.name) for mutant in CATALOGUE)
    assert max(names.values()) == 1, names.most_common(1)


def test_the_readme_lists_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_table(CATALOGUE) in readme, "run `make tree`"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree whose one module has one test."""
    (tmp_path / "mlx_model").mkdir()
    (tmp_path / "mlx_model" / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sums.py").write_text(
        "from mlx_model.sums import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n"
    )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    return tmp_path


def bug(old: str, new: str) -> Mutant:
    return Mutant("sums", "a-bug", "A bug", "mlx_model/sums.py", old, new, ("tests/test_sums.py",))


def test_caught_survived_and_not_plantable_are_told_apart(tree: Path) -> None:
    mutants = [
        bug("a + b", "a - b"),
        bug("a + b", "a * b"),
        bug("a + c", "a - c"),
        bug("a + b", "a +"),
        bug("def add", "def plus"),
    ]
    with source_copies(tree, 2) as copies:
        assert first_red(copies[0], mutants) is None
        outcomes = list(judge_all(copies, mutants))
        assert [outcome.mutant for outcome in outcomes] == mutants
    caught, survived, absent, broken, unimportable = outcomes
    assert caught.caught
    assert caught.detail == "tests/test_sums.py::test_add"
    assert not survived.caught
    assert "1 passed" in survived.detail
    assert not absent.caught
    assert "0 times" in absent.detail
    assert not broken.caught
    assert "no longer be Python" in broken.detail
    # Tests that cannot even be read have judged nothing.
    assert not unimportable.caught
    assert (tree / "mlx_model" / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"


def test_a_test_that_is_red_without_any_bug_is_named(tree: Path) -> None:
    (tree / "tests" / "test_sums.py").write_text("def test_add():\n    assert False\n")
    with source_copies(tree, 1) as (copy,):
        assert first_red(copy, [bug("a + b", "a - b")]) == "tests/test_sums.py::test_add"
