"""Puts the weights of an earlier checkpoint into a model that may have grown since.

Layers that the checkpoint lacks, at the end of either tower, begin as layers that add nothing.
"""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3_5ForConditionalGeneration

QUANTISED = (".scales", ".biases")
# The matrices whose product a layer adds to what it was given.
ADDED = ("attn.proj", "linear_fc2", "o_proj", "out_proj", "down_proj")


def start_from(model: Qwen3_5ForConditionalGeneration, checkpoint: Path) -> list[str]:
    """Loads `checkpoint`, packed or not, without its draft head, which is trained afterwards.

    Returns the names of the parameters that it does not have.
    """
    state = _unpacked(checkpoint)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected:
        raise SystemExit(f"{checkpoint} has weights that the model has not: {unexpected}")
    fresh = [name for name in missing if name != "lm_head.weight"]
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in fresh:
            if ".blocks." not in name and ".layers." not in name:
                raise SystemExit(f"{checkpoint} lacks {name}")
            if any(added in name for added in ADDED):
                parameters[name].zero_()
    return fresh


def _unpacked(checkpoint: Path) -> dict[str, Tensor]:
    arrays: dict[str, mx.array] = mx.load(str(checkpoint / "model.safetensors"))
    settings = json.loads((checkpoint / "config.json").read_text()).get("quantization", {})
    state = {}
    for name, array in arrays.items():
        if name.endswith(QUANTISED) or name.startswith("mtp."):
            continue
        stem = name.removesuffix(".weight")
        if f"{stem}.scales" in arrays:
            array = mx.dequantize(
                array,
                arrays[f"{stem}.scales"],
                arrays[f"{stem}.biases"],
                group_size=settings["group_size"],
                bits=settings["bits"],
            )
        state[name] = torch.from_numpy(np.array(array.astype(mx.float32)))
    return state
