"""What a checkpoint's weights take: how many there are, in how many bits, in which part.

Read from the headers alone. Scales and biases of packed matrices count as bytes, not as weights.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlx_model.config import QuantizationConfig
from mlx_model.tensor_files import BYTES_PER_ELEMENT, TensorInfo

Part = Literal["language model", "draft head", "vision tower"]

PARTS: tuple[Part, ...] = ("language model", "draft head", "vision tower")

_ROLES = ("weight", "bias", "scales", "biases")


@dataclass(slots=True)
class WeightGroup:
    """The weights of one part that are stored alike.

    `bits` is None for those that are not packed; `kinds` are their tensors' own names, such as
    "q_proj", whatever the layer.
    """

    part: Part
    bits: int | None
    weights: int = 0
    size_bytes: int = 0
    kinds: set[str] = field(default_factory=set)


def weight_groups(
    tensors: Mapping[str, TensorInfo], quantization: QuantizationConfig | None
) -> list[WeightGroup]:
    """The groups of a checkpoint, part by part, the most bits first."""
    groups: dict[tuple[Part, int | None], WeightGroup] = {}
    for name, info in tensors.items():
        layer, _, role = name.rpartition(".")
        bits = None
        if quantization is not None and _is_packed(layer, tensors):
            bits = quantization.packing(layer).bits
        part = part_of(name)
        group = groups.setdefault((part, bits), WeightGroup(part, bits))
        elements = math.prod(info.shape)
        group.size_bytes += elements * BYTES_PER_ELEMENT[info.dtype]
        if bits is None:
            group.weights += elements
        elif role == "weight":
            group.weights += elements * 32 // bits
        group.kinds.add((layer if role in _ROLES else name).rpartition(".")[2])
    order = sorted(groups, key=lambda key: (PARTS.index(key[0]), -(key[1] or math.inf)))
    return [groups[key] for key in order]


def size_bytes(groups: Iterable[WeightGroup]) -> int:
    """What they take together."""
    return sum(group.size_bytes for group in groups)


def bits_a_weight(groups: Iterable[WeightGroup]) -> float:
    """Bits for each weight, scales and biases included; 0 for no weights."""
    groups = list(groups)
    weights = sum(group.weights for group in groups)
    return 8 * size_bytes(groups) / weights if weights else 0.0


def part_of(name: str) -> Part:
    """The part of the model that a tensor belongs to, by its name in any known layout."""
    place = name.split(".")[:3]
    if "mtp" in place:
        return "draft head"
    return "vision tower" if {"visual", "vision_tower"} & set(place) else "language model"


def _is_packed(layer: str, tensors: Mapping[str, TensorInfo]) -> bool:
    weight = tensors.get(f"{layer}.weight")
    return weight is not None and weight.dtype == "U32"
