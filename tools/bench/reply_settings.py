"""What the settings of a reply cost: tokens a second with each, beside the bare model.

python -m tools.bench.reply_settings [--model DIR] [--tokens 200] [--rounds 10]

The baseline of the same run is a loop that takes the likeliest token and does nothing else: no
text, no events, no settings. Rounds go through all rows forwards and backwards in turn, and each
row is compared within its round, since other work on the machine comes and goes. Processor time is
what the process itself took, on all its threads; it suffers less from that work than the clock.
"""

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_model import Engine, Finished, Message, ReplyRequest, ReplySettings
from mlx_model.__main__ import DEMO_MODEL
from tools.bench.long_reply import QUESTION, load_talkative

SETTINGS: dict[str, dict[str, float | int | tuple[str, ...]]] = {
    "reply, likeliest token": {},
    "temperature": {"temperature": 1.0},
    "temperature, top-k, top-p": {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
    "temperature, min-p": {"temperature": 1.0, "min_p": 0.05},
    "presence penalty": {"presence_penalty": 1.5},
    "repetition penalty": {"repetition_penalty": 1.1},
    "four stop strings": {"stop": ("\n\nUser:", "</answer>", "###", "The end.")},
}
MESSAGES = (Message.text("user", QUESTION),)


def bare(engine: Engine, tokens: int) -> None:
    """The model alone, one likeliest token after the other."""
    model = engine.model
    cache = model.make_cache()
    ids = engine.processor.prompt(MESSAGES).input_ids[None]
    token = mx.argmax(model.last_logits(ids.astype(np.int64), cache)[0])
    for _ in range(tokens):
        token = mx.argmax(model.last_logits(token.reshape(1, 1), cache)[0])
        mx.eval(token)


def reply(engine: Engine, tokens: int, **chosen: float | int | tuple[str, ...]) -> None:
    """A whole reply through the engine, which has to read its prompt each time."""
    engine.forget()
    settings = ReplySettings(max_tokens=tokens, seed=1, **chosen)  # type: ignore[arg-type]
    *_, finished = engine.reply(ReplyRequest(MESSAGES, settings), threading.Event())
    assert isinstance(finished, Finished)
    assert finished.stats.generated_tokens == tokens


def rates(work: Callable[[], None], tokens: int) -> tuple[float, float]:
    """Tokens a second by the clock, and by the processor time of this process."""
    clock_s, processor_s = time.perf_counter(), time.process_time()
    work()
    return tokens / (time.perf_counter() - clock_s), tokens / (time.process_time() - processor_s)


def measure(engine: Engine, tokens: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """The rates of each row in each round."""
    rows: dict[str, Callable[[], None]] = {"model alone": lambda: bare(engine, tokens)}
    for name, chosen in SETTINGS.items():
        rows[name] = lambda chosen=chosen: reply(engine, tokens, **chosen)  # type: ignore[misc]
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name in rows if number % 2 else reversed(rows):
            measured[name].append(rates(rows[name], tokens))
    return {name: values[1:] for name, values in measured.items()}  # the first round warms up


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    measured = measure(load_talkative(options.model), options.tokens, options.rounds)
    baseline = measured["model alone"]
    print(f"{'':<28} {'tokens/s':>9} {'of the model alone':>19} {'in processor time':>18}")
    for name, values in measured.items():
        clock, processor = (
            statistics.median(
                value[i] / base[i] for value, base in zip(values, baseline, strict=True)
            )
            for i in (0, 1)
        )
        rate = statistics.median(value[0] for value in values)
        print(f"{name:<28} {rate:>9.0f} {clock:>18.0%} {processor:>18.0%}")
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
