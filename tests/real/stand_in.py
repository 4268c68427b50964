"""In the place of a Python with torch and transformers: answers `-m tools.real.reference_logits`.

The port computes the logits itself, from the inputs as they were handed over. Tests of the port are
elsewhere; this one lets a whole run of `make real REFERENCE=1` be tested without torch.
"""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_model.weights import load_model

ROOT = Path(__file__).resolve().parents[2]


def write_python(file: Path, factor: float = 1.0) -> Path:
    """A program that takes the arguments of a Python; its logits are `factor` times the port's."""
    file.write_text(
        f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m tests.real.stand_in {factor} "$@"\n',
        encoding="utf-8",
    )
    file.chmod(0o755)
    return file


def main() -> None:
    """FACTOR -m tools.real.reference_logits FOLDER IN.npz OUT.npz --dtype NAME"""
    factor, option, module, folder, inputs, out, dtype_option, dtype = sys.argv[1:]
    assert (option, module, dtype_option) == ("-m", "tools.real.reference_logits", "--dtype")
    model = load_model(folder, dtype=getattr(mx, dtype))
    stored = np.load(inputs)
    assert int(stored["config.image_token_id"]) in stored["picture.input_ids"]
    logits = {}
    for case in ("text", "picture"):
        own = [name for name in stored.files if name.startswith(f"{case}.")]
        found = model(**{name.partition(".")[2]: stored[name] for name in own})[0]
        logits[f"{case}.logits"] = np.array(found.astype(mx.float32)) * float(factor)
    np.savez(out, **logits)


if __name__ == "__main__":
    main()
