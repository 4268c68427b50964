"""How far our logits are from the reference's, and how far is too far."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_model.errors import FiresideError

Logits = NDArray[np.float32]

# Of the largest logit. In fp32 only the order of sums differs; 24 to 32 layers of bf16 round.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
_SAME_LIKELIEST = {"float32": 0.99, "bfloat16": 0.9}


def compare_logits(reference: Path, ours: Path, packed: Path, dtype: str) -> None:
    """Print the distances; FiresideError if our logits of the same weights are too far off."""
    theirs, same, four_bits = (np.load(file) for file in (reference, ours, packed))
    wrong: list[str] = []
    for case in ("text", "picture"):
        expected = theirs[f"{case}.logits"]
        rows = {"published": same[f"{case}.logits"], "4 bits": four_bits[f"{case}.logits"]}
        for name, found in rows.items():
            error, alike = relative_error(found, expected), same_likeliest(found, expected)
            print(
                f"{case}, {name}: largest difference {error:.1e} of the largest logit, same "
                f"likeliest token {100 * alike:.1f} %, KL {divergence(expected, found):.2g} nats"
            )
            if name == "published" and not (
                error <= TOLERANCE[dtype] and alike >= _SAME_LIKELIEST[dtype]
            ):
                wrong.append(case)
    if wrong:
        raise FiresideError(
            f"Our logits are too far from the reference's ({' and '.join(wrong)}). "
            "Please report it with the lines above."
        )


def relative_error(found: Logits, expected: Logits) -> float:
    """The largest difference as a part of the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def same_likeliest(found: Logits, expected: Logits) -> float:
    """The share of rows [T, vocabulary] with the same likeliest token."""
    return float((found.argmax(axis=-1) == expected.argmax(axis=-1)).mean())


def divergence(expected: Logits, found: Logits) -> float:
    """The mean KL(expected || found) of rows [T, vocabulary], in nats."""
    p, q = _log_probabilities(expected), _log_probabilities(found)
    return float(np.maximum(np.sum(np.exp(p) * (p - q), axis=-1), 0).mean())


def _log_probabilities(logits: Logits) -> Logits:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
