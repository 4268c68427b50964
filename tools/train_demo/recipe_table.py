"""What each recipe costs the demo model: a test of the mechanism, on a model of its own kind.

    python -m tools.train_demo.recipe_table build/train_demo/checkpoint [--scenes 100]

Converts the fp32 checkpoint by every recipe and lets each copy predict the right answers to
held-out questions about pictures, clips and conversations, token by token; compared are whole
distributions. The fp32 weights are not in the repository: `tools.train_demo.train` makes them.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_model import (
    ImagePart,
    Processor,
    VideoPart,
    load_image,
    load_model,
    load_processor,
    sample_video,
)
from mlx_model.compare import Differences, differences, log_probabilities
from mlx_model.convert import convert
from mlx_model.tensor_files import find_tensors
from mlx_model.weight_sizes import WeightGroup, bits_a_weight, size_bytes, weight_groups
from tools.train_demo.cases import Case, cases

RECIPES = (("uniform", 8), ("mixed", 4), ("uniform", 4))
# Those that ask about one picture or clip at most, and offer no tools.
ABILITIES = (
    *("colour", "count", "presence", "list", "direction", "recall", "small talk", "word", "page"),
    *("box", "point", "happenings"),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its right answer as the model reads it; the answer begins at `start`."""

    input_ids: np.ndarray
    start: int
    media: dict[str, np.ndarray]


def answered(processor: Processor, case: Case) -> Answered:
    """The tokens and pixels of one case, up to the end of its answer."""
    media: dict[str, Any] = {}
    grids: dict[str, Any] = {}
    for part in case.messages[-1].content:
        if isinstance(part, ImagePart):
            pixels, grid = processor.images([load_image(part.path)])
            media = {"pixel_values": pixels, "image_grid_thw": grid}
            grids = {"image_grids": grid}
        elif isinstance(part, VideoPart):
            fewest, most = processor.frame_range(max_frames=16)
            clip = sample_video(part.path, max_frames=most, min_frames=fewest)
            pixels, grid, times_s = processor.video(clip.frames, clip.times_s)
            media = {"pixel_values_videos": pixels, "video_grid_thw": grid}
            grids = {"video_grids": grid, "video_times": [times_s]}
    question = processor.prompt(case.messages, **grids).input_ids
    reply = processor.tokenizer.encode(case.answer, add_special_tokens=False).ids
    end = processor.tokenizer.token_to_id("<|im_end|>")
    return Answered(np.array([*question, *reply, end]), question.size, media)


def predictions(folder: Path, questions: list[Answered], rows: int) -> Iterator[np.ndarray]:
    """Log-probabilities [answer tokens, rows] for each answer, the end of the turn included."""
    model = load_model(folder)
    for question in questions:
        logits = model(question.input_ids[None], **question.media)[0]
        yield log_probabilities(logits[question.start - 1 : -1, :rows])


def row(name: str, groups: Sequence[WeightGroup], found: Differences) -> str:
    """One line of the table."""
    divergence, same, _, surprise = found
    language = [group for group in groups if group.part == "language model"]
    figures = (
        f"{size_bytes(groups) / 1e6:.1f} MB",
        f"{bits_a_weight(language):.2f}",
        f"{divergence.mean():.1e}",
        f"{np.percentile(divergence, 99):.1e}",
        f"{100 * same.mean():.2f} %",
        f"{np.exp(surprise.mean()):.4f}",
    )
    return f"| {name} | {' | '.join(figures)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.train_demo.recipe_table")
    parser.add_argument("source", type=Path, help="the fp32 checkpoint")
    parser.add_argument("--scenes", type=int, default=100, help="held-out cases an ability")
    options = parser.parse_args()
    processor = load_processor(options.source)
    with tempfile.TemporaryDirectory() as folder:
        print_table(processor, options.source, options.scenes, Path(folder))


def print_table(processor: Processor, source: Path, scenes: int, folder: Path) -> None:
    """Convert, predict and compare."""
    questions = [
        answered(processor, case)
        for ability in ABILITIES
        for case in cases(ability, range(scenes), folder)
    ]
    targets = [question.input_ids[question.start :] for question in questions]
    rows = processor.vocab_size_used
    original = list(predictions(source, questions, rows))
    print(f"{len(questions)} questions, {sum(map(len, targets)):,} tokens of right answers.\n")
    print(
        "| weights | size | bits a weight, language model | KL, nats a token | 99th percentile "
        "| same likeliest token | perplexity |"
    )
    print("|---|---|---|---|---|---|---|")
    copies = {"fp32": source}
    groups = {"fp32": weight_groups(find_tensors(source), None)}
    for recipe, bits in RECIPES:
        name = f"{recipe}, {bits} bits"
        copies[name] = folder / name
        groups[name] = list(convert(source, copies[name], recipe, bits).after)
    for name, copy in copies.items():
        made = predictions(copy, questions, rows)
        pairs = zip(original, made, targets, strict=True)
        columns = zip(*(differences(*pair) for pair in pairs), strict=True)
        divergence, same, before, after = (np.concatenate(column) for column in columns)
        print(row(name, groups[name], (divergence, same, before, after)), flush=True)
        mx.clear_cache()


if __name__ == "__main__":
    main()
