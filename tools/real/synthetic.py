"""Checkpoints with the published models' files, tensor names, shapes and types, and random weights.

    python -m tools.real.synthetic FOLDER --size 0.8B            # as published, 16 bits
    python -m tools.real.synthetic FOLDER --size 9B --bits 4     # as Fireside converts it
    python -m tools.real.synthetic FOLDER --size tiny            # the same files, a few hundred kB

They try everything but the meaning of an answer. Vocabulary and merges are made up, as many as the
published ones; the chat template is the demo model's.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_model.config import ModelConfig, parse_config
from mlx_model.conversion_plan import plan, split
from mlx_model.recipes import find_recipe
from mlx_model.tensor_files import INDEX_NAME
from mlx_model.tensor_writer import DTYPES, TensorLayout, TensorWriter
from tests.mlx_model.published_shapes import SIZES, published_config, published_tensors
from tests.mlx_model.published_vocabulary import CONTROL_TOKENS

DEMO_MODEL = Path(__file__).resolve().parents[2] / "assets" / "demo_model"
TINY = "tiny"
# The published 0.8B has its weights in one file under this name, and an index that says so.
WEIGHTS_NAME = "model.safetensors-00001-of-00001.safetensors"
_SHARD_BYTES = 4 << 30
_TINY_TOKENS = 1_200
_REAL_TOKENS = 248_044
_BYTES = 256
_SEED = 35


def write_published(folder: Path, size: str) -> None:
    """A checkpoint as published: 16 bits, the draft head included. `size`: of SIZES, or TINY."""
    data = config_data(size)
    layouts = {
        name: TensorLayout(info.dtype, info.shape)
        for name, info in published_tensors(parse_config(data)).items()
    }
    _write(folder, data, {WEIGHTS_NAME: layouts})


def write_converted(folder: Path, size: str, bits: int = 4) -> None:
    """A checkpoint as `python -m mlx_model convert` makes it of that, by the uniform recipe."""
    data = config_data(size)
    config = parse_config(data)
    steps = plan(
        published_tensors(config), find_recipe("uniform", bits), config.text.num_hidden_layers
    )
    packing: dict[str, Any] = {"group_size": 64, "bits": bits, "mode": "affine"}
    for step in steps:
        if step.packing is not None and step.packing.bits != bits:
            packing[step.layer] = {"group_size": 64, "bits": step.packing.bits}
    files = {
        name: {key: layout for step in shard for key, layout in step.outputs.items()}
        for name, shard in split(steps, _SHARD_BYTES).items()
    }
    _write(folder, data | {"quantization": packing}, files)


def config_data(size: str) -> dict[str, Any]:
    """The config.json of a published model, or of one with the same fields and tiny shapes."""
    text, vision = _tiny() if size == TINY else _published(published_config(size))
    first = _TINY_TOKENS if size == TINY else _REAL_TOKENS
    ids = {token: first + number for number, token in enumerate(CONTROL_TOKENS)}
    text |= {
        "model_type": "qwen3_5_text",
        "hidden_act": "silu",
        "attention_bias": False,
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "mamba_ssm_dtype": "float32",
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "linear_conv_kernel_dim": 4,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262144,
        "eos_token_id": ids["<|endoftext|>"],
    }
    vision |= {
        "model_type": "qwen3_5",
        "hidden_act": "gelu_pytorch_tanh",
        "deepstack_visual_indexes": [],
        "in_channels": 3,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "out_hidden_size": text["hidden_size"],
    }
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": size == TINY or published_config(size).text.tie_word_embeddings,
        "text_config": text,
        "vision_config": vision,
    }


def _published(config: ModelConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    text, vision = config.text, config.vision
    assert vision is not None
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim")
    names += ("num_attention_heads", "num_key_value_heads")
    names += ("linear_num_key_heads", "linear_num_value_heads")
    names += ("linear_key_head_dim", "linear_value_head_dim")
    own = {name: getattr(text, name) for name in names}
    own["layer_types"] = list(text.layer_types)
    own["rope_parameters"] = _rope(text.rope.theta, text.rope.sections)
    parts = ("depth", "hidden_size", "intermediate_size", "num_heads")
    return own, {name: getattr(vision, name) for name in parts}


def _tiny() -> tuple[dict[str, Any], dict[str, Any]]:
    text = {
        "vocab_size": _TINY_TOKENS + 80,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "layer_types": [*["linear_attention"] * 3, "full_attention"],
        "head_dim": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "rope_parameters": _rope(1e7, (4, 2, 2)),
    }
    return text, {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}


def _rope(theta: float, sections: Sequence[int]) -> dict[str, Any]:
    return {
        "rope_type": "default",
        "rope_theta": theta,
        "partial_rotary_factor": 0.25,
        "mrope_section": list(sections),
        "mrope_interleaved": True,
    }


def _write(
    folder: Path, config: Mapping[str, Any], files: Mapping[str, Mapping[str, TensorLayout]]
) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(_SEED)
    for file, layouts in files.items():
        with TensorWriter(folder / file, layouts, {"format": "pt"}) as writer:
            for name, layout in layouts.items():
                writer.write(name, _random_tensor(name, layout, random))
    weight_map = {name: file for file, layouts in files.items() for name in layouts}
    total = sum(layout.size_bytes for layouts in files.values() for layout in layouts.values())
    _write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _write_json(folder / "config.json", config)
    tokens = config["text_config"]["eos_token_id"]
    _write_tokenizer(folder, tokens)
    shutil.copy(DEMO_MODEL / "chat_template.jinja", folder)
    _write_settings(folder, "preprocessor_config.json", (65_536, 16_777_216))
    _write_settings(folder, "video_preprocessor_config.json", (4_096, 25_165_824))
    (folder / "README.md").write_text("Random weights.\n", encoding="utf-8")
    (folder / "LICENSE").write_text("Nobody's: random numbers.\n", encoding="utf-8")


def _random_tensor(name: str, layout: TensorLayout, random: np.random.Generator) -> mx.array:
    """Numbers of the size that trained ones have, made of raw bits because there are billions."""
    count = layout.size_bytes
    if layout.dtype == "U32":
        raw = np.frombuffer(random.bytes(count), np.uint32)
        return mx.array(raw).reshape(layout.shape)
    if name.endswith((".scales", ".biases")):
        # 4 bits around zero: scale times 0 to 15, less 7.5 scales.
        value = 0.005 if name.endswith(".scales") else -0.0375
        return mx.full(layout.shape, value, DTYPES[layout.dtype])
    if layout.dtype == "F32":
        values = random.uniform(0.0, 2.0, layout.shape).astype(np.float32)
        return mx.array(values if name.endswith("A_log") else 0.5 + values / 2)
    # Sign and mantissa at random, the exponent that of 1/64: plus or minus 0.016 to 0.031.
    bits = np.frombuffer(random.bytes(count), np.uint16) & 0x807F | 0x3C80
    return mx.array(bits).view(mx.bfloat16).reshape(layout.shape)


def _write_tokenizer(folder: Path, tokens: int) -> None:
    """A byte-level vocabulary of so many learned tokens and the published control tokens."""
    letters = _letters()
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    for left, right in _pairs(letters):
        if len(vocabulary) == tokens:
            break
        vocabulary[left + right] = len(vocabulary)
        merges.append((left, right))
    data = json.loads((DEMO_MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    pattern = data["added_tokens"][0]
    data["added_tokens"] = [
        pattern | {"id": tokens + number, "content": token}
        for number, token in enumerate(CONTROL_TOKENS)
    ]
    data["model"] |= {"vocab": vocabulary, "merges": merges}
    _write_json(folder / "tokenizer.json", data, indent=None)
    _write_json(folder / "vocab.json", vocabulary, indent=None)
    lines = "\n".join(f"{left} {right}" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    shutil.copy(DEMO_MODEL / "tokenizer_config.json", folder)


def _letters() -> list[str]:
    """What stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [
        chr(256 + n) for n in range(_BYTES - len(printable))
    ]


def _pairs(letters: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Ever new merges: all pairs of letters, then each pair with one more."""
    for left in letters:
        for right in letters:
            yield left, right
    for left in letters:
        for middle in letters:
            for right in letters:
                yield left + middle, right


def _write_settings(folder: Path, name: str, pixels: tuple[int, int]) -> None:
    data = {
        "size": {"shortest_edge": pixels[0], "longest_edge": pixels[1]},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    _write_json(folder / name, data)


def _write_json(file: Path, data: object, indent: int | None = 2) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    file.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.real.synthetic", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=(TINY, *SIZES), default="0.8B")
    parser.add_argument("--bits", type=int, choices=(4, 8), help="converted, not as published")
    options = parser.parse_args()
    if options.bits is None:
        write_published(options.folder, options.size)
    else:
        write_converted(options.folder, options.size, options.bits)


if __name__ == "__main__":
    main()
