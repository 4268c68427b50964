"""What it costs to keep a state, to come back to it and to park rows, beside reading again.

Random tokens, the model alone: python -m tools.bench.state_cost [--model DIR]
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_model.cache import SequenceCache
from mlx_model.model import Model
from mlx_model.weights import load_model

DEMO_MODEL = Path(__file__).parents[2] / "assets" / "demo_model"
CHUNK = 128
LENGTHS = (256, 1024, 4096)
_HIGHEST_ID = 1000


def read(model: Model, ids: np.ndarray) -> SequenceCache:
    """The ids, chunk after chunk, into a sequence of their own."""
    cache = model.make_cache()
    for start in range(0, len(ids), CHUNK):
        logits = model.last_logits(ids[None, start : start + CHUNK], cache)
        mx.eval(logits, cache.arrays())
    return cache


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median of some runs."""
    times_s = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - started_s)
    return 1000 * statistics.median(times_s)


def measure(model: Model, length: int, rounds: int) -> dict[str, float]:
    """One line of the table, in milliseconds and kilobytes."""
    ids = np.random.default_rng(length).integers(0, _HIGHEST_ID, length)
    cache = read(model, ids)
    state, half = cache.checkpoint(), length // 2
    tail = cache.copy_rows(half, length)
    return {
        "read again": milliseconds(lambda: read(model, ids), max(1, rounds // 5)),
        "keep a state": milliseconds(cache.checkpoint, rounds),
        "come back to it": milliseconds(lambda: cache.restore(state), rounds),
        "park half of the rows": milliseconds(lambda: cache.copy_rows(half, length), rounds),
        "put them back": milliseconds(lambda: cache.write_rows(half, tail), rounds),
        "state, kB": state.nbytes / 1e3,
        "rows of a token, kB": tail.nbytes / (length - half) / 1e3,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    model = load_model(options.model)
    columns = [measure(model, length, options.rounds) for length in (LENGTHS[0], *LENGTHS)][1:]
    print(f"{'tokens (times in ms)':<24}" + "".join(f"{length:>10}" for length in LENGTHS))
    for name in columns[0]:
        print(f"{name:<24}" + "".join(f"{column[name]:>10.3f}" for column in columns))
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
