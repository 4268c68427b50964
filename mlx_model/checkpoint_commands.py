"""The commands that deal with whole checkpoints: their options, progress and words."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_model.progress_line import ProgressLine

if TYPE_CHECKING:
    from mlx_model.weight_sizes import WeightGroup

_CONVERT_HELP = """\
uniform  every large matrix of the language model in --bits
mixed    4 bits for most of it, 6 for what suffers most from rounding (into and out of the
         DeltaNet state, attention, embeddings, some of the down projections), 8 for keys and
         values: about 5.5 bits a weight. For --bits 4 only: at 8 bits, uniform is as good.
Norms, convolutions, decay gates and the vision tower stay as published; a draft head gets 8 bits.
"""


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
    convert.add_argument("--recipe", choices=("uniform", "mixed"), default="uniform")
    convert.add_argument("--bits", type=int, choices=(4, 8), default=4)
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from mlx_model.convert import convert
    from mlx_model.weight_sizes import bits_a_weight, size_bytes

    line = ProgressLine(sys.stderr)
    try:
        result = convert(
            options.source,
            options.destination,
            recipe=options.recipe,
            bits=options.bits,
            on_progress=lambda done, total: line.show("Converting", done, total),
        )
    finally:
        line.clear()
    for group in result.after:
        print(_described(group))
    language = [group for group in result.after if group.part == "language model"]
    print(
        f"Size of the weights: {_size(size_bytes(result.before))} before, "
        f"{_size(size_bytes(result.after))} after."
    )
    print(
        f"Bits a weight: {bits_a_weight(result.after):.2f}, "
        f"of the language model alone {bits_a_weight(language):.2f}."
    )
    print(f"Wrote {options.destination}.")
    return 0


def _described(group: "WeightGroup") -> str:
    stored = "as published" if group.bits is None else f"{group.bits} bits"
    start = f"{group.part}, {stored}:"
    figures = f"{group.weights:>13,} weights, {_size(group.size_bytes):>8}"
    names = "" if group.part != "language model" else f"  {', '.join(sorted(group.kinds))}"
    return f"{start:<30}{figures}{names}"


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"
