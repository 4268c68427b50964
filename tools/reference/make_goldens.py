"""Makes tests/goldens/: tiny random checkpoints and what transformers computes with them.

Run from the repository root, in an environment made with
    pip install torch==2.13.0 transformers==5.23.0
    PYTHONPATH=. python tools/reference/make_goldens.py
The tests read the files and need neither package. Four checkpoints, each a few hundred kB:

tied     3 DeltaNet layers to 1 attention layer, tied embeddings, equal key and value widths
untied   alternating layers, a head of its own, value heads narrower than key heads, an odd MLP
mixture_tied, mixture_untied
         the same with a mixture of experts in two layers, and some of the cases; the experts are
         one by one in the first, as transformers saves them, and fused in the other, as published

Weights are random but nowhere neutral: a zero norm weight, dt_bias or A_log would hide mistakes,
and some DeltaNet keys and queries are so short that the epsilon of their norm counts. Cases that
need other weights change them by a rule (tests/mlx_model/golden_versions.py), which costs no file.
text_only.json says how transformers saves the language model by itself.
"""

import argparse
import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import (
    PreTrainedModel,
    Qwen3_5Config,
    Qwen3_5ForCausalLM,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeForConditionalGeneration,
)

from tests.mlx_model.golden_versions import change
from tools.reference.golden_cases import (
    IMAGE,
    MERGE,
    PATCH_SIDE,
    VIDEO,
    VISION_END,
    VISION_START,
    Case,
    cases,
    odd_clip_pixels,
)

VOCAB = 112
# Seeds of the weights; of a mixture, the cases that are worth their size.
SEEDS = {"tied": 11, "untied": 12, "mixture_tied": 13, "mixture_untied": 14}
MIXTURE_CASES = ("text_1", "text_65", "text_129", "text_decode", "image_and_video", "several_turns")
MIXTURE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "moe_intermediate_size": 32,
    "num_experts_per_tok": 2,
}


def model_config(tied: bool, mixture: bool) -> Qwen3_5Config | Qwen3_5MoeConfig:
    """Config of one tiny model; 3 + 3 + 2 frequencies leave all three axes with work to do."""
    text: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 64 if tied else 72,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32 if tied else 64,
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32 if tied else 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2 if tied else 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"]
        if tied
        else ["linear_attention", "full_attention"] * 2,
        "tie_word_embeddings": tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5 if tied else 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "in_channels": 3,
        "patch_size": PATCH_SIDE,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 49,
        "hidden_act": "gelu_pytorch_tanh",
    }
    if mixture:
        # Other widths for the shared expert than for the rest, and a number that is no power of 2.
        shared = text.pop("intermediate_size") + 24
        text |= MIXTURE | {
            "num_experts": 6 if tied else 5,
            "shared_expert_intermediate_size": shared,
        }
        vision["depth"] = 1
    return (Qwen3_5MoeConfig if mixture else Qwen3_5Config)(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=tied,
    )


def random_model(name: str) -> PreTrainedModel:
    """The model `name` of SEEDS, in fp32, whose every tensor matters."""
    torch.manual_seed(SEEDS[name])
    mixture = name.startswith("mixture")
    config = model_config(name.endswith("_tied") or name == "tied", mixture)
    config._attn_implementation = config._experts_implementation = "eager"
    kind = Qwen3_5MoeForConditionalGeneration if mixture else Qwen3_5ForConditionalGeneration
    model = kind(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            fill(name, tensor, config.text_config.linear_key_head_dim)
    return model


def fill(name: str, tensor: torch.Tensor, key_dim: int) -> None:
    """Random values at a scale that suits the tensor's part."""
    if name.endswith("A_log"):
        tensor.copy_(torch.empty_like(tensor).uniform_(0.02, 8.0).log())
    elif name.endswith("dt_bias"):
        tensor.uniform_(-3.0, 0.5)
    elif is_plain_norm(name):
        tensor.uniform_(0.5, 1.5)
    elif "norm" in name or name.endswith("bias"):
        tensor.normal_(0.0, 0.3)
    elif "embed_tokens" in name:
        # Small enough for the epsilon of the first norm to count.
        tensor.normal_(0.0, 0.02)
    elif any(part in name for part in ("pos_embed", "lm_head", "conv1d")):
        tensor.normal_(0.0, 0.5)
    elif ".experts." in name:
        tensor.normal_(0.0, 1.2 / tensor.shape[-1] ** 0.5)
    else:
        tensor.normal_(0.0, 1.2 / tensor[0].numel() ** 0.5)
    if name.endswith("in_proj_qkv.weight"):
        # First key head: queries and keys about 1e-3 long.
        tensor[:key_dim] *= 1e-3
        tensor[2 * key_dim : 3 * key_dim] *= 1e-3


def is_plain_norm(name: str) -> bool:
    """Whether a tensor multiplies as it is; the other norms' weights are centred on zero."""
    vision = ".visual." in name and "norm" in name and name.endswith("weight")
    return vision or name.endswith("linear_attn.norm.weight")


def change_weights(model: torch.nn.Module, version: str) -> None:
    """Turn a plain model into another version of itself."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            factor, offset = change(version, name)
            tensor.mul_(factor).add_(offset)


def inputs_of(case: Case, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Pixels and grids of one case."""
    inputs: dict[str, torch.Tensor] = {}
    for grids, pixels_name, grid_name in (
        (case.images, "pixel_values", "image_grid_thw"),
        (case.videos, "pixel_values_videos", "video_grid_thw"),
    ):
        if not grids:
            continue
        patches = sum(t * h * w for t, h, w in grids)
        pixels = (
            odd_clip_pixels()
            if case.odd_clip
            else rng.standard_normal((patches, 6 * PATCH_SIDE**2)).astype(np.float32)
        )
        inputs[pixels_name] = torch.from_numpy(pixels)
        inputs[grid_name] = torch.tensor(grids)
    return inputs


def run_case(model: PreTrainedModel, case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs, positions and logits of one case; decoded tokens are read one by one with a cache."""
    prompt = case.prompt
    extra = [int(token) for token in rng.integers(0, 100, case.decoded)]
    ids = np.array([prompt + extra], dtype=np.int64)
    inputs = inputs_of(case, rng)
    result = {name: tensor.numpy() for name, tensor in inputs.items()}
    kinds = media_kinds(ids)
    whole = logits_of(model, ids, {**inputs, **_kinds(inputs, kinds)})
    precise = logits_of(copy.deepcopy(model).double(), ids, {**inputs, **_kinds(inputs, kinds)})
    if (error := relative_error(whole, precise)) > 4e-5:
        raise SystemExit(f"the reference's own rounding reaches {error:.1e}")
    joined = whole
    if extra:
        first = {**inputs, **_kinds(inputs, kinds[:, : len(prompt)])}
        joined = logits_in_steps(model, ids, len(prompt), first, [1] * len(extra))
        # Several tokens at once after what a cache holds are a path of their own.
        at_once = logits_in_steps(model, ids, len(prompt), first, [len(extra)])
        for found in (joined, at_once):
            error = relative_error(found, whole)
            if error > 3e-5:
                raise SystemExit(f"the reference disagrees with itself by {error:.1e}")
    positions = np.broadcast_to(np.arange(ids.size), (3, ids.size))
    if inputs:
        grids_only = {name: t for name, t in inputs.items() if "pixel" not in name}
        found = model.model.get_rope_index(
            torch.from_numpy(ids), mm_token_type_ids=kinds, **grids_only
        )
        positions = found[0][:, 0]
    return {
        **result,
        "input_ids": ids,
        "prompt_tokens": np.array(len(prompt)),
        "turns": np.array(case.turns, dtype=np.int64),
        "version": np.array(case.version),
        "position_ids": np.asarray(positions, dtype=np.int64),
        "logits": joined,
    }


def media_kinds(ids: np.ndarray) -> torch.Tensor:
    """0 for text, 1 for a picture's token, 2 for a clip's."""
    return torch.from_numpy(np.where(ids == IMAGE, 1, np.where(ids == VIDEO, 2, 0)))


def _kinds(inputs: dict[str, torch.Tensor], kinds: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"mm_token_type_ids": kinds} if inputs else {}


def logits_of(
    model: torch.nn.Module, ids: np.ndarray, inputs: dict[str, torch.Tensor]
) -> np.ndarray:
    """All rows from one call without a cache, in fp32. Shapes: ids [1, T] -> [T, vocab]."""
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(ids), use_cache=False, **inputs)
    return out.logits[0].float().numpy()


def logits_in_steps(
    model: PreTrainedModel,
    ids: np.ndarray,
    first: int,
    inputs: dict[str, torch.Tensor],
    steps: list[int],
) -> np.ndarray:
    """All rows, read in a first call with the media and further ones with a cache."""
    model.model.rope_deltas = None
    tokens = torch.from_numpy(ids)
    with torch.no_grad():
        out = model(input_ids=tokens[:, :first], use_cache=True, **inputs)
        logits = [out.logits[0]]
        for step in steps:
            out = model(
                input_ids=tokens[:, first : first + step],
                past_key_values=out.past_key_values,
                use_cache=True,
            )
            logits.append(out.logits[0])
            first += step
    return torch.cat(logits).numpy()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def describe_text_only(model: PreTrainedModel, prompt: list[int]) -> dict[str, Any]:
    """Config and tensor names of the language model saved by itself.

    Its weights are those of the whole model and so are its logits, which is checked here.
    """
    config = copy.deepcopy(model.config.text_config)
    config._attn_implementation = "eager"
    mixture = isinstance(model, Qwen3_5MoeForConditionalGeneration)
    alone = (Qwen3_5MoeForCausalLM if mixture else Qwen3_5ForCausalLM)(config).eval()
    alone.load_state_dict(
        {
            name.replace("model.language_model.", "model."): tensor
            for name, tensor in model.state_dict().items()
            if ".visual." not in name
        }
    )
    ids = np.array([prompt])
    error = relative_error(logits_of(alone, ids, {}), logits_of(model, ids, {}))
    if error > 0:
        raise SystemExit(f"the language model by itself differs by {error:.1e}")
    with tempfile.TemporaryDirectory() as name:
        alone.save_pretrained(name)
        with safe_open(Path(name) / "model.safetensors", "np") as file:
            tensors = sorted(file.keys())
        saved = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    return {"config": saved, "tensors": tensors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/goldens"))
    parser.add_argument("--only", choices=SEEDS, nargs="*", default=list(SEEDS))
    arguments = parser.parse_args()
    out: Path = arguments.out
    torch.use_deterministic_algorithms(True)
    for name in arguments.only:
        plain = random_model(name)
        plain.save_pretrained(out / name, save_original_format=name != "mixture_untied")
        (out / name / "generation_config.json").unlink(missing_ok=True)
        rng = np.random.default_rng(7)
        arrays: dict[str, np.ndarray] = {}
        for label, case in cases().items():
            if name.startswith("mixture") and label not in MIXTURE_CASES:
                continue
            model = copy.deepcopy(plain)
            change_weights(model, case.version)
            found = run_case(model, case, rng)
            arrays.update({f"{label}/{key}": array for key, array in found.items()})
            print(f"{name} {label}: {found['logits'].shape[0]} rows")
        np.savez_compressed(out / name / "cases.npz", **arrays)
        text_only = describe_text_only(plain, cases()["text_65"].prompt)
        text = json.dumps(text_only, indent=1) + "\n"
        (out / name / "text_only.json").write_text(text, encoding="utf-8")
        for file in sorted((out / name).iterdir()):
            print(f"{os.path.getsize(file):>9,} {file}")


if __name__ == "__main__":
    main()
