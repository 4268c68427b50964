"""Makes tests/goldens/: tiny random checkpoints and what transformers computes with them.

Run from the repository root, in an environment made with
    pip install torch==2.13.0 transformers==5.23.0
    python tools/reference/make_goldens.py
The tests read the files and need neither package. Two checkpoints, each a few hundred kB:

tied     3 DeltaNet layers to 1 attention layer, tied embeddings, equal key and value widths
untied   alternating layers, a head of its own, value heads narrower than key heads, an odd MLP

Weights are random but nowhere neutral: a zero norm weight, dt_bias or A_log would hide mistakes,
and some DeltaNet keys and queries are so short that the epsilon of their norm counts.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

VOCAB = 112
IMAGE, VIDEO, VISION_START, VISION_END = 104, 105, 106, 107
PATCH_SIDE = 4
MERGE = 2

Grids = list[tuple[int, int, int]]


def model_config(tied: bool) -> Qwen3_5Config:
    """Config of one tiny model; 3 + 3 + 2 frequencies leave all three axes with work to do."""
    text = {
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
    return Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=tied,
    )


def random_model(tied: bool, seed: int) -> Qwen3_5ForConditionalGeneration:
    """A model in fp32 whose every tensor matters."""
    torch.manual_seed(seed)
    config = model_config(tied)
    config._attn_implementation = "eager"
    model = Qwen3_5ForConditionalGeneration(config).eval()
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


def image_tokens(grid: tuple[int, int, int]) -> list[int]:
    """One picture as the template writes it."""
    return [VISION_START, *[IMAGE] * (grid[1] * grid[2] // MERGE**2), VISION_END]


def video_tokens(grid: tuple[int, int, int]) -> list[int]:
    """One clip: two tokens stand for each group's time stamp, then its own block."""
    group = [VIDEO] * (grid[1] * grid[2] // MERGE**2)
    parts = [[20 + t, 30 + t, VISION_START, *group, VISION_END] for t in range(grid[0])]
    return [token for part in parts for token in part]


def cases() -> dict[str, tuple[list[int], Grids, Grids, int]]:
    """Name -> prompt, picture grids, clip grids, number of tokens to decode after it."""
    rng = np.random.default_rng(5)

    def text(tokens: int) -> list[int]:
        return [int(token) for token in rng.integers(0, 100, tokens)]

    wide, tall, clip = (1, 4, 6), (1, 8, 4), (3, 4, 6)
    found: dict[str, tuple[list[int], Grids, Grids, int]] = {
        f"text_{tokens}": (text(tokens), [], [], 0) for tokens in (1, 2, 63, 64, 65, 129)
    }
    found["text_decode"] = (text(9), [], [], 6)
    found["image"] = (text(5) + image_tokens(wide) + text(7), [wide], [], 8)
    found["image_only"] = (image_tokens(tall), [tall], [], 3)
    found["two_images"] = (
        text(3) + image_tokens(wide) + image_tokens(tall) + text(6),
        [wide, tall],
        [],
        4,
    )
    found["video_one_group"] = (
        text(4) + video_tokens((1, 4, 6)) + text(5),
        [],
        [(1, 4, 6)],
        3,
    )
    found["video"] = (text(4) + video_tokens(clip) + text(5), [], [clip], 4)
    found["two_videos"] = (
        text(2) + video_tokens(clip) + text(2) + video_tokens((2, 4, 4)) + text(3),
        [],
        [clip, (2, 4, 4)],
        2,
    )
    found["image_and_video"] = (
        text(3)
        + image_tokens(tall)
        + text(2)
        + video_tokens(clip)
        + text(2)
        + image_tokens(wide)
        + text(20),
        [tall, wide],
        [clip],
        4,
    )
    return found


def run_case(
    model: Qwen3_5ForConditionalGeneration,
    prompt: list[int],
    images: Grids,
    videos: Grids,
    decoded: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Inputs, positions and logits of one case; decoded tokens are read one by one with a cache."""
    extra = [int(token) for token in rng.integers(0, 100, decoded)]
    ids = np.array([prompt + extra], dtype=np.int64)
    inputs: dict[str, torch.Tensor] = {}
    kinds = np.where(ids == IMAGE, 1, np.where(ids == VIDEO, 2, 0))
    for grids, pixels_name, grid_name in (
        (images, "pixel_values", "image_grid_thw"),
        (videos, "pixel_values_videos", "video_grid_thw"),
    ):
        if grids:
            patches = sum(t * h * w for t, h, w in grids)
            pixels = rng.standard_normal((patches, 6 * PATCH_SIDE**2)).astype(np.float32)
            inputs[pixels_name] = torch.from_numpy(pixels)
            inputs[grid_name] = torch.tensor(grids)
    result = {name: tensor.numpy() for name, tensor in inputs.items()}
    if inputs:
        inputs["mm_token_type_ids"] = torch.from_numpy(kinds[:, : len(prompt)])

    model.model.rope_deltas = None
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(ids[:, : len(prompt)]), use_cache=True, **inputs)
        logits = [out.logits[0]]
        for token in extra:
            out = model(
                input_ids=torch.tensor([[token]]),
                past_key_values=out.past_key_values,
                use_cache=True,
            )
            logits.append(out.logits[0])
        joined = torch.cat(logits).numpy()
        if inputs:
            inputs["mm_token_type_ids"] = torch.from_numpy(kinds)
        model.model.rope_deltas = None
        whole = model(input_ids=torch.from_numpy(ids), use_cache=False, **inputs).logits[0].numpy()
        positions = np.broadcast_to(np.arange(ids.size), (3, ids.size))
        if inputs:
            grids_only = {name: t for name, t in inputs.items() if "pixel" not in name}
            positions = model.model.get_rope_index(torch.from_numpy(ids), **grids_only)[0][:, 0]
    # The reference's cached and whole passes must agree, or the golden is not one.
    error = np.abs(joined - whole).max() / np.abs(whole).max()
    if error > 3e-5:
        raise SystemExit(f"the reference disagrees with itself by {error:.1e}")
    return {
        **result,
        "input_ids": ids,
        "prompt_tokens": np.array(len(prompt)),
        "position_ids": np.asarray(positions, dtype=np.int64),
        "logits": joined,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/goldens"))
    out: Path = parser.parse_args().out
    torch.use_deterministic_algorithms(True)
    for name, tied in (("tied", True), ("untied", False)):
        model = random_model(tied, seed=11 if tied else 12)
        model.save_pretrained(out / name)
        (out / name / "generation_config.json").unlink(missing_ok=True)
        rng = np.random.default_rng(7)
        arrays: dict[str, np.ndarray] = {}
        for case, (prompt, images, videos, decoded) in cases().items():
            found = run_case(model, prompt, images, videos, decoded, rng)
            arrays.update({f"{case}/{key}": array for key, array in found.items()})
            print(f"{name} {case}: {found['logits'].shape[0]} rows")
        np.savez_compressed(out / name / "cases.npz", **arrays)
    for file in sorted(out.rglob("*")):
        if file.is_file():
            print(f"{os.path.getsize(file):>9,} {file}")


if __name__ == "__main__":
    main()
