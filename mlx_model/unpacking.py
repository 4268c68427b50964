"""Unpacks the matrices of a small model once and for all, where that is faster.

The CPU backend multiplies by packed matrices many times slower than by plain ones, one row of input
after the other. Plain ones take up to eight times the memory, so only a small model gets them.
"""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_model.device_math import on_metal
from mlx_model.layers import Linear, PackedLinear

# What the unpacked matrices may take: about thirty million weights.
_MOST_BYTES = 128 << 20


def unpack_small(model: nn.Module) -> bool:
    """Put plain matrices in the place of packed ones, if there is reason to; whether it did."""
    packed = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, PackedLinear | nn.QuantizedEmbedding)
    }
    weights = sum(module.weight.size * 32 // module.bits for module in packed.values())
    if on_metal() or not packed or 4 * weights > _MOST_BYTES:
        return False
    plain = [(path, _plain(module)) for path, module in packed.items()]
    model.update_modules(tree_unflatten(plain))
    mx.eval(model.parameters())
    return True


def _plain(module: PackedLinear | nn.QuantizedEmbedding) -> nn.Module:
    weight = mx.dequantize(
        module.weight, module.scales, module.biases, group_size=module.group_size, bits=module.bits
    )
    rows, columns = weight.shape
    plain = (
        Linear(columns, rows) if isinstance(module, PackedLinear) else nn.Embedding(rows, columns)
    )
    plain.weight = weight
    return plain
