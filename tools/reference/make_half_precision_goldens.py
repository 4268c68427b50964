"""Makes tests/goldens/half_precision.npz: what 16 bits cost transformers on several prompts.

Run from the repository root, in the environment of make_goldens.py, as
    PYTHONPATH=. python tools/reference/make_half_precision_goldens.py
The checkpoints are the calm versions of those that make_goldens.py writes. The file holds the
prompts and, for each, how far the reference is from itself in fp32: the largest difference and the
root of the mean square, both as a part of the largest logit. Pixels are levels from 0 to 255.
"""

import copy
from pathlib import Path

import numpy as np
import torch

from tools.reference.golden_cases import CLIP, PATCH_SIDE, TALL, image_tokens, video_tokens
from tools.reference.make_goldens import change_weights, logits_of, media_kinds, random_model

OUT = Path("tests/goldens/half_precision.npz")
PROMPTS = 8
TEXT_BEFORE, TEXT_BETWEEN, TEXT_AFTER = 40, 5, 40


def prompts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids [N, T] and the levels of a picture's and a clip's patches [N, P, width]."""
    rng = np.random.default_rng(9)
    parts = [
        rng.integers(0, 100, (PROMPTS, TEXT_BEFORE)),
        np.tile(image_tokens(TALL), (PROMPTS, 1)),
        rng.integers(0, 100, (PROMPTS, TEXT_BETWEEN)),
        np.tile(video_tokens(CLIP), (PROMPTS, 1)),
        rng.integers(0, 100, (PROMPTS, TEXT_AFTER)),
    ]
    width = 6 * PATCH_SIDE**2
    levels = [
        rng.integers(0, 256, (PROMPTS, int(np.prod(grid)), width), dtype=np.uint8)
        for grid in (TALL, CLIP)
    ]
    return np.concatenate(parts, axis=1), levels[0], levels[1]


def main() -> None:
    ids, picture, clip = prompts()
    arrays = {"input_ids": ids.astype(np.uint8), "picture": picture, "clip": clip}
    for variant, tied in (("tied", True), ("untied", False)):
        model = random_model(tied, seed=11 if tied else 12)
        change_weights(model, "calm")
        for dtype in (torch.bfloat16, torch.float16):
            half = copy.deepcopy(model).to(dtype)
            errors = []
            for number in range(PROMPTS):
                one = ids[number : number + 1]
                inputs = {
                    "pixel_values": torch.from_numpy(picture[number] / np.float32(127.5) - 1),
                    "image_grid_thw": torch.tensor([TALL]),
                    "pixel_values_videos": torch.from_numpy(clip[number] / np.float32(127.5) - 1),
                    "video_grid_thw": torch.tensor([CLIP]),
                    "mm_token_type_ids": media_kinds(one),
                }
                expected = logits_of(model, one, inputs)
                difference = logits_of(half, one, inputs) - expected
                scale = np.abs(expected).max()
                errors.append(
                    (np.abs(difference).max() / scale, np.sqrt((difference**2).mean()) / scale)
                )
            name = f"{variant}/{str(dtype).removeprefix('torch.')}"
            arrays[name] = np.array(errors, dtype=np.float32)
            print(name, "largest and root mean square:", arrays[name].mean(axis=0))
    np.savez_compressed(OUT, **arrays)
    print(f"{OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
