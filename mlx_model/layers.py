"""Layers that both kinds of token mixer share: linear maps, the two RMS norms, the MLP."""

import copy

import mlx.core as mx
import mlx.nn as nn

from mlx_model.config import TextConfig
from mlx_model.device_math import on_metal, silu

# The CPU backend multiplies by packed weights one row of input after the other; from this many
# rows on, unpacking them first is faster (twice at 8 rows, twenty times at 64).
_UNPACK_TOKENS = 4


class Linear(nn.Linear):
    """A linear map without bias, which mlx.nn.quantize turns into a PackedLinear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def to_quantized(
        self,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ) -> nn.Module:
        """Called by mlx.nn.quantize, whose signature it has; inputs are never quantised here."""
        assert group_size is not None
        assert bits is not None
        packed: nn.Module = PackedLinear.from_linear(self, group_size, bits, mode=mode)
        return packed


class PackedLinear(nn.QuantizedLinear):
    """A linear map with quantised weights, by whichever product suits the device and the input."""

    def __call__(self, x: mx.array) -> mx.array:
        """Shapes: x [1, T, inputs] -> [1, T, outputs]."""
        packed = self["weight"], self["scales"], self["biases"]
        if x.shape[1] < _UNPACK_TOKENS or on_metal():
            return mx.quantized_matmul(
                x, *packed, transpose=True, group_size=self.group_size, bits=self.bits
            )
        return x @ mx.dequantize(*packed, group_size=self.group_size, bits=self.bits).T


def side_by_side(first: nn.Module, second: nn.Module) -> nn.Module | None:
    """A map that gives the outputs of both, one after the other, with a copy of their weights.

    None if they are packed in different ways.
    """
    packed = isinstance(first, PackedLinear)
    if isinstance(second, PackedLinear) != packed:
        return None
    if packed and (first.bits, first.group_size) != (second.bits, second.group_size):
        return None
    both = copy.copy(first)
    for name in ("weight", "scales", "biases") if packed else ("weight",):
        both[name] = mx.concatenate([first[name], second[name]])
    return both


class RMSNorm(nn.Module):
    """RMS norm whose stored weight is centred on zero: it multiplies by 1 + weight, in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.zeros((width,))
        self.eps = eps
        self._source: mx.array | None = None
        self._scale: mx.array | None = None

    def __call__(self, x: mx.array, dtype: mx.Dtype | None = None) -> mx.array:
        """The result has `dtype`, which is that of x unless given."""
        normed = mx.fast.rms_norm(x.astype(mx.float32), self.scale(), self.eps)
        return normed.astype(dtype or x.dtype)

    def scale(self) -> mx.array:
        """1 + weight in fp32, kept because a decode step has dozens of norms."""
        if self._scale is None or self._source is not self.weight:
            self._source = self.weight
            self._scale = 1.0 + self.weight.astype(mx.float32)
        return self._scale


class GatedRMSNorm(nn.Module):
    """RMS norm with a plain weight, then a SiLU gate: norm first, gate after, both in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.ones((width,))
        self.eps = eps

    def __call__(self, x: mx.array, gate: mx.array) -> mx.array:
        """Shapes: x and gate [..., width]; the result has the dtype of `gate`."""
        normed = mx.fast.rms_norm(x.astype(mx.float32), self.weight, self.eps)
        return (normed * silu(gate.astype(mx.float32))).astype(gate.dtype)


class MLP(nn.Module):
    """The gated feed-forward part of a decoder layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
