"""What drafts bring: tokens a second with and without, of the same replies in the same run.

    python -m tools.bench.drafts [--model DIR] [--rounds 5] [--tokens 60] [--untrained-head]

Asks about the sample picture and clip, with no drafts, with a fixed number, and with as many as the
engine finds to pay. Rounds go through all rows forwards and backwards in turn, and each row is
compared within its round, since other work on the machine comes and goes. Texts that differ end
the program. Below that: what a window costs beside a single step, and what it would cost if the
states were made once at its end, to be made again after a wrong draft, instead of one by one.
`--untrained-head` gives a checkpoint without a draft head one that is never right: what is left is
what drafts cost.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_model import (
    Engine,
    Finished,
    ImagePart,
    Message,
    ReplyRequest,
    ReplySettings,
    TextDelta,
    TextPart,
    VideoPart,
)
from mlx_model.__main__ import DEMO_MODEL
from mlx_model.draft_head import DraftHead

SAMPLES = DEMO_MODEL.parent / "samples"
PICTURE, CLIP = ImagePart(SAMPLES / "shapes.png"), VideoPart(SAMPLES / "clip.mp4")
QUESTIONS = (
    (PICTURE, TextPart("List the shapes from left to right.")),
    (PICTURE, TextPart("What do you see?")),
    (CLIP, TextPart("What happens?")),
    (TextPart("Who are you?"),),
)
ROWS: dict[str, int | None] = {
    "no drafts": 0,
    "1 draft": 1,
    "2 drafts": 2,
    "3 drafts": 3,
    "as many as pay": None,
}


@dataclass
class Sums:
    """What the replies of one row in one round came to."""

    tokens: int = 0
    seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0


def ask_all(engine: Engine, drafts: int | None, tokens: int, texts: list[str]) -> Sums:
    """All questions; the answers go to `texts`."""
    sums = Sums()
    for parts in QUESTIONS:
        settings = ReplySettings(max_tokens=tokens, drafts=drafts)
        request = ReplyRequest((Message("user", parts),), settings)
        text = ""
        for event in engine.reply(request, threading.Event()):
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, Finished):
                stats = event.stats
                if stats.decode_tokens_per_s:
                    sums.tokens += stats.generated_tokens - 1
                    sums.seconds += (stats.generated_tokens - 1) / stats.decode_tokens_per_s
                sums.drafted += stats.drafted_tokens
                sums.accepted += stats.accepted_drafts
        texts.append(text)
    return sums


def measure(engine: Engine, rounds: int, tokens: int) -> dict[str, list[Sums]]:
    """The sums of each row in each round; exits if a text depends on the drafts."""
    measured: dict[str, list[Sums]] = defaultdict(list)
    answers: list[str] = []
    ask_all(engine, 0, tokens, answers)
    for number in range(rounds + 1):
        for name in ROWS if number % 2 else reversed(ROWS):
            texts: list[str] = []
            measured[name].append(ask_all(engine, ROWS[name], tokens, texts))
            if texts != answers:
                sys.exit(f"With {name} the text is another one: {texts} instead of {answers}")
    return {name: measured[name][1:] for name in ROWS}  # the first round warms up


def print_rows(measured: dict[str, list[Sums]]) -> None:
    """The first table."""
    print(f"{'':<16} {'tokens/s':>9} {'beside none':>12} {'drafts right':>13}")
    baseline = measured["no drafts"]
    for name, rounds in measured.items():
        rate = statistics.median(sums.tokens / sums.seconds for sums in rounds)
        ratio = statistics.median(
            none.seconds / sums.seconds for sums, none in zip(rounds, baseline, strict=True)
        )
        drafted, accepted = (
            sum(getattr(sums, what) for sums in rounds) for what in ("drafted", "accepted")
        )
        right = f"{accepted / drafted:.0%} of {drafted}" if drafted else ""
        print(f"{name:<16} {rate:>9.0f} {ratio:>11.2f}x {right:>13}")


def print_windows(engine: Engine) -> None:
    """The second table."""
    model = engine.model
    cache = model.make_cache()
    ids = np.random.default_rng(1).integers(0, 200, (1, 300))
    mx.eval(model.last_logits(ids, cache), cache.arrays())

    def kept(tokens: mx.array) -> list[mx.array]:
        hidden, marks = model.step(tokens, cache)
        return [
            model.logits(hidden),
            *(
                array
                for mark in marks
                for pair in mark.layers
                for array in pair
                if array is not None
            ),
        ]

    def at_the_end(tokens: mx.array) -> list[mx.array]:
        head, model.mtp = model.mtp, None
        logits = model(tokens, cache=cache)
        model.mtp = head
        return [logits, *cache.arrays()]

    def seconds(run: Callable[[mx.array], list[mx.array]], count: int) -> float:
        tokens = mx.array(ids[:, :count])
        taken = []
        for _ in range(60):
            mark = cache.mark()
            started_s = time.perf_counter()
            mx.eval(run(tokens))
            taken.append(time.perf_counter() - started_s)
            cache.rewind(mark)
            del mark
        return sorted(taken)[len(taken) // 4]

    single = seconds(kept, 1)
    print(f"\na single step takes {1000 * single:.2f} ms; beside it")
    for count in (2, 3, 4):
        ratios = [seconds(run, count) / single for run in (kept, at_the_end)]
        print(
            f"a window of {count}: {ratios[0]:.2f}x with the states kept one by one, "
            f"{ratios[1]:.2f}x with those at its end alone"
        )


def give_untrained_head(engine: Engine) -> None:
    """A draft head of random weights, packed to 8 bits."""
    head = DraftHead(engine.model.config.text)
    nn.quantize(head, 64, 8, class_predicate=lambda _, layer: hasattr(layer, "to_quantized"))
    mx.eval(head.parameters())
    engine.model.mtp = head


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--untrained-head", action="store_true")
    options = parser.parse_args()
    engine = Engine.load(options.model)
    if options.untrained_head:
        give_untrained_head(engine)
    if engine.model.mtp is None:
        sys.exit(f"The model in {options.model} has no draft head.")
    engine.warm_up(threading.Event())  # as it is whenever nobody has been there for a while
    print_rows(measure(engine, options.rounds, options.tokens))
    print_windows(engine)
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
