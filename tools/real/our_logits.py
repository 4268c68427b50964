"""What this project's port predicts for a fixed text and a fixed picture, for `tools.real`.

    python -m tools.real.our_logits FOLDER OUT.npz --dtype float32 [--inputs IN.npz]

--inputs is where the model's inputs go, for the reference to read.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_model import ImagePart, Message, TextPart, load_image, load_model, load_processor
from mlx_model.compare import chat
from mlx_model.self_check import PICTURE, TEXT

QUESTION = "What is in the picture?"
# As small as the published settings let a picture be.
_PICTURE_TOKENS = 64


def model_inputs(folder: Path) -> dict[str, dict[str, Any]]:
    """The inputs of each case, as `Model` takes them."""
    processor = load_processor(folder)
    message = Message("user", (ImagePart(PICTURE), TextPart(QUESTION)))
    pixels, grids = processor.images([load_image(PICTURE)], _PICTURE_TOKENS)
    picture = processor.prompt([message], image_grids=grids)
    return {
        "text": {"input_ids": processor.prompt(chat(TEXT)).input_ids[None]},
        "picture": {
            "input_ids": picture.input_ids[None],
            "pixel_values": pixels,
            "image_grid_thw": grids,
        },
    }


def save(file: Path, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the arrays of each case, as "case.name"."""
    np.savez(
        file,
        **{f"{case}.{name}": a for case, arrays in cases.items() for name, a in arrays.items()},
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.real.our_logits")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--inputs", type=Path)
    options = parser.parse_args()
    cases = model_inputs(options.folder)
    model = load_model(options.folder, dtype=getattr(mx, options.dtype))
    if options.inputs is not None:
        image = np.array(model.config.image_token_id)
        save(options.inputs, cases | {"config": {"image_token_id": image}})
    logits = {
        case: {"logits": np.array(model(**inputs)[0].astype(mx.float32))}
        for case, inputs in cases.items()
    }
    save(options.out, logits)


if __name__ == "__main__":
    main()
