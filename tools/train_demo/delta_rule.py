"""The gated delta rule in chunks, as transformers has it but for how its systems are solved.

Torch solves many small triangular systems one after the other on a CPU, twice forward and twice
backward. Here each is inverted once, and all else, backward too, is matrix products.
Source: Yang et al., "Gated Delta Networks" (2024), section 3.3.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 32
# For unit norms of queries and keys, as in the reference.
EPSILON = 1e-6


class UnitLowerInverse(torch.autograd.Function):
    """Inverse of lower triangular matrices with ones on the diagonal. Shapes: [..., C, C]."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        identity = torch.eye(matrix.shape[-1]).expand_as(matrix)
        inverse = torch.linalg.solve_triangular(
            matrix, identity, upper=False, unitriangular=True
        ).contiguous()
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        turned = inverse.transpose(-1, -2)
        return -(turned @ gradient @ turned).tril(-1)


def chunk_gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """From an empty state over whole sequences.

    Shapes: query, key [B, T, H, Dk]; value [B, T, H, Dv]; g, the log of the decay, and beta
    [B, T, H] -> [B, T, H, Dv].
    """
    dtype, length = value.dtype, query.shape[1]
    with torch.autocast("cpu", enabled=False):
        query, key = (_unit(x.float()) for x in (query, key))
        query = query * query.shape[-1] ** -0.5
        query, key, value, g, beta = (
            _chunked(x.float(), length) for x in (query, key, value, g[..., None], beta[..., None])
        )
        decay = g.squeeze(-1).cumsum(-1)  # [B, H, chunks, C]
        upper = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
        between = (decay[..., :, None] - decay[..., None, :]).masked_fill(upper, -torch.inf).exp()
        scaled_key = key * beta
        system = (scaled_key @ key.transpose(-1, -2) * between).tril(-1)
        inverse = UnitLowerInverse.apply(system)
        attention = query @ key.transpose(-1, -2) * between
        values = inverse @ (value * beta)
        decayed_keys = inverse @ (scaled_key * decay[..., None].exp())
        query = query * decay[..., None].exp()
        key = key * (decay[..., -1:] - decay)[..., None].exp()
        kept = decay[..., -1, None, None].exp()
        state = torch.zeros(*value.shape[:2], key.shape[-1], value.shape[-1])
        outputs = []
        for i in range(value.shape[2]):
            new = values[:, :, i] - decayed_keys[:, :, i] @ state
            outputs.append(query[:, :, i] @ state + attention[:, :, i] @ new)
            state = state * kept[:, :, i] + key[:, :, i].transpose(-1, -2) @ new
        out = torch.stack(outputs, 2).flatten(2, 3)[:, :, :length].transpose(1, 2)
    return out.to(dtype).contiguous(), None


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + EPSILON).rsqrt()


def _chunked(x: Tensor, length: int) -> Tensor:
    """[B, T, H, D] -> [B, H, chunks, C, D], zeros behind the end."""
    padding = -length % CHUNK
    x = torch.nn.functional.pad(x.transpose(1, 2), (0, 0, 0, padding))
    return x.unflatten(2, (-1, CHUNK))
