"""Reads tests/goldens: tiny checkpoints and what transformers computes with them."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.golden_versions import PLAIN, change

GOLDENS = Path(__file__).parents[1] / "goldens"
VARIANTS = ("tied", "untied")
# The same with a mixture of experts, and fewer cases.
MIXTURES = ("mixture_tied", "mixture_untied")
# How far fp32 logits may be from the reference's, as a part of the largest.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Golden:
    """Inputs of one case and what the reference makes of them; arrays that it lacks are None.

    `version` says how the weights are changed (golden_versions.py), `turns` where a conversation
    would have read so far.
    """

    input_ids: np.ndarray
    prompt_tokens: int
    version: str
    turns: tuple[int, ...]
    position_ids: np.ndarray
    logits: np.ndarray
    pixel_values: np.ndarray | None
    image_grid_thw: np.ndarray | None
    pixel_values_videos: np.ndarray | None
    video_grid_thw: np.ndarray | None

    @property
    def prompt(self) -> np.ndarray:
        return self.input_ids[:, : self.prompt_tokens]

    @property
    def media(self) -> dict[str, np.ndarray | None]:
        return {
            "pixel_values": self.pixel_values,
            "image_grid_thw": self.image_grid_thw,
            "pixel_values_videos": self.pixel_values_videos,
            "video_grid_thw": self.video_grid_thw,
        }


def read_golden(variant: str, case: str) -> Golden:
    arrays = _arrays(variant)
    found: dict[str, Any] = {
        key.split("/")[1]: array for key, array in arrays.items() if key.split("/")[0] == case
    }
    for name, plain in (
        ("prompt_tokens", int),
        ("version", str),
        ("turns", tuple),
    ):
        if name in found:
            found[name] = plain(found[name])
    return Golden(**{name: found.get(name) for name in Golden.__dataclass_fields__})


@cache
def _arrays(variant: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / variant / "cases.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def relative_error(found: mx.array | np.ndarray, expected: mx.array | np.ndarray) -> float:
    """Largest difference, as a part of the largest expected value."""
    assert found.shape == expected.shape
    found, expected = np.array(found), np.array(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@dataclass
class Checkpoint:
    """An editable copy of a golden checkpoint; `save` writes it to `folder`."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]

    def save(self, metadata: dict[str, str] | None = None) -> Path:
        text = json.dumps(self.config)
        (self.folder / "config.json").write_text(text, encoding="utf-8")
        save_file(self.tensors, self.folder / "model.safetensors", metadata)
        return self.folder


def copy_checkpoint(variant: str, folder: Path) -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDENS / variant / name, folder / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Checkpoint(folder, config, load_file(folder / "model.safetensors"))


def change_weights(checkpoint: Checkpoint, version: str) -> None:
    """Turn the plain weights into those of `version`."""
    for name, tensor in checkpoint.tensors.items():
        factor, offset = np.float32(change(version, name))
        checkpoint.tensors[name] = tensor * factor + offset


@cache
def golden_model(variant: str, version: str = PLAIN, dtype: mx.Dtype | None = None) -> Model:
    """A golden checkpoint in the given version, loaded as every checkpoint is."""
    with tempfile.TemporaryDirectory() as name:
        checkpoint = copy_checkpoint(variant, Path(name))
        change_weights(checkpoint, version)
        return load_model(checkpoint.save(), dtype)
