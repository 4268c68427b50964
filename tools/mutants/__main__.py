"""Plants known bugs one by one: python -m tools.mutants [NAME ...] [--jobs N] | --readme

Exit status 1 if a bug survives or can no longer be planted, 2 if the tests fail without any.
"""

import argparse
import sys
import time
from pathlib import Path

from tools.mutants.catalogue import README_BLOCK, Mutant, read_catalogue, readme_table
from tools.mutants.plant import first_red, judge_all, source_copies
from tools.readme_tree import replace_in_readme

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only bugs with one of these in area or name")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md anew")
    options = parser.parse_args()
    mutants = read_catalogue()
    if options.readme:
        return replace_in_readme(README_BLOCK, readme_table(mutants), "table of planted bugs")
    chosen = [mutant for mutant in mutants if is_wanted(mutant, options.names)]
    if not chosen:
        print(f"No bug is called {' or '.join(options.names)}.", file=sys.stderr)
        return 1
    return plant(chosen, max(1, options.jobs))


def is_wanted(mutant: Mutant, names: list[str]) -> bool:
    """Whether any of `names` is part of the bug's area and name; none wants all."""
    return not names or any(name in f"{mutant.area}/{mutant.name}" for name in names)


def plant(mutants: list[Mutant], jobs: int) -> int:
    """Plant the bugs, print one line each and a summary, and return the exit status."""
    started_s = time.monotonic()
    with source_copies(ROOT, min(jobs, len(mutants))) as copies:
        red = first_red(copies[0], mutants)
        if red is not None:
            print(f"A test fails before any bug is planted: {red}", file=sys.stderr)
            return 2
        left = 0
        for outcome in judge_all(copies, mutants):
            left += not outcome.caught
            word = "caught  " if outcome.caught else "SURVIVED"
            label = f"{outcome.mutant.area}/{outcome.mutant.name}"
            print(f"{word}  {label:44} {outcome.detail}", flush=True)
    seconds = time.monotonic() - started_s
    print(f"{len(mutants) - left} of {len(mutants)} planted bugs caught in {seconds:.0f} s")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
