"""What a conversion will write, worked out from headers and a recipe before a weight is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_model.config import Packing
from mlx_model.recipes import Recipe, packing
from mlx_model.tensor_files import TensorInfo
from mlx_model.tensor_writer import TensorLayout


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of the source, how it is packed (None: not at all) and what it becomes.

    `outputs` are the tensors it becomes, by name: itself, or weight, scales and biases.
    """

    name: str
    source: TensorInfo
    packing: Packing | None
    outputs: Mapping[str, TensorLayout]

    @property
    def layer(self) -> str:
        """The tensor's name without `.weight`, as a config names it."""
        return self.name.removesuffix(".weight")

    @property
    def size_bytes(self) -> int:
        """The bytes it becomes."""
        return sum(layout.size_bytes for layout in self.outputs.values())


def plan(tensors: Mapping[str, TensorInfo], recipe: Recipe, layers: int) -> list[Step]:
    """One step for each tensor of a model with so many layers, in the order of the files."""
    return [
        _step(name, info, packing(recipe, name, info.shape, layers))
        for name, info in sorted(tensors.items(), key=lambda item: (item[1].file, item[0]))
    ]


def split(steps: Sequence[Step], shard_bytes: int) -> dict[str, list[Step]]:
    """File name -> the steps whose outputs it holds; a file is closed once it is so large."""
    shards: list[list[Step]] = []
    filled = shard_bytes
    for step in steps:
        if filled >= shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(step)
        filled += step.size_bytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }


def _step(name: str, info: TensorInfo, packed: Packing | None) -> Step:
    if packed is None:
        return Step(name, info, None, {name: TensorLayout(info.dtype, info.shape)})
    *rows, columns = info.shape
    layer = name.removesuffix(".weight")
    per_group = TensorLayout(info.dtype, (*rows, columns // packed.group_size))
    outputs = {
        f"{layer}.weight": TensorLayout("U32", (*rows, columns * packed.bits // 32)),
        f"{layer}.scales": per_group,
        f"{layer}.biases": per_group,
    }
    return Step(name, info, packed, outputs)
