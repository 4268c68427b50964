"""The commands that deal with whole checkpoints: their options, progress and words."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_model.byte_sizes import size_text
from mlx_model.companion_files import OWN_TEXT
from mlx_model.errors import FiresideError
from mlx_model.progress_line import ProgressLine

if TYPE_CHECKING:
    from mlx_model.weight_sizes import WeightGroup

GENERAL_TEXT = Path(__file__).resolve().parent.parent / "assets" / OWN_TEXT
# More than the longest context holds.
_MOST_CHARACTERS = 4_000_000

_CONVERT_HELP = """\
uniform  every large matrix of the language model in --bits
mixed    4 bits for most of it, 6 for what suffers most from rounding (into and out of the
         DeltaNet state, attention, embeddings, some of the down projections), 8 for keys and
         values: about 5.5 bits a weight. For --bits 4 only: at 8 bits, uniform is as good.
Norms, convolutions, decay gates and the vision tower stay as published; a draft head gets 8 bits.
"""

_COMPARE_HELP = """\
The text is read as a chat, as the model is used: its paragraphs are the person's turns and the
model's, one after the other, up to the models' context. Without --text it is the one that A or B
brings along (comparison_text.txt), or else a short one of Fireside's. The models are loaded one
after the other; A's predictions wait in a temporary file, 0.5 MB a token for a real model.
"""


def add_check(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that checks a model as its first opening does."""
    check = commands.add_parser(
        "check",
        help="see whether a model fits this machine and is in its right mind",
        description="Says what a model needs of this machine's memory, and repeats its self-check.",
    )
    check.add_argument("model", type=Path, metavar="DIR", help="folder of a checkpoint")
    check.set_defaults(run=_check)


def add_convert(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that quantises a published checkpoint."""
    convert = commands.add_parser(
        "convert",
        help="write a quantised copy of a checkpoint",
        description="Writes a smaller copy of a published checkpoint.",
        epilog=_CONVERT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("source", type=Path, help="folder of the published checkpoint")
    convert.add_argument("destination", type=Path, help="new or empty folder for the copy")
    convert.add_argument(
        "--recipe",
        choices=("uniform", "mixed"),
        default="uniform",
        help="what gets how many bits, see below (default: %(default)s)",
    )
    convert.add_argument(
        "--bits", type=int, choices=(4, 8), default=4, help="a weight (default: %(default)s)"
    )
    convert.add_argument(
        "--jsonl",
        action="store_true",
        help="only tell another program how far it is, one JSON object a line",
    )
    convert.set_defaults(run=_convert)


def add_compare(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that tells how far two checkpoints' predictions are apart."""
    compare = commands.add_parser(
        "compare",
        help="tell how far a copy's predictions are from the original's",
        description="Tells how far the predictions of B are from those of A.",
        epilog=_COMPARE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("a", type=Path, metavar="A", help="folder of a checkpoint")
    compare.add_argument("b", type=Path, metavar="B", help="folder of a copy of it")
    compare.add_argument("--text", type=Path, metavar="FILE", help="a text file in UTF-8")
    compare.set_defaults(run=_compare)


def _check(options: argparse.Namespace) -> int:
    from mlx_model.opening import open_engine

    line = ProgressLine(sys.stderr)
    try:
        opened = open_engine(
            options.model,
            on_progress=lambda stage, done, total: line.show(stage.capitalize(), done, total),
            check_again=True,
        )
    finally:
        line.clear()
    print(opened.fit.sentence)
    print(f"{opened.engine.name} has passed its self-check.")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from mlx_model.convert import convert
    from mlx_model.weight_sizes import bits_a_weight, size_bytes

    line = ProgressLine(sys.stderr)

    def show(done: int, total: int) -> None:
        if options.jsonl:
            print(json.dumps({"done": done, "total": total}), flush=True)
        else:
            line.show("Converting", done, total)

    try:
        result = convert(
            options.source,
            options.destination,
            recipe=options.recipe,
            bits=options.bits,
            on_progress=show,
        )
    finally:
        line.clear()
    if options.jsonl:
        return 0
    for group in result.after:
        print(_described(group))
    language = [group for group in result.after if group.part == "language model"]
    print(
        f"Size of the weights: {size_text(size_bytes(result.before))} before, "
        f"{size_text(size_bytes(result.after))} after."
    )
    print(
        f"Bits a weight: {bits_a_weight(result.after):.2f}, "
        f"of the language model alone {bits_a_weight(language):.2f}."
    )
    print(f"Wrote {options.destination}.")
    return 0


def _compare(options: argparse.Namespace) -> int:
    import numpy as np

    from mlx_model.compare import compare

    file = options.text or _own_text(options.a, options.b)
    text = _beginning(file)
    line = ProgressLine(sys.stderr)
    try:
        result = compare(
            options.a,
            options.b,
            text,
            on_progress=lambda done, total: line.show("Reading", done, total),
        )
    finally:
        line.clear()
    divergence = result.divergence_nats
    print(f"{divergence.size:,} tokens of {file}, read as a chat.")
    for name, folder, perplexity in (
        ("A", options.a, result.perplexity_a),
        ("B", options.b, result.perplexity_b),
    ):
        size, bits = _measured(folder)
        print(f"{name}: perplexity {perplexity:.3f}, {size_text(size)}, {bits:.2f} bits a weight")
    print(
        f"KL(A || B) in nats a token: mean {divergence.mean():.2g}, "
        f"median {np.median(divergence):.2g}, 99th percentile {np.percentile(divergence, 99):.2g}"
    )
    print(f"Same likeliest token: {100 * result.same_likeliest:.2f} %")
    return 0


def _own_text(*folders: Path) -> Path:
    """The text that a checkpoint brings along because no other suits it, else the general one."""
    own = (folder / OWN_TEXT for folder in folders)
    return next((file for file in own if file.exists()), GENERAL_TEXT)


def _beginning(file: Path) -> str:
    """The text in `file`, as much of it as any model could read."""
    if not file.exists():
        raise FiresideError(f"{file} cannot be found. Choose another file.")
    try:
        if not file.is_file():  # a pipe could be waited on for ever
            raise OSError("not a file")
        with file.open(encoding="utf-8") as stream:
            return stream.read(_MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise FiresideError(
            f"{file} cannot be read as a text in UTF-8. Choose another file."
        ) from error


def _measured(folder: Path) -> tuple[int, float]:
    """Bytes of a checkpoint's weights, and bits for each."""
    from mlx_model.config import load_config
    from mlx_model.tensor_files import find_tensors
    from mlx_model.weight_sizes import bits_a_weight, size_bytes, weight_groups

    groups = weight_groups(find_tensors(folder), load_config(folder).quantization)
    return size_bytes(groups), bits_a_weight(groups)


def _described(group: "WeightGroup") -> str:
    stored = "as published" if group.bits is None else f"{group.bits} bits"
    start = f"{group.part}, {stored}:"
    figures = f"{group.weights:>13,} weights, {size_text(group.size_bytes):>8}"
    names = "" if group.part != "language model" else f"  {', '.join(sorted(group.kinds))}"
    return f"{start:<30}{figures}{names}"
