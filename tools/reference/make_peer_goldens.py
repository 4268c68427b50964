"""Makes tests/goldens/converted/: tiny checkpoints converted by mlx-lm's and mlx-vlm's own tools.

Run from the repository root, in an environment of its own made with
    pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 pillow requests
    pip install --no-deps mlx-vlm==0.7.10
    PYTHONPATH=. python tools/reference/make_peer_goldens.py
The sources are the goldens of transformers, cut to two layers; what a converter wrote is kept with
the logits that the same program then computes from it, in fp32. Tests load the one and compare; so
does this script with what it has just made, so that it is also the test against newer converters:
    PYTHONPATH=. python tools/reference/make_peer_goldens.py --out /tmp/converted
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.utils
import mlx_vlm.utils
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.convert import convert as convert_by_mlx_lm
from mlx_vlm.convert import convert as convert_by_mlx_vlm
from safetensors.numpy import load_file, save_file

from mlx_model.config import parse_config
from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import relative_error

GOLDENS = Path("tests/goldens")
DEMO_MODEL = Path("assets/demo_model")
# The layers of a golden that are kept: a DeltaNet layer, then an attention layer.
KEPT = {"tied": (2, 3), "untied": (0, 1), "mixture_tied": (0, 1), "mixture_untied": (0, 1)}
KEPT_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json")
TOLERANCE = 1e-5
COMPANIONS = ("tokenizer", "chat_template", "preprocessor", "video_preprocessor")

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Conversion:
    """One run of a converter; `settings` are its own."""

    converter: str
    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    wide: bool = False
    draft_head: bool = True
    text_only: bool = False


def quantised(bits: int, group_size: int, **other: object) -> dict[str, Any]:
    return {"quantize": True, "q_bits": bits, "q_group_size": group_size, **other}


def own_bits(path: str, module: object) -> bool | dict[str, Any]:
    """Other bits and groups for some matrices, none for others."""
    if not hasattr(module, "to_quantized") or "vision" in path:
        return False
    if path.endswith(("in_proj_a", "in_proj_b")):
        return False
    if path.endswith(("o_proj", "out_proj")):
        return {"bits": 6, "group_size": 32, "mode": "affine"}
    return True


CONVERSIONS = {
    "lm_tied_4bit": Conversion("mlx-lm", "tied", quantised(4, 64)),
    "lm_untied_8bit": Conversion("mlx-lm", "untied", quantised(8, 32), draft_head=False),
    "lm_wide_5bit": Conversion("mlx-lm", "tied", quantised(5, 128), wide=True),
    "lm_mixed": Conversion("mlx-lm", "untied", quantised(4, 64, quant_predicate="mixed_4_6")),
    # Of the mixtures, mlx-lm reads only the one with fused experts.
    "lm_mixture_6bit": Conversion("mlx-lm", "mixture_untied", quantised(6, 32, dtype="bfloat16")),
    "lm_bf16": Conversion("mlx-lm", "tied", {"dtype": "bfloat16"}),
    "vlm_text_only": Conversion("mlx-vlm", "untied", quantised(4, 32), text_only=True),
    "vlm_mixture_text_only": Conversion(
        "mlx-vlm", "mixture_untied", quantised(8, 32), text_only=True
    ),
    "vlm_tied_4bit": Conversion("mlx-vlm", "tied", quantised(4, 32)),
    "vlm_untied_5bit": Conversion("mlx-vlm", "untied", quantised(5, 64), draft_head=False),
    "vlm_wide_4bit": Conversion("mlx-vlm", "tied", quantised(4, 128, dtype="float16"), wide=True),
    "vlm_own_bits": Conversion(
        "mlx-vlm", "untied", quantised(8, 64, dtype="float16", quant_predicate=own_bits)
    ),
    "vlm_mixture_4bit": Conversion("mlx-vlm", "mixture_tied", quantised(4, 32, dtype="bfloat16")),
    "vlm_mixture_fp16": Conversion("mlx-vlm", "mixture_untied", {"dtype": "float16"}),
}


def read_source(name: str) -> tuple[dict[str, Any], Tensors]:
    """Config and tensors of a golden checkpoint, cut to the layers of KEPT."""
    config = json.loads((GOLDENS / name / "config.json").read_text(encoding="utf-8"))
    # mlx-lm goes by the interval and knows no list of layers.
    config["text_config"] |= {
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "full_attention_interval": 2,
    }
    config["vision_config"]["depth"] = 1
    place = "model.language_model.layers."
    tensors: Tensors = {}
    for key, array in load_file(GOLDENS / name / "model.safetensors").items():
        if key.startswith("model.visual.blocks.1."):
            continue
        if key.startswith(place):
            number, _, rest = key.removeprefix(place).partition(".")
            if int(number) not in KEPT[name]:
                continue
            key = f"{place}{KEPT[name].index(int(number))}.{rest}"
        tensors[key] = array
    return config, tensors


def widen(config: dict[str, Any], tensors: Tensors) -> Tensors:
    """Twice as wide inside the language model, so that groups of 128 have something to hold."""
    width, rng = config["text_config"]["hidden_size"], np.random.default_rng(21)
    config["text_config"] |= {"hidden_size": 2 * width, "intermediate_size": 2 * width}
    config["vision_config"]["out_hidden_size"] = 2 * width
    made: Tensors = {}
    for name, array in tree_flatten(Model(parse_config(config)).parameters()):
        if name in tensors and tensors[name].shape == array.shape:
            made[name] = tensors[name]
        else:
            scale = 0.3 if len(array.shape) == 1 else 1.2 / array.shape[-1] ** 0.5
            made[name] = (rng.standard_normal(array.shape) * scale).astype(np.float32)
    return made


def text_alone(config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """The flat form, as transformers saves a language model by itself."""
    flat = config["text_config"] | {"model_type": f"{config['model_type']}_text"}
    flat["tie_word_embeddings"] = config["tie_word_embeddings"]
    return flat, {
        name.replace("model.language_model.", "model."): array
        for name, array in tensors.items()
        if "visual" not in name
    }


def write_source(conversion: Conversion, folder: Path) -> None:
    """A whole published checkpoint, tokenizer and all."""
    config, tensors = read_source(conversion.source)
    if conversion.wide:
        tensors = widen(config, tensors)
    if conversion.draft_head:
        width = config["text_config"]["hidden_size"]
        for name, shape in (("fc", (width, 2 * width)), ("norm", (width,))):
            tensors[f"mtp.{name}.weight"] = np.full(shape, 0.01, np.float32)
    if conversion.text_only:
        config, tensors = text_alone(config, tensors)
    folder.mkdir(parents=True)
    for file in DEMO_MODEL.iterdir():
        # A language model alone comes without settings for pictures and clips.
        wanted = ("tokenizer", "chat_template") if conversion.text_only else COMPANIONS
        if file.name.startswith(wanted):
            shutil.copyfile(file, folder / file.name)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def inputs(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """A text, and for a whole model one with a picture in it."""
    rng = np.random.default_rng(5)
    text = rng.integers(0, 100, (1, 70))
    # mlx-vlm puts an empty one into the config of a language model alone.
    if not config.get("vision_config"):
        return {"text": text}
    start, image, end = (
        config["vision_start_token_id"],
        config["image_token_id"],
        config["vision_end_token_id"],
    )
    picture = [*rng.integers(0, 100, 5), start, *[image] * 6, end, *rng.integers(0, 100, 12)]
    return {
        "text": text,
        "picture": np.array([picture]),
        "pixel_values": rng.standard_normal((24, 96)).astype(np.float32),
        "image_grid_thw": np.array([[1, 4, 6]]),
    }


def in_fp32(model: Any) -> Any:
    """The model with every number that is not packed in fp32."""
    model.update(
        tree_map(
            lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a,
            model.parameters(),
        )
    )
    return model


def logits_of_mlx_lm(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = in_fp32(mlx_lm.utils.load_model(folder)[0])
    return {"text_logits": np.array(model(mx.array(given["text"]))[0])}


def logits_of_mlx_vlm(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = in_fp32(mlx_vlm.utils.load_model(folder))
    found = {"text_logits": np.array(model(mx.array(given["text"])).logits[0])}
    if "picture" in given:
        model = in_fp32(mlx_vlm.utils.load_model(folder))
        out = model(
            mx.array(given["picture"]),
            pixel_values=mx.array(given["pixel_values"]),
            image_grid_thw=mx.array(given["image_grid_thw"]),
        )
        found["picture_logits"] = np.array(out.logits[0])
    return found


def compared(folder: Path, given: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """How far our own logits are from the converter's, as a part of the largest."""
    model = load_model(folder)
    found = {"text_logits": model(given["text"])[0]}
    if "picture_logits" in expected:
        media = {key: given[key] for key in ("pixel_values", "image_grid_thw")}
        found["picture_logits"] = model(given["picture"], **media)[0]
    error = max(relative_error(found[key], expected[key]) for key in expected)
    if error > TOLERANCE:
        raise SystemExit(f"our logits differ by {error:.1e}")
    return error


def run(name: str, conversion: Conversion, out: Path) -> None:
    """Convert, ask the converter's own program for logits, and keep both."""
    tools: dict[str, tuple[Callable[..., None], Callable[..., dict[str, np.ndarray]]]] = {
        "mlx-lm": (convert_by_mlx_lm, logits_of_mlx_lm),
        "mlx-vlm": (convert_by_mlx_vlm, logits_of_mlx_vlm),
    }
    convert, logits = tools[conversion.converter]
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made"
        write_source(conversion, source)
        convert(str(source), str(made), **conversion.settings)
        config = json.loads((made / "config.json").read_text(encoding="utf-8"))
        given = inputs(config)
        found = logits(made, given)
        error = compared(made, given, found)
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in KEPT_FILES:
            shutil.copyfile(made / file, folder / file)
    np.savez_compressed(folder / "logits.npz", **given, **found)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {', '.join(found)}, ours differ by {error:.1e}; {size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDENS / "converted")
    parser.add_argument("--only", choices=CONVERSIONS, nargs="*", default=list(CONVERSIONS))
    arguments = parser.parse_args()
    for name in arguments.only:
        run(name, CONVERSIONS[name], arguments.out)


if __name__ == "__main__":
    main()
