"""Makes a smaller copy of a published checkpoint by quantising the language model's matrices.

What is small or sensitive keeps its precision: norms, convolutions, the gates in_proj_a and
in_proj_b, the vision tower and mtp.*. Names, layouts and norm convention stay as published, so a
converted checkpoint differs from its source in nothing but the packed matrices.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx

from mlx_model.config import PACKED_BITS, PACKED_GROUP_SIZES, load_config
from mlx_model.errors import CheckpointError
from mlx_model.weights import (
    INDEX_NAME,
    NORM_CONVENTION,
    TensorInfo,
    checked_model,
    find_tensors,
    load_file,
)

_METADATA = {"format": "mlx", "norm_convention": NORM_CONVENTION}
_SHARD_BYTES = 4 * 2**30
_QUANTISED_LAYERS = (
    "embed_tokens",
    "lm_head",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "in_proj_qkv",
    "in_proj_z",
    "out_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
_COPIED = (
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "LICENSE*",
)


def convert(
    source: str | Path,
    destination: str | Path,
    bits: int = 4,
    group_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a quantised copy of the checkpoint `source` to the folder `destination`.

    A new folder appears whole or not at all. `on_progress` is told tensors done and tensors in all.
    CheckpointError if the source is no published checkpoint, or the destination is in use.
    """
    origin, target = Path(source), Path(destination)
    if bits not in PACKED_BITS or group_size not in PACKED_GROUP_SIZES:
        raise CheckpointError(
            f"Weights cannot be packed at {bits} bits in groups of {group_size}. "
            f"Choose from {PACKED_BITS} bits and groups of {PACKED_GROUP_SIZES}."
        )
    config = load_config(origin)
    if config.quantization is not None:
        raise CheckpointError(
            f"The model in {origin} is quantised already. Choose the published one as source."
        )
    tensors = find_tensors(origin)
    checked_model(config, tensors, origin)
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        if _is_empty_folder(target):
            partial = target / f".partial-{os.getpid()}"
        partial.mkdir(parents=True)
        _write_weights(tensors, partial, bits, group_size, on_progress)
        _write_config(origin, partial, bits, group_size)
        for file in sorted(path for pattern in _COPIED for path in origin.glob(pattern)):
            shutil.copyfile(file, partial / file.name)
        _publish(partial, target)
    except OSError as error:
        raise CheckpointError(
            f"The model could not be written to {target} ({error.strerror or error}). "
            "Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_quantised(name: str, shape: tuple[int, ...], group_size: int) -> bool:
    """Whether the tensor `name` is packed; a width that groups do not fill keeps its precision."""
    parts = name.split(".")
    if parts[0] == "mtp" or "visual" in parts or len(shape) != 2:
        return False
    return parts[-1] == "weight" and parts[-2] in _QUANTISED_LAYERS and shape[1] % group_size == 0


def _is_empty_folder(target: Path) -> bool:
    """False if there is nothing at `target`; CheckpointError if there is anything else."""
    if not target.exists():
        return False
    if not target.is_dir() or any(target.iterdir()):
        raise CheckpointError(
            f"{target} exists and is not an empty folder. Choose another place for the model."
        )
    return True


def _publish(partial: Path, target: Path) -> None:
    """Give the finished folder its name, or move its files into the empty folder it stands in.

    Such a folder may be a disk, a link or where a shell stands, and cannot be replaced; the model
    is there when its config.json is, which comes last.
    """
    if partial.parent != target:
        partial.replace(target)
        return
    for file in sorted(partial.iterdir(), key=lambda file: file.name == "config.json"):
        file.replace(target / file.name)


def _write_weights(
    tensors: dict[str, TensorInfo],
    folder: Path,
    bits: int,
    group_size: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    shards: list[dict[str, int]] = []
    shard: dict[str, mx.array] = {}
    for done, packed in enumerate(_packed(tensors, bits, group_size), start=1):
        mx.eval(packed)
        shard.update(packed)
        if sum(array.nbytes for array in shard.values()) >= _SHARD_BYTES:
            shards.append(_save(shard, folder / f"{len(shards)}.safetensors"))
            shard = {}
        if on_progress is not None:
            on_progress(done, len(tensors))
    if shard:
        shards.append(_save(shard, folder / f"{len(shards)}.safetensors"))
    if len(shards) == 1:
        (folder / "0.safetensors").rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, sizes in enumerate(shards):
        name = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"{number}.safetensors").rename(folder / name)
        weight_map.update(dict.fromkeys(sizes, name))
    total = sum(size for sizes in shards for size in sizes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _packed(
    tensors: dict[str, TensorInfo], bits: int, group_size: int
) -> Iterator[dict[str, mx.array]]:
    """What each tensor of the source becomes: itself, or packed weights with scales and biases."""
    for file in sorted({info.file for info in tensors.values()}):
        # Popped one by one, so that no more than one shard's worth is ever in memory.
        loaded = load_file(file)
        for name in sorted(loaded):
            array = loaded.pop(name)
            if not is_quantised(name, tuple(array.shape), group_size):
                yield {name: array}
                continue
            layer = name.removesuffix(".weight")
            weight, scales, biases = mx.quantize(array, group_size=group_size, bits=bits)
            yield {name: weight, f"{layer}.scales": scales, f"{layer}.biases": biases}


def _save(shard: dict[str, mx.array], file: Path) -> dict[str, int]:
    """Write one file and return the size of each of its tensors in bytes."""
    try:
        mx.save_safetensors(str(file), shard, metadata=_METADATA)
    except RuntimeError as error:
        # MLX reports a full disk this way, in words of its own.
        raise OSError("the disk is full, or no longer there") from error
    return {name: array.nbytes for name, array in shard.items()}


def _write_config(source: Path, folder: Path, bits: int, group_size: int) -> None:
    data = json.loads((source / "config.json").read_text(encoding="utf-8"))
    data["quantization"] = {"group_size": group_size, "bits": bits, "mode": "affine"}
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
