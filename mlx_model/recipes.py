"""Which matrices of a checkpoint are packed, and in how many bits; the rest stays as published.

A recipe is a table from a matrix's own name to bits. `packing` alone reads it, from names and
shapes, without a weight; why a matrix gets its bits stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlx_model.config import PACKED_BITS, PACKED_GROUP_SIZES, Packing
from mlx_model.errors import CheckpointError
from mlx_model.weight_sizes import part_of

# Never packed, whatever the recipe, because no table names them: norms, A_log, dt_bias, conv1d
# and the gates in_proj_a and in_proj_b, which set decays that compound over the whole sequence and
# weigh next to nothing; and the vision tower, where packed position tables go wrong most.

# The draft head repeats the names of the language model's layers. Drafts are checked by the model
# itself, so rounding costs no accuracy, only drafts: 8 bits are enough to lose hardly any.
_DRAFT_BITS = 8
_DRAFT_MATRICES = (
    "fc",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "down_proj",
)

_MATRICES = (
    "embed_tokens",
    "lm_head",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "in_proj_qkv",
    "in_proj_z",
    "out_proj",
    "gate_proj",
    "up_proj",
    # Of fused experts.
    "gate_up_proj",
    "down_proj",
)

_MIXED_BITS = {
    # Small (few key and value heads), and every later token reads what they write.
    "k_proj": 8,
    "v_proj": 8,
    # Of a mixture of experts: a rounded router sends tokens to other experts.
    "gate": 8,
    "shared_expert_gate": 8,
    # The most sensitive matrix of a DeltaNet layer, and the one that fills its state.
    "out_proj": 6,
    "in_proj_qkv": 6,
    # Attention suffers from rounding everywhere.
    "q_proj": 6,
    "o_proj": 6,
    # The first and the last thing that happens to a token; one and the same matrix when tied.
    "embed_tokens": 6,
    "lm_head": 6,
    # The bulk, and the least sensitive.
    "in_proj_z": 4,
    "gate_proj": 4,
    "up_proj": 4,
    "gate_up_proj": 4,
    "down_proj": 4,
}
# More sensitive than gate and up; the layers at both ends most.
_MIXED_DOWN_BITS = 6
_END_SHARE = 8
_DOWN_EVERY = 3

NAMES = ("uniform", "mixed")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Bits of each kind of matrix in the language model; a kind that is not named is not packed.

    `bits` is what most of it gets. `down_bits` is for some layers' down_proj, None for no
    exception.
    """

    bits: int
    group_size: int
    bits_of: Mapping[str, int]
    down_bits: int | None = None


def find_recipe(name: str, bits: int, group_size: int = 64) -> Recipe:
    """The recipe called `name`; CheckpointError if it does not exist in so many bits."""
    if bits not in PACKED_BITS or group_size not in PACKED_GROUP_SIZES:
        raise CheckpointError(
            f"Weights cannot be packed at {bits} bits in groups of {group_size}. "
            f"Choose from {PACKED_BITS} bits and groups of {PACKED_GROUP_SIZES}."
        )
    if name == "uniform":
        return Recipe(bits, group_size, dict.fromkeys(_MATRICES, bits))
    if name != "mixed":
        raise CheckpointError(f"There is no recipe called {name}. Choose from {', '.join(NAMES)}.")
    if bits != _MIXED_BITS["gate_proj"]:
        raise CheckpointError(
            "The mixed recipe adds bits to a model of 4 bits; there is none of "
            f"{bits} bits. Choose 4 bits, or the uniform recipe."
        )
    return Recipe(bits, group_size, _MIXED_BITS, _MIXED_DOWN_BITS)


def packing(recipe: Recipe, name: str, shape: tuple[int, ...], layers: int) -> Packing | None:
    """How `recipe` packs the tensor `name` of a model with so many layers; None leaves it alone.

    A matrix whose rows do not fill whole groups is left alone as well. Fused experts are one
    tensor, each expert's matrix packed by itself; the published one is not called `.weight`.
    """
    if len(shape) not in (2, 3) or shape[-1] % recipe.group_size:
        return None
    bits = _bits(recipe, name, layers)
    return None if bits is None else Packing(bits, recipe.group_size)


def _bits(recipe: Recipe, name: str, layers: int) -> int | None:
    *above, matrix = name.removesuffix(".weight").split(".")
    match part_of(name):
        case "vision tower":
            return None
        case "draft head":
            return _DRAFT_BITS if matrix in _DRAFT_MATRICES else None
    bits = recipe.bits_of.get(matrix)
    if matrix != "down_proj" or recipe.down_bits is None:
        return bits
    index = int(above[above.index("layers") + 1])
    return recipe.down_bits if _keeps_more(index, layers) else bits


def _keeps_more(index: int, layers: int) -> bool:
    """Whether a layer is among the first or last eighth, or every third between."""
    ends = -(-layers // _END_SHARE)
    return index < ends or index >= layers - ends or index % _DOWN_EVERY == _DOWN_EVERY - 1
