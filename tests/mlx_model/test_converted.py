"""Checkpoints that mlx-lm's and mlx-vlm's own converters wrote give those programs' logits here.

tests/goldens/converted is made by tools/reference/make_peer_goldens.py.
"""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.config import Packing, load_config
from mlx_model.convert import convert
from mlx_model.errors import CheckpointError
from mlx_model.tensor_files import find_tensors
from mlx_model.weight_sizes import PARTS, weight_groups
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, relative_error

CONVERTED = GOLDENS / "converted"
# Bits and group size of most matrices, None for none; whether there is a vision tower.
CONVERSIONS = {
    "lm_bf16": (None, False),
    "lm_mixed": (Packing(4, 64), False),
    "lm_mixture_6bit": (Packing(6, 32), False),
    "lm_tied_4bit": (Packing(4, 64), False),
    "lm_untied_8bit": (Packing(8, 32), False),
    "lm_wide_5bit": (Packing(5, 128), False),
    "vlm_mixture_4bit": (Packing(4, 32), True),
    "vlm_mixture_fp16": (None, True),
    "vlm_mixture_text_only": (Packing(8, 32), False),
    "vlm_own_bits": (Packing(8, 64), True),
    "vlm_text_only": (Packing(4, 32), False),
    "vlm_tied_4bit": (Packing(4, 32), True),
    "vlm_untied_5bit": (Packing(5, 64), True),
    "vlm_wide_4bit": (Packing(4, 128), True),
}
# Some matrices that are packed otherwise than most, by their names in the checkpoint.
OTHERWISE = {
    "lm_mixed": ("language_model.lm_head", Packing(6, 64)),
    "lm_mixture_6bit": ("language_model.model.layers.0.mlp.gate", Packing(8, 64)),
    "vlm_mixture_4bit": ("language_model.model.layers.1.mlp.shared_expert_gate", Packing(8, 64)),
    "vlm_own_bits": ("language_model.model.layers.1.self_attn.o_proj", Packing(6, 32)),
}
ROLES = ("weight", "scales", "biases")
TOLERANCE = 1e-5


def test_these_are_the_conversions() -> None:
    assert {folder.name for folder in CONVERTED.iterdir()} == set(CONVERSIONS)


@pytest.mark.parametrize("name", CONVERSIONS)
def test_the_config_says_how_it_is_packed(name: str) -> None:
    packed, tower = CONVERSIONS[name]
    config = load_config(CONVERTED / name)
    found = config.quantization
    assert (found and Packing(found.bits, found.group_size)) == packed
    assert (config.vision is not None) == tower
    assert (config.text.experts is not None) == ("mixture" in name)
    if name in OTHERWISE:
        layer, other = OTHERWISE[name]
        assert found is not None
        assert found.packing(layer) == other


@pytest.mark.parametrize("name", CONVERSIONS)
def test_logits_are_those_of_the_program_that_converted_it(name: str) -> None:
    model = load_model(CONVERTED / name)
    with np.load(CONVERTED / name / "logits.npz") as arrays:
        asked = {key: arrays[key] for key in arrays.files}
    whole = model(asked["text"])[0]
    assert relative_error(whole, asked["text_logits"]) < TOLERANCE
    cache = model.make_cache()
    rows = [model(asked["text"][:, :67], cache=cache)[0]]
    rows += [model.last_logits(mx.array(asked["text"][:, t : t + 1]), cache) for t in (67, 68, 69)]
    assert relative_error(mx.concatenate(rows), asked["text_logits"]) < TOLERANCE
    assert ("picture_logits" in asked) == CONVERSIONS[name][1]
    if "picture_logits" in asked:
        media = {key: asked[key] for key in ("pixel_values", "image_grid_thw")}
        found = model(asked["picture"], **media)[0]
        assert relative_error(found, asked["picture_logits"]) < TOLERANCE


@pytest.mark.parametrize("name", ["lm_bf16", "vlm_mixture_fp16"])
def test_they_are_no_source_for_another_conversion(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="converted by another program"):
        convert(CONVERTED / name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["vlm_own_bits", "lm_mixture_6bit"])
def test_the_config_may_name_layers_in_another_layout(name: str, tmp_path: Path) -> None:
    config = json.loads((CONVERTED / name / "config.json").read_text(encoding="utf-8"))
    stated = config["quantization"]
    moved = [key for key in stated if key.startswith("language_model.model.")]
    assert moved
    for key in moved:
        published = key.replace("language_model.model.", "model.language_model.")
        stated[published] = stated.pop(key)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copyfile(CONVERTED / name / "model.safetensors", tmp_path / "model.safetensors")
    with np.load(CONVERTED / name / "logits.npz") as arrays:
        found = load_model(tmp_path)(arrays["text"])[0]
        assert relative_error(found, arrays["text_logits"]) < TOLERANCE


def test_sizes_are_told_part_by_part_whatever_the_names() -> None:
    own = weight_groups(find_tensors(GOLDENS / "mixture_tied"), None)
    folder = CONVERTED / "vlm_mixture_4bit"
    found = weight_groups(find_tensors(folder), load_config(folder).quantization)
    counts = [
        {part: sum(group.weights for group in groups if group.part == part) for part in PARTS}
        for groups in (own, found)
    ]
    assert counts[0] == counts[1]
    assert counts[0]["vision tower"] > 0
    packed = {group.bits for group in found if group.part == "language model"}
    assert packed == {None, 4, 8}


def test_a_tower_may_be_packed_as_well(tmp_path: Path) -> None:
    """Older converters did that; ours and today's leave it alone."""
    folder = CONVERTED / "vlm_tied_4bit"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    plain, packed = (mx.load(str(folder / "model.safetensors")) for _ in range(2))
    assert isinstance(plain, dict)
    assert isinstance(packed, dict)
    for name, array in list(plain.items()):
        is_matrix = name.endswith(("qkv.weight", "fc1.weight", "fc2.weight", "pos_embed.weight"))
        if not name.startswith("vision_tower.") or not is_matrix or array.shape[-1] % 32:
            continue
        layer = name.removesuffix(".weight")
        parts = mx.quantize(array, 32, 8)
        plain[name] = mx.dequantize(*parts, group_size=32, bits=8)
        packed |= {f"{layer}.{role}": p for role, p in zip(ROLES, parts, strict=True)}
        config["quantization"][layer] = {"bits": 8, "group_size": 32, "mode": "affine"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with np.load(folder / "logits.npz") as arrays:
        media = {key: arrays[key] for key in ("pixel_values", "image_grid_thw")}
        prompt = arrays["picture"]
    logits = []
    for tensors in (plain, packed):
        mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors)
        logits.append(load_model(tmp_path)(prompt, **media)[0])
    assert "vision_tower.pos_embed.scales" in packed
    assert relative_error(logits[1], logits[0]) < TOLERANCE


def test_the_files_are_as_the_converters_leave_them() -> None:
    for name in CONVERSIONS:
        index = json.loads(
            (CONVERTED / name / "model.safetensors.index.json").read_text(encoding="utf-8")
        )
        assert set(index["weight_map"].values()) == {"model.safetensors"}
        assert not any("mtp." in tensor for tensor in index["weight_map"])
        assert any(tensor.startswith("language_model.model.") for tensor in index["weight_map"])
