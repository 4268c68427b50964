"""A draft head that has learnt nothing, put into a checkpoint."""

from pathlib import Path

import numpy as np
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_model.config import load_config
from mlx_model.draft_head import DraftHead


def add_draft_head(folder: Path) -> None:
    """Give the checkpoint in `folder`, of a single file, such a head in the place of any other."""
    head = DraftHead(load_config(folder).text)
    random = np.random.default_rng(1)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("mtp.")}
    for name, parameter in tree_flatten(head.parameters()):
        tensors[f"mtp.{name}"] = random.normal(0, 0.05, parameter.shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
