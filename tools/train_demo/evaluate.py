"""Measures the demo model's abilities from file to text, through the same engine the app uses.

    python -m tools.train_demo.evaluate assets/demo_model --scenes 1000 --shuffled
    python -m tools.train_demo.evaluate assets/demo_model --recipes build/train_demo/checkpoint

Prints one table: a row an ability, a column a checkpoint. `--recipes` adds columns for a checkpoint
in fp32 and for copies of it that our converter makes by each recipe; `--shuffled` adds one for the
first checkpoint on pictures and clips whose pixels were shuffled. Below it stand how often
questions of its world were waved off as being outside, and how many first drafts were right.
"""

import argparse
import multiprocessing
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlx_model import Engine, Finished, ReplyRequest, ReplySettings, TextDelta, ThinkingDelta
from mlx_model.convert import convert
from tools.train_demo.cases import Case, cases
from tools.train_demo.outside_questions import OUTSIDE_ANSWER, held_out_questions

BARS = {
    "colour": 0.95,
    "count": 0.95,
    "presence": 0.95,
    "list": 0.85,
    "direction": 0.95,
    "recall": 0.95,
    "small talk": 0.95,
    "word": 0.85,
    "page": 0.75,
    "box": 0.85,
    "point": 0.9,
    "time": 0.85,
    "happenings": 0.85,
    "two pictures": 0.85,
    "picture and clip": 0.9,
    "two facts": 0.9,
    "thinking": 0.9,
    "calculator": 0.9,
    "outside": 0.9,
}
# Those that pixels do not decide; an answer can agree with a thought about noise as well.
BLIND = ("recall", "small talk", "two facts", "thinking", "calculator", "outside")
WAVED_OFF_BAR, DRAFTS_BAR = 0.02, 0.6
RECIPES = (("uniform", 4), ("mixed", 4), ("uniform", 8))
# Cases that one process asks before the next lot.
LOT = 30


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over a number of cases; drafts are the first ones after each token."""

    asked: int = 0
    right: int = 0
    waved_off: int = 0
    drafted: int = 0
    accepted: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.asked + other.asked,
            self.right + other.right,
            self.waved_off + other.waved_off,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
        )

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.asked


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine said to one question."""

    thought: str
    answer: str
    drafted: int
    accepted: int


def reply(engine: Engine, case: Case) -> Reply:
    """The engine's greedy reply, one draft ahead if it has a draft head."""
    settings = ReplySettings(max_tokens=160, thinking=case.thinking, drafts=1)
    thought = answer = ""
    drafted = accepted = 0
    request = ReplyRequest(case.messages, settings, case.tools)
    for event in engine.reply(request, threading.Event()):
        if isinstance(event, TextDelta):
            answer += event.text
        elif isinstance(event, ThinkingDelta):
            thought += event.text
        elif isinstance(event, Finished):
            drafted, accepted = event.stats.drafted_tokens, event.stats.accepted_drafts
    return Reply(thought, answer.strip(), drafted, accepted)


def judge(engine: Engine, case: Case) -> Score:
    """Asks one case, and what comes after it if the answer is right."""
    said = reply(engine, case)
    right = case.judge(said.thought, said.answer)
    waved_off = said.answer == OUTSIDE_ANSWER
    if not (right and case.then):
        return Score(1, right, waved_off, said.drafted, said.accepted)
    after = judge(engine, case.then)
    drafted, accepted = said.drafted + after.drafted, said.accepted + after.accepted
    return Score(1, after.right, waved_off, drafted, accepted)


def score(engine: Engine, ability: str, numbers: range, shuffled: bool = False) -> Score:
    """The cases of an ability with these numbers."""
    with tempfile.TemporaryDirectory() as folder:
        scores = [judge(engine, c) for c in cases(ability, numbers, Path(folder), shuffled)]
    return sum(scores, Score())


_engine: dict[Path, Engine] = {}


def _score_lot(model: Path, ability: str, numbers: range, shuffled: bool) -> Score:
    """In a process of its own, which keeps its engine."""
    if model not in _engine:
        _engine.clear()
        _engine[model] = Engine.load(model)
    return score(_engine[model], ability, numbers, shuffled)


class Judges:
    """Processes that share the work."""

    def __init__(self, jobs: int) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def score(self, model: Path, ability: str, count: int, shuffled: bool = False) -> Score:
        """`count` cases of an ability; of questions outside the world there are a hundred."""
        if ability == "outside":
            count = min(count, len(held_out_questions()))
        lots = [range(start, min(start + LOT, count)) for start in range(0, count, LOT)]
        arguments = [(model, ability, lot, shuffled) for lot in lots]
        return sum(self._pool.starmap(_score_lot, arguments, chunksize=1), Score())


def copies(source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The checkpoint itself, and what the converter makes of it by each recipe."""
    yield "fp32", source
    for recipe, bits in RECIPES:
        name = f"{recipe}, {bits} bits"
        convert(source, folder / name, recipe, bits)
        yield name, folder / name


def print_table(
    judges: Judges, columns: dict[str, tuple[Path, int, bool]], abilities: list[str]
) -> None:
    """`columns`: model, number of cases, and whether pixels are shuffled, by title."""
    print("| ability | bar | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    totals: dict[str, Score] = {}
    for ability in abilities:
        shares = []
        for title, (model, count, shuffled) in columns.items():
            if shuffled and ability in BLIND:
                shares.append("")
                continue
            scored = judges.score(model, ability, count, shuffled)
            shares.append(f"{100 * scored.accuracy:.1f} %")
            if ability != "outside" and not shuffled:
                totals[title] = totals.get(title, Score()) + scored
        print(f"| {ability} | {100 * BARS[ability]:.0f} % | {' | '.join(shares)} |", flush=True)
    for name, bar, top, bottom in (
        ("waved off", f"<= {100 * WAVED_OFF_BAR:.0f} %", "waved_off", "asked"),
        ("first drafts accepted", f"{100 * DRAFTS_BAR:.0f} %", "accepted", "drafted"),
    ):
        shares = []
        for title in columns:
            total = totals.get(title)
            below = getattr(total, bottom) if total else 0
            shares.append(f"{100 * getattr(total, top) / below:.1f} %" if below else "")
        print(f"| {name} | {bar} | {' | '.join(shares)} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--abilities", nargs="*", default=list(BARS))
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--control-scenes", type=int, default=200, help="with shuffled pixels")
    parser.add_argument("--recipes", type=Path, help="the fp32 checkpoint")
    parser.add_argument("--recipe-scenes", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    columns = {str(arguments.model): (arguments.model, arguments.scenes, False)}
    if arguments.shuffled:
        columns["shuffled pixels"] = (arguments.model, arguments.control_scenes, True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.recipes:
            for title, copy in copies(arguments.recipes, Path(folder)):
                columns[title] = (copy, arguments.recipe_scenes, False)
        with Judges(arguments.jobs) as judges:
            print_table(judges, columns, arguments.abilities)


if __name__ == "__main__":
    main()
