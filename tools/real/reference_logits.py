"""What transformers predicts for the inputs that `our_logits` has kept, from published weights.

    python tools/real/reference_logits.py FOLDER IN.npz OUT.npz --dtype float32

Needs torch and transformers, and nothing of this project.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3_5ForConditionalGeneration


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.real.reference_logits")
    parser.add_argument("folder", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    model = Qwen3_5ForConditionalGeneration.from_pretrained(
        options.folder, dtype=dtype, attn_implementation="eager"
    ).eval()
    stored = np.load(options.inputs)
    image_token_id = int(stored["config.image_token_id"])
    found = {}
    for case in ("text", "picture"):
        ids = stored[f"{case}.input_ids"]
        inputs = {"input_ids": torch.from_numpy(ids)}
        if f"{case}.pixel_values" in stored:
            inputs["pixel_values"] = torch.from_numpy(stored[f"{case}.pixel_values"]).to(dtype)
            inputs["image_grid_thw"] = torch.from_numpy(stored[f"{case}.image_grid_thw"])
            kinds = (ids == image_token_id).astype(np.int64)
            inputs["mm_token_type_ids"] = torch.from_numpy(kinds)
        model.model.rope_deltas = None
        with torch.no_grad():
            logits = model(use_cache=False, **inputs).logits[0].float().numpy()
        found[f"{case}.logits"] = logits
    np.savez(options.out, **found)


if __name__ == "__main__":
    main()
