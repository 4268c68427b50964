"""Going on with a long conversation after a restart, beside reading it all again.

python -m tools.bench.restart [--model DIR] [--tokens 10000] [--rounds 3]

Each round is a new engine over the same loaded weights, once with what the one before it left on
the disk and once with nothing. Seconds from the request to the first token; what was read is from
the reply's figures, which the tests hold against the forward passes themselves.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

from mlx_model.engine import Engine, ModelLabel
from mlx_model.events import Finished, ReplyStats
from mlx_model.messages import Message, ReplyRequest, ReplySettings

DEMO_MODEL = Path(__file__).parents[2] / "assets" / "demo_model"
_CLOSING_S = 60.0
_SENTENCE = "There is a red circle left of a blue square, and a green triangle below them. "
_NEVER = threading.Event()


def longer_model(model: Path, folder: Path, tokens: int) -> Path:
    """A copy of the checkpoint that takes conversations so long, whatever it was trained for."""
    copy = folder / "model"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    text["max_position_embeddings"] = max(text["max_position_embeddings"], 2 * tokens)
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def conversation(engine: Engine, tokens: int) -> tuple[Message, ...]:
    """Questions and answers of about that length, and one more question."""
    each = max(1, tokens // 10 // len(engine.processor.tokenizer.encode(_SENTENCE).ids))
    messages: list[Message] = []
    for number in range(5):
        messages.append(Message.text("user", f"Number {number}. " + each * _SENTENCE))
        messages.append(Message.text("assistant", each * _SENTENCE))
    return (*messages, Message.text("user", "Is there a red circle?"))


def answered(engine: Engine, messages: tuple[Message, ...]) -> ReplyStats:
    """The figures of an answer of one token."""
    request = ReplyRequest(messages, ReplySettings(max_tokens=1))
    *_, last = engine.reply(request, _NEVER)
    assert isinstance(last, Finished)
    return last.stats


def restarted(engine: Engine, folder: Path, states: Path) -> Engine:
    """Another engine over the same weights, as after a restart."""
    label = ModelLabel(engine.name, engine.note, engine.is_demo)
    other = Engine(engine.model, engine.processor, engine.limits, label)
    other.remember_on_disk(folder, states)
    return other


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="restart-") as name:
        folder = Path(name)
        model, states = longer_model(options.model, folder, options.tokens), folder / "states"
        engine = Engine.load(model)
        messages = conversation(engine, options.tokens)
        first = restarted(engine, model, states)
        for _ in first.prepare(ReplyRequest(messages[:-1], ReplySettings()), _NEVER):
            pass  # as in the time after the last answer
        first.close(_CLOSING_S)
        size_bytes = sum(file.stat().st_size for file in states.glob("*/*"))
        warm: list[ReplyStats] = []
        cold: list[ReplyStats] = []
        for number in range(options.rounds):
            warm.append(answered(restarted(engine, model, states), messages))
            cold.append(answered(restarted(engine, model, folder / f"empty {number}"), messages))
    for title, stats in (("with states on the disk", warm), ("with nothing", cold)):
        seconds = statistics.median(one.time_to_first_token_s for one in stats)
        read = f"read {stats[0].read_tokens:,} of {stats[0].prompt_tokens:,}"
        print(f"{title:<24} first token after {seconds:7.3f} s, {read}")
    ratios = [
        b.time_to_first_token_s / a.time_to_first_token_s for a, b in zip(warm, cold, strict=True)
    ]
    print(f"{statistics.median(ratios):.1f} x; {size_bytes / 1e6:.1f} MB on the disk")
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
