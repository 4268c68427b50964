"""What is measured: each function makes one group of rows, as plain data that JSON can hold.

Contestants take turns within every round, so that other work on the machine falls on all of them.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from mlx_model.processor import Processor, load_processor
from tools.bench.peers.contestants import CHANGING, ROOT, RUNNING, TALKING, Contestant
from tools.bench.peers.conversation import Message, assistant, picture, question, user
from tools.bench.peers.talking import Talker, Turn

Rows = dict[str, Any]

QUESTION_TOKENS = 105
_CHECKED_TURNS = (2, 6, 20)
# What the first question of a process may have in common with the one that warms it up.
_SHARED_TOKENS = 8
_READ_AHEAD = "add a picture, read ahead"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, on which checkpoint, with which Python for the peers."""

    model: Path
    peers_python: Path
    rounds: int = 5
    read_tokens: int = 512
    write_tokens: int = 64
    turns: int = 20
    answer_tokens: int = 16

    def processor(self) -> Processor:
        """The checkpoint's own."""
        return load_processor(self.model)


class Pace:
    """One contestant's process that measures bare speed."""

    def __init__(self, who: Contestant, plan: Plan) -> None:
        self.process_started_s = time.perf_counter()
        self._process = subprocess.Popen(
            who.command("pace", plan.peers_python, who.kind, plan.model),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self.started = self._answer()

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def measure(self, read: int, write: int) -> dict[str, Any]:
        """Seconds for so many tokens of prompt, and for so many after the first of the reply."""
        return self._told({"read": read, "write": write})

    def rest(self) -> None:
        """Let it do what it does while nobody waits."""
        self._told({"rest": True})

    def _told(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def speed(plan: Plan) -> Rows:
    """Prefill and decode, tokens a second."""
    measured: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        running = {who.name: stack.enter_context(Pace(who, plan)) for who in RUNNING}
        for number in range(plan.rounds + 1):
            for name in running if number % 2 else reversed(running):
                told = running[name].measure(plan.read_tokens, plan.write_tokens)
                running[name].rest()
                measured.setdefault(name, []).append(told)
    rows: Rows = {}
    for name, values in measured.items():
        kept = values[1:]  # the first round compiles
        rows[name] = {
            "read_tokens_per_s": [plan.read_tokens / value["read_s"] for value in kept],
            "read_tokens_per_processor_s": [
                plan.read_tokens / value["read_processor_s"] for value in kept
            ],
            "write_tokens_per_s": [plan.write_tokens / value["write_s"] for value in kept],
            "write_tokens_per_processor_s": [
                plan.write_tokens / value["write_processor_s"] for value in kept
            ],
            "peak_bytes": values[-1]["peak_bytes"],
            "same_tokens_as_ours": _shared(values[-1]["tokens"], measured["ours"][-1]["tokens"]),
        }
    return rows


def start(plan: Plan) -> Rows:
    """From starting a process to its first token: import, load, all of it."""
    rows: Rows = {who.name: [] for who in RUNNING}
    for number in range(max(2, plan.rounds // 2)):
        for who in RUNNING if number % 2 else reversed(RUNNING):
            with Pace(who, plan) as pace:
                pace.measure(16, 0)
                whole_s = time.perf_counter() - pace.process_started_s
                rows[who.name].append(pace.started | {"first_token_s": whole_s})
    return rows


def turns(plan: Plan) -> Rows:
    """One picture, then question after question; every turn of every contestant.

    The same conversation some times over, for medians of the times.
    """
    with TemporaryDirectory(prefix="peers-") as folder:
        shown = picture(Path(folder), 1)
        runs = [_conversations(plan, shown) for _ in range((plan.rounds + 1) // 2)]
        rows = runs[-1]
        for who in TALKING:
            row = rows[who.name]
            for number, turn in enumerate(row["turns"]):
                for time_s in ("first_word_s", "whole_s"):
                    turn[time_s] = median(run[who.name]["turns"][number][time_s] for run in runs)
            history = row.pop("history")
            numbers = [number for number in _CHECKED_TURNS if number <= plan.turns]
            cold = _cold(who, plan, [history[: 2 * number - 1] for number in numbers])
            row["same_as_cold"] = {
                number: turn.text == history[2 * number - 1]["content"]
                for number, turn in zip(numbers, cold, strict=True)
            }
    return rows


def _conversations(plan: Plan, shown: Path) -> Rows:
    """Every contestant's, turn by turn, each contestant in turn."""
    processor = plan.processor()
    with ExitStack() as stack:
        talkers = [_started(stack, who, plan) for who in TALKING]
        (ours,) = (talker for talker in talkers if talker.who.is_ours)
        rows: Rows = {talker.who.name: {"turns": [], "history": []} for talker in talkers}
        for number in range(1, plan.turns + 1):
            text = question(processor, number, QUESTION_TOKENS)
            for talker in talkers if number % 2 else reversed(talkers):
                ours.wait_until_idle()  # or its idle work would be in the way of whoever is next
                history: list[Message] = rows[talker.who.name]["history"]
                seen = (shown,) if number == 1 and talker.who.sees else ()
                history.append(user(text, *seen))
                turn = talker.ask(history, plan.answer_tokens)
                rows[talker.who.name]["turns"].append(asdict(turn))
                history.append(assistant(turn.text))
    return rows


def changes(plan: Plan, length: int = 6) -> Rows:
    """After six turns: regenerate, edit the fourth question, go back, add a picture, restart."""
    rows: Rows = {}
    processor = plan.processor()
    with TemporaryDirectory(prefix="peers-") as folder:
        pictures = [picture(Path(folder), number) for number in (2, 3, 4)]
        for who in CHANGING:
            states = Path(folder) / who.name
            rows[who.name] = _changes(who, plan, processor, pictures, states, length)
    return rows


def _changes(
    who: Contestant,
    plan: Plan,
    processor: Processor,
    pictures: Sequence[Path],
    states: Path,
    length: int,
) -> Rows:
    history: list[Message] = []
    told: dict[str, Turn] = {}
    asked: dict[str, list[Message]] = {}

    def ask(what: str, messages: Sequence[Message]) -> Turn:
        asked[what] = list(messages)
        if who.is_ours:
            talker.wait_until_idle()
        told[what] = talker.ask(messages, plan.answer_tokens)
        return told[what]

    with Talker(who, plan.model, plan.peers_python, states) as talker:
        talker.warm_up()
        for number in range(1, length + 1):
            seen = (pictures[0],) if number == 1 and who.sees else ()
            text = question(processor, 100 + number, QUESTION_TOKENS)
            history.append(user(text, *seen))
            turn = ask("follow up", history)
            history.append(assistant(turn.text))
        ask("regenerate", history[:-1])
        edited = [*history[:6], user(question(processor, 200, QUESTION_TOKENS))]
        ask("edit the fourth of six questions", edited)
        more = [*history, user(question(processor, 201, QUESTION_TOKENS))]
        ask("go back to the branch before it", more)
        if who.sees:
            more.append(assistant(told["go back to the branch before it"].text))
            for what, seen in (("add a picture", pictures[1]), (_READ_AHEAD, pictures[2])):
                looking = [*more, user(question(processor, 202, 20), seen)]
                if what != _READ_AHEAD or talker.read_ahead(looking):
                    ask(what, looking)
    with Talker(who, plan.model, plan.peers_python, states) as talker:
        talker.warm_up()
        ask("restart, then go on", [*history, user(question(processor, 203, QUESTION_TOKENS))])
    cold = dict(zip(asked, _cold(who, plan, list(asked.values())), strict=True))
    return {
        what: asdict(turn)
        | {"same_as_cold": cold[what].text == turn.text, "cold_s": cold[what].first_word_s}
        for what, turn in told.items()
    }


def _cold(who: Contestant, plan: Plan, questions: Sequence[Sequence[Message]]) -> list[Turn]:
    """The same questions to processes that have kept nothing."""
    turns: list[Turn] = []
    with ExitStack() as stack:
        talker: Talker | None = None
        for messages in questions:
            if talker is None or who.is_ours:
                stack.close()
                talker = stack.enter_context(
                    Talker(who.without_memory(), plan.model, plan.peers_python)
                )
                talker.warm_up()
            turns.append(talker.ask(messages, plan.answer_tokens))
            assert turns[-1].read_again >= turns[-1].prompt_tokens - _SHARED_TOKENS
    return turns


def _started(stack: ExitStack, who: Contestant, plan: Plan) -> Talker:
    talker = stack.enter_context(Talker(who, plan.model, plan.peers_python))
    talker.warm_up()
    return talker


def _shared(tokens: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two replies begin with in common."""
    pairs = zip(tokens, others, strict=True)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), len(tokens))


GROUPS: Mapping[str, Callable[[Plan], Rows]] = {
    "speed": speed,
    "start": start,
    "turns": turns,
    "changes": changes,
}
