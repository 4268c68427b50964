"""Gives the tensors of a safetensors file to mlx, one by one as they are used."""

from pathlib import Path

import mlx.core as mx

from mlx_model.tensor_files import unreadable


def load_file(file: Path) -> dict[str, mx.array]:
    """The tensors of one safetensors file, read when they are first used."""
    try:
        loaded = mx.load(str(file), format="safetensors")
    except RuntimeError as error:
        raise unreadable(file) from error
    assert isinstance(loaded, dict)
    return loaded
