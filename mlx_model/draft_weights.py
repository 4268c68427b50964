"""Loads the draft head of a checkpoint, which the model itself does without."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlx_model.config import load_config
from mlx_model.device_math import on_metal
from mlx_model.draft_head import DraftHead
from mlx_model.errors import CheckpointError
from mlx_model.layouts import draft_head_sources
from mlx_model.tensor_files import find_tensors
from mlx_model.tensor_reader import load_file
from mlx_model.weights import check_values


def load_draft_head(path: str | Path, dtype: mx.Dtype | None = None) -> DraftHead | None:
    """The draft head of a checkpoint, packed as its config says; None if it has none.

    Computes in `dtype`, which is fp32 on the CPU backend and bf16 on Metal unless given.
    CheckpointError for one that does not fit the config.
    """
    folder = Path(path)
    config = load_config(folder)
    tensors = find_tensors(folder)
    sources = draft_head_sources(config, tensors)
    if sources is None:
        return None
    used = {name for source in sources.values() for name in source.tensors}
    head = DraftHead(config.text)
    quantization = config.quantization
    if quantization is not None:

        def packing(layer: str, module: nn.Module) -> bool | dict[str, int]:
            scales = sources.get(f"{layer}.scales")
            if scales is None or not hasattr(module, "to_quantized"):
                return False
            packed = quantization.packing(scales.tensors[0].removesuffix(".scales"))
            return {"bits": packed.bits, "group_size": packed.group_size}

        nn.quantize(head, class_predicate=packing)
    if dtype is None:
        dtype = mx.bfloat16 if on_metal() else mx.float32
    try:
        files = {file: load_file(file) for file in {tensors[name].file for name in used}}
        arrays = {name: files[tensors[name].file][name] for name in used}
        weights = {
            parameter: array if array.dtype == mx.uint32 else array.astype(dtype)
            for parameter, source in sources.items()
            for array in [source.array(arrays)]
        }
        head.load_weights(list(weights.items()), strict=True)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"The draft head in {folder} is not the one that its config.json describes. "
            "Download the model again."
        ) from error
    head.eval()
    for parameter, array in weights.items():
        name = sources[parameter].tensors[0]
        check_values(array, name, tensors[name].file)
    return head
