"""Opens a model as the window does, asks it about the samples, and prints answers and figures.

    python -m tools.real.answers FOLDER

A process of its own, so that its memory is that of one model. With --random-weights the model is
known to make no sense: its self-check has to say so, and the answers are asked for all the same.
--quick, for models that are too large for the machine to be patient with, leaves out the self-check
and all questions but the one without a file.
"""

import argparse
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mlx_model import (
    Engine,
    Finished,
    FiresideError,
    ImagePart,
    MachineLimits,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    ReplyStats,
    SelfCheckError,
    TextDelta,
    TextPart,
    VideoPart,
    open_engine,
)
from mlx_model.byte_sizes import size_text
from mlx_model.opening import fit_of
from mlx_model.progress_line import ProgressLine

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """One question, about one file or none."""

    name: str
    question: str
    part: Part | None = None


QUESTIONS = (
    Sample("picture", "What is in the picture?", ImagePart(SAMPLES / "shapes.png")),
    Sample("clip", "What happens in the clip?", VideoPart(SAMPLES / "clip.mp4")),
    Sample("text", "Who are you?"),
)


def opened(folder: Path, random_weights: bool) -> Engine:
    """The engine, with a line about each step of opening it."""
    line = ProgressLine(sys.stderr)
    started_s = loaded_s = time.perf_counter()

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal loaded_s
        if stage == "checking" and done == 0:
            loaded_s = time.perf_counter()
        line.show(stage.capitalize(), done, total)

    nonsense = ""
    try:
        engine = open_engine(folder, on_progress=tell, check_again=True).engine
    except SelfCheckError as error:
        if not random_weights:
            raise
        nonsense = str(error)
    finally:
        line.clear()
    checked_s = time.perf_counter() - loaded_s
    if nonsense:
        print(f"Self-check: refused, as random weights must be: {nonsense} ({checked_s:.1f} s)")
        return loaded(folder)  # only now: the model that was refused is gone
    if random_weights:
        raise FiresideError("The self-check has passed a model with random weights.")
    print(f"Loading: {loaded_s - started_s:.1f} s")
    print(f"Self-check: passed ({checked_s:.1f} s)")
    return engine


def loaded(folder: Path) -> Engine:
    """The engine, unchecked, with what loading took."""
    started_s = time.perf_counter()
    engine = Engine.load(folder)
    print(f"Loading: {time.perf_counter() - started_s:.1f} s")
    return engine


def ask(engine: Engine, sample: Sample, max_tokens: int) -> ReplyStats:
    """Print the question, the answer as it comes, and its figures."""
    parts: list[Part] = [] if sample.part is None else [sample.part]
    parts.append(TextPart(sample.question))
    request = ReplyRequest((Message("user", tuple(parts)),), ReplySettings(max_tokens=max_tokens))
    print(f"\n{sample.name}: {sample.question}")
    stats = ReplyStats()
    for event in engine.reply(request, threading.Event()):
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, Finished):
            stats = event.stats
    print(f"\n  {figures(stats)}")
    return stats


def figures(stats: ReplyStats) -> str:
    """Such as "read 280 tokens, first word after 1.2 s, 24.1 tokens/s, 1.3 GB at most"."""
    return (
        f"read {stats.read_tokens:,} tokens, {stats.prefill_tokens_per_s:,.1f} a second; first "
        f"word after {stats.time_to_first_token_s:.1f} s; wrote {stats.generated_tokens} tokens, "
        f"{stats.decode_tokens_per_s:.1f} a second; MLX used {size_text(stats.peak_memory_bytes)} "
        "at most"
    )


def highest_resident_bytes() -> int:
    """The most memory that this process has had resident so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.real.answers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    try:
        quick, folder = options.quick, options.folder
        print(f"Memory: {fit_of(folder, MachineLimits.detect()).sentence}")
        engine = loaded(folder) if quick else opened(folder, options.random_weights)
        for sample in QUESTIONS[-1:] if quick else QUESTIONS:
            if ask(engine, sample, options.max_tokens).read_tokens == 0:
                raise FiresideError(f"Nothing was read of the question about the {sample.name}.")
    except FiresideError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\nResident memory: {size_text(highest_resident_bytes())} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
