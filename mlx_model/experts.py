"""The mixture of experts that takes the place of a decoder layer's MLP in the larger models.

A router gives each token to a few of many small MLPs; one more, the shared expert, sees them all.
"""

import mlx.core as mx
import mlx.nn as nn

from mlx_model.config import ExpertsConfig, TextConfig
from mlx_model.device_math import on_metal, silu
from mlx_model.layers import MLP, Linear

# From so many pairs of token and expert on, sorting them by expert pays: its weights are then read
# once for all its tokens.
_SORT_PAIRS = 64


class ExpertLinear(nn.Module):
    """One matrix for each expert; mlx.nn.quantize turns it into a PackedExpertLinear."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = mx.zeros((experts, outputs, inputs))

    def __call__(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        """Shapes: x [N, 1, inputs]; experts [N], ascending if `in_order` -> [N, 1, outputs]."""
        weight = self.weight.swapaxes(1, 2)
        if not on_metal() and x.dtype != mx.float32:
            # The CPU backend gathers only in fp32, which is what it computes in unless asked.
            precise = x.astype(mx.float32), weight.astype(mx.float32)
            return mx.gather_mm(*precise, rhs_indices=experts).astype(x.dtype)
        return mx.gather_mm(x, weight, rhs_indices=experts, sorted_indices=in_order)

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
        return PackedExpertLinear(self.weight, group_size, bits)


class PackedExpertLinear(nn.Module):
    """One quantised matrix for each expert."""

    def __init__(self, weight: mx.array, group_size: int, bits: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.bits = bits
        self.weight, self.scales, self.biases = mx.quantize(weight, group_size, bits)

    def __call__(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        """Shapes: x [N, 1, inputs]; experts [N], ascending if `in_order` -> [N, 1, outputs]."""
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            rhs_indices=experts,
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            sorted_indices=in_order,
        )


class Experts(nn.Module):
    """The experts that share a layer, each a gated MLP."""

    def __init__(self, config: ExpertsConfig, width: int) -> None:
        super().__init__()
        self.gate_proj = ExpertLinear(config.count, width, config.intermediate_size)
        self.up_proj = ExpertLinear(config.count, width, config.intermediate_size)
        self.down_proj = ExpertLinear(config.count, config.intermediate_size, width)

    def __call__(self, x: mx.array, chosen: mx.array) -> mx.array:
        """Shapes: x [1, T, hidden]; chosen experts [1, T, k] -> [1, T, k, hidden]."""
        experts = chosen.reshape(-1)
        rows = mx.repeat(x[0], chosen.shape[-1], axis=0)[:, None]  # [T * k, 1, hidden]
        if experts.size < _SORT_PAIRS:
            mixed = self._run(rows, experts, in_order=False)
        else:
            order = mx.argsort(experts)
            mixed = self._run(rows[order], experts[order], in_order=True)[mx.argsort(order)]
        return mixed.reshape(*chosen.shape, -1)

    def _run(self, rows: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        gate = self.gate_proj(rows, experts, in_order)
        up = self.up_proj(rows, experts, in_order)
        return self.down_proj(silu(gate) * up, experts, in_order)


class MixtureOfExperts(nn.Module):
    """Router, experts and the shared expert. Axes: T tokens, k experts for each."""

    def __init__(self, config: TextConfig, experts: ExpertsConfig) -> None:
        super().__init__()
        self.per_token = experts.per_token
        self.gate = Linear(config.hidden_size, experts.count)
        self.experts = Experts(experts, config.hidden_size)
        self.shared_expert = MLP(config)
        self.shared_expert_gate = Linear(config.hidden_size, 1)

    def __call__(self, x: mx.array) -> mx.array:
        """Shapes: x [1, T, hidden] -> the same."""
        chosen, shares = self.route(x)
        mixed = (self.experts(x, chosen) * shares[..., None]).sum(axis=-2)
        return mixed + mx.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)

    def route(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """The experts of each token and their shares, which add up to 1; computed in fp32.

        Shapes: x [1, T, hidden] -> experts and shares [1, T, k]; the shares have x's dtype.
        """
        probabilities = mx.softmax(self.gate(x).astype(mx.float32), axis=-1)
        chosen = mx.argpartition(-probabilities, self.per_token - 1, axis=-1)
        chosen = chosen[..., : self.per_token]
        shares = mx.take_along_axis(probabilities, chosen, axis=-1)
        return chosen, (shares / shares.sum(axis=-1, keepdims=True)).astype(x.dtype)
