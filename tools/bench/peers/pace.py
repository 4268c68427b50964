"""The bare speed of one contestant, in a process of its own that answers commands.

    python pace.py ours|mlx_lm|mlx_vlm MODEL

Run by the contestant's own Python, so it imports nothing of this project unless that is asked for.
Standard input: one JSON object a line, `{"read": 512, "write": 64}`. Standard output likewise:
first what starting took, then for each command the seconds that the prompt and the tokens took.
`{"rest": true}` gives time for what is done while nobody waits; the answer is empty.
No text is made of the tokens, and nothing stops them.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import_started_s = time.perf_counter()

# Ids of a prompt: token ids -> an iterator of generated ids, the first as soon as it is known.
Generate = Callable[[list[int], int], Iterator[Any]]
# When it was imported, when it was loaded, and what to do while it waits for the next command.
Loaded = tuple[float, float, Generate, Callable[[], None]]


def load_ours(folder: str) -> Loaded:
    """Prefill and decode as the engine calls them, without text."""
    from mlx_model.cpu_blas import prefer_openblas

    prefer_openblas()
    import threading

    import numpy as np

    from mlx_model import Engine
    from mlx_model.draft_policy import FixedDrafts
    from mlx_model.drafting import DraftedSteps
    from mlx_model.generation import PreparedPrompt, decode, prefill
    from mlx_model.messages import ReplySettings
    from mlx_model.sampling import Sampler

    imported_s = time.perf_counter()
    engine = Engine.load(folder)
    model = engine.model
    vocabulary = engine.processor.vocab_size_used

    def generate(ids: list[int], count: int) -> Iterator[int]:
        cache, cancel = model.make_cache(), threading.Event()
        prompt = np.array(ids, np.int64)
        positions = np.broadcast_to(np.arange(prompt.size), (3, prompt.size))
        reading = prefill(
            model,
            cache,
            PreparedPrompt(prompt, positions),
            engine.limits.prefill_chunk_tokens,
            cancel,
        )
        logits = finish(reading)
        sampler, steps = Sampler(ReplySettings(max_tokens=count), vocabulary), None
        if model.mtp is not None:
            steps = DraftedSteps(model, cache, sampler, FixedDrafts(0))
        return decode(model, cache, logits, sampler, frozenset(), count, 1 << 30, cancel, steps)

    def rest() -> None:
        engine.warm_up(threading.Event())

    return imported_s, time.perf_counter(), generate, rest


def finish(work: Any) -> Any:
    """Run a generator to its end; what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def load_mlx_lm(folder: str) -> Loaded:
    """Its own `generate_step` with its own defaults."""
    import mlx.core as mx

    package = importlib.import_module("mlx_lm")
    step = importlib.import_module("mlx_lm.generate").generate_step
    imported_s = time.perf_counter()
    model, _ = package.load(folder)

    def generate(ids: list[int], count: int) -> Iterator[Any]:
        for token, _ in step(mx.array(ids), model, max_tokens=count):
            yield token

    return imported_s, time.perf_counter(), generate, lambda: None


def load_mlx_vlm(folder: str) -> Loaded:
    """Its own `generate_step` with its own defaults."""
    import mlx.core as mx

    package = importlib.import_module("mlx_vlm")
    step = importlib.import_module("mlx_vlm.generate.ar").generate_step
    imported_s = time.perf_counter()
    model, _ = package.load(folder)

    def generate(ids: list[int], count: int) -> Iterator[Any]:
        for token, _ in step(mx.array([ids]), model, None, None, max_tokens=count):
            yield token

    return imported_s, time.perf_counter(), generate, lambda: None


LOADERS = {"ours": load_ours, "mlx_lm": load_mlx_lm, "mlx_vlm": load_mlx_vlm}


def measure(generate: Generate, read: int, write: int) -> dict[str, Any]:
    """Seconds for a prompt of `read` tokens and for `write` tokens after the first."""
    ids = [(number * 37) % 997 + 3 for number in range(read)]
    started_s, processor_s = time.perf_counter(), time.process_time()
    tokens = generate(ids, write + 1)
    told = [int(next(tokens))]
    first_s, first_processor_s = time.perf_counter(), time.process_time()
    told += [int(token) for token in tokens]
    return {
        "read_s": first_s - started_s,
        "read_processor_s": first_processor_s - processor_s,
        "write_s": time.perf_counter() - first_s,
        "write_processor_s": time.process_time() - first_processor_s,
        "tokens": told,
        "peak_bytes": highest_resident_bytes(),
    }


def highest_resident_bytes() -> int:
    """The most memory that this process has had resident so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also tell what the process had that started this one
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Load, say what it took, then answer commands."""
    kind, folder = sys.argv[1:]
    imported_s, loaded_s, generate, rest = LOADERS[kind](folder)
    started = {
        "import_s": imported_s - import_started_s,
        "load_s": loaded_s - imported_s,
        "peak_bytes": highest_resident_bytes(),
    }
    print(json.dumps(started), flush=True)
    for line in sys.stdin:
        command, told = json.loads(line), {}
        if "rest" in command:
            rest()
        else:
            told = measure(generate, **command)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
