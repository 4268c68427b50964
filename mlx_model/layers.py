"""Layers that both kinds of token mixer share: the two RMS norms' arithmetic and the MLP."""

import mlx.core as mx
import mlx.nn as nn

from mlx_model.config import TextConfig


class RMSNorm(nn.Module):
    """RMS norm whose stored weight is centred on zero: it multiplies by 1 + weight, in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.zeros((width,))
        self.eps = eps
        self._source: mx.array | None = None
        self._scale: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        # 1 + weight is kept because a decode step has dozens of norms; it follows the weight.
        if self._source is not self.weight:
            self._source = self.weight
            self._scale = 1.0 + self.weight.astype(mx.float32)
        return mx.fast.rms_norm(x.astype(mx.float32), self._scale, self.eps).astype(x.dtype)


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
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


def silu(x: mx.array) -> mx.array:
    """x times its sigmoid."""
    return x * mx.sigmoid(x)
