"""Reads tests/goldens: tiny checkpoints and what transformers computes with them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

GOLDENS = Path(__file__).parents[1] / "goldens"
VARIANTS = ("tied", "untied")


@dataclass(frozen=True)
class Golden:
    """Inputs of one case and what the reference makes of them; arrays that it lacks are None."""

    input_ids: np.ndarray
    prompt_tokens: int
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
    with np.load(GOLDENS / variant / "cases.npz") as arrays:
        found = {
            key.split("/")[1]: arrays[key] for key in arrays.files if key.split("/")[0] == case
        }
    fields = {name: found.get(name) for name in Golden.__dataclass_fields__}
    return Golden(**{**fields, "prompt_tokens": int(found["prompt_tokens"])})


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
