"""Makes a smaller copy of a published checkpoint by quantising some of its matrices.

Owns the order of the work: plan from the headers, stream tensor by tensor, check, publish. Names,
layouts and norm convention stay as published, so a converted checkpoint differs from its source in
nothing but the packed matrices. Which these are is the recipe's affair.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_model.companion_files import COMPANION_PATTERNS
from mlx_model.config import load_config
from mlx_model.conversion_plan import Step, plan, split
from mlx_model.errors import CheckpointError
from mlx_model.json_file import read_json
from mlx_model.layouts import NORM_CONVENTION, parameter_sources
from mlx_model.recipes import Recipe, find_recipe
from mlx_model.tensor_files import INDEX_NAME, find_tensors
from mlx_model.tensor_reader import load_file
from mlx_model.tensor_writer import TensorWriter
from mlx_model.weight_sizes import WeightGroup, weight_groups
from mlx_model.weights import check_values, checked_model
from mlx_model.whole_folder import whole_folder

_METADATA = {"format": "mlx", "norm_convention": NORM_CONVENTION}
_SHARD_BYTES = 4 * 2**30
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """The weights of the source and of the copy."""

    before: Sequence[WeightGroup]
    after: Sequence[WeightGroup]


def convert(
    source: str | Path,
    destination: str | Path,
    recipe: str = "uniform",
    bits: int = 4,
    group_size: int = 64,
    on_progress: OnProgress | None = None,
) -> Conversion:
    """Write a quantised copy of the checkpoint `source` to the folder `destination`.

    A new folder appears whole or not at all. Memory holds one tensor and what it becomes at a time.
    `on_progress` is told bytes of the source done and in all. CheckpointError if the source is no
    published checkpoint, the recipe does not exist, or the destination is in use.
    """
    origin, target = Path(source), Path(destination)
    chosen = find_recipe(recipe, bits, group_size)
    config = load_config(origin)
    if config.quantization is not None:
        raise CheckpointError(
            f"The model in {origin} is quantised already. Choose the published one as source."
        )
    tensors = find_tensors(origin)
    checked_model(config, tensors, origin)
    sources = parameter_sources(config, tensors).values()
    if any(source.shifted or source.turned for source in sources):
        raise CheckpointError(
            f"The model in {origin} was converted by another program. "
            "Choose the published one as source."
        )
    steps = plan(tensors, chosen, config.text.num_hidden_layers)
    try:
        with whole_folder(target, last="config.json") as folder:
            companions = sorted(
                file for pattern in COMPANION_PATTERNS for file in origin.glob(pattern)
            )
            _check_space(folder, steps, companions)
            _write_weights(steps, folder, on_progress)
            _write_config(origin, folder, chosen, steps)
            for file in companions:
                shutil.copyfile(file, folder / file.name)
            written, made = find_tensors(folder), load_config(folder)
            checked_model(made, written, folder)
    except OSError as error:
        raise CheckpointError(
            f"The model could not be written to {target} ({error.strerror or error}). "
            "Free some space or choose another folder."
        ) from error
    return Conversion(
        weight_groups(tensors, None),
        weight_groups(written, made.quantization),
    )


def _check_space(folder: Path, steps: Sequence[Step], companions: Sequence[Path]) -> None:
    needed = sum(step.size_bytes for step in steps)
    needed += sum(file.stat().st_size for file in companions)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"The model needs {needed / 1e9:.1f} GB, and {folder.parent} has room for "
            f"{free / 1e9:.1f} GB. Free some space or choose another folder."
        )


def _write_weights(steps: Sequence[Step], folder: Path, on_progress: OnProgress | None) -> None:
    # Nothing is read before it is asked for; each tensor leaves the table with its turn.
    loaded: dict[str, mx.array] = {}
    for file in {step.source.file: None for step in steps}:
        loaded.update(load_file(file))
    total = sum(array.nbytes for array in loaded.values())
    done = 0
    shards = split(steps, _SHARD_BYTES)
    for name, shard in shards.items():
        layouts = {key: layout for step in shard for key, layout in step.outputs.items()}
        with TensorWriter(folder / name, layouts, _METADATA) as writer:
            for step in shard:
                done += loaded[step.name].nbytes
                _write_tensor(step, loaded, writer)
                # Freed buffers would be kept for tensors of the same size, which are rare.
                mx.clear_cache()
                if on_progress is not None:
                    on_progress(done, total)
    if len(shards) > 1:
        _write_index(shards, folder)


def _write_tensor(step: Step, loaded: dict[str, mx.array], writer: TensorWriter) -> None:
    """Read, pack and write one tensor; no array outlives the call."""
    array = loaded.pop(step.name)
    check_values(array, step.name, step.source.file)
    made: Sequence[mx.array] = (array,)
    if step.packing is not None:
        made = mx.quantize(array, step.packing.group_size, step.packing.bits)
    mx.eval(made)
    for name, part in zip(step.outputs, made, strict=True):
        writer.write(name, part)


def _write_index(shards: Mapping[str, Sequence[Step]], folder: Path) -> None:
    weight_map = {
        key: name for name, shard in shards.items() for step in shard for key in step.outputs
    }
    total = sum(step.size_bytes for shard in shards.values() for step in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_config(origin: Path, folder: Path, recipe: Recipe, steps: Sequence[Step]) -> None:
    data: dict[str, Any] = read_json(origin / "config.json")
    quantization: dict[str, Any] = {
        "group_size": recipe.group_size,
        "bits": recipe.bits,
        "mode": "affine",
    }
    for step in steps:
        if step.packing is not None and step.packing.bits != recipe.bits:
            quantization[step.layer] = {
                "group_size": step.packing.group_size,
                "bits": step.packing.bits,
            }
    text = json.dumps(data | {"quantization": quantization}, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
