"""The demo model as if it had been published: nothing packed, the real 0.8B's file names."""

import json
import shutil
from pathlib import Path

import mlx.core as mx

from tools.real.synthetic import DEMO_MODEL, WEIGHTS_NAME


def write_unpacked_demo(folder: Path, norms_off_by: float = 0.0) -> None:
    """`norms_off_by` 1 makes what a conversion makes that adds the norms' one a second time."""
    folder.mkdir(parents=True)
    for file in DEMO_MODEL.iterdir():
        if file.suffix in (".json", ".jinja", ".txt") and file.name != "config.json":
            shutil.copy(file, folder)
    config = json.loads((DEMO_MODEL / "config.json").read_text(encoding="utf-8"))
    packing = config.pop("quantization")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    packed = mx.load(str(DEMO_MODEL / "model.safetensors"))
    assert isinstance(packed, dict)
    weights: dict[str, mx.array] = {}
    for name, array in packed.items():
        layer, _, role = name.rpartition(".")
        if role in ("scales", "biases") and f"{layer}.scales" in packed:
            continue
        if f"{layer}.scales" in packed:
            array = mx.dequantize(
                array,
                packed[f"{layer}.scales"],
                packed[f"{layer}.biases"],
                group_size=packing.get(layer, packing)["group_size"],
                bits=packing.get(layer, packing)["bits"],
            )
        if name.startswith("model.language_model") and name.endswith("norm.weight"):
            array = array + (0.0 if "linear_attn" in name else norms_off_by)
        weights[name] = array
    mx.save_safetensors(str(folder / "weights.safetensors"), weights, {"format": "pt"})
    (folder / "weights.safetensors").rename(folder / WEIGHTS_NAME)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, WEIGHTS_NAME)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
