"""Versions of the golden checkpoints: the same weights, changed where a case needs other numbers.

Shared by the tests and the tool that asks the reference, so it knows neither mlx nor torch. A
version maps the ending of a tensor's name to what becomes of it: tensor * factor + offset.
"""

import math

PLAIN = "plain"
VERSIONS: dict[str, dict[str, tuple[float, float]]] = {
    PLAIN: {},
    # Every token forgets almost all: the decay of a chunk of 64 underflows, its inverse overflows.
    "strong_decay": {"A_log": (0.0, math.log(16.0)), "dt_bias": (0.0, 1.0)},
    "no_decay": {"A_log": (0.0, math.log(1e-5))},
    # Sigmoids of about +-60: a token is written wholly or not at all.
    "hard_gates": {"in_proj_b.weight": (60.0, 0.0)},
    # The plain weights amplify roundings, above all where a head's output is nearly zero before its
    # norm, so that 16 bits say nothing about the port. These remember longer and change less.
    "calm": {
        "A_log": (0.0, math.log(0.05)),
        "conv1d.weight": (1.0, 0.5),
        "embed_tokens.weight": (50.0, 0.0),
        "o_proj.weight": (0.5, 0.0),
        "out_proj.weight": (0.5, 0.0),
        "down_proj.weight": (0.5, 0.0),
    },
}


def change(version: str, name: str) -> tuple[float, float]:
    """Factor and offset of the tensor `name`."""
    for ending, found in VERSIONS[version].items():
        if name.endswith(ending):
            return found
    return 1.0, 0.0
