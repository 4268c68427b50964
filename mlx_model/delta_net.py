"""The linear-attention mixer: a short convolution, then the gated delta rule over a state.

Per value head the state S [Dv, Dk] follows, token by token, all in fp32:
    S <- decay * S;  delta = beta * (v - S k);  S <- S + delta k^T;  out = S q
`recurrent_step` is that line; `chunked` computes the same for many tokens with matrix products.
"""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_model.cache import DeltaNetCache
from mlx_model.config import TextConfig
from mlx_model.delta_kernels import gated_delta
from mlx_model.device_math import FEW_TOKENS, exp, on_metal, silu
from mlx_model.layers import GatedRMSNorm, Linear, side_by_side

DeltaRule = Callable[
    [mx.array, mx.array, mx.array, mx.array, mx.array, mx.array], tuple[mx.array, mx.array]
]

_CHUNK_TOKENS = 64
_L2_EPS = 1e-6


class DepthwiseConv(nn.Module):
    """Causal convolution of each channel by itself; weight [C, 1, kernel] as in the checkpoint."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = mx.zeros((channels, 1, kernel))

    def __call__(self, window: mx.array) -> mx.array:
        """Shapes: window [1, kernel - 1 + T, C], older inputs first -> [1, T, C]."""
        # mx.compile makes one launch of a few products and what follows.
        many = window.shape[1] > FEW_TOKENS + self.weight.shape[-1] - 1
        return (grouped_conv if many and on_metal() else shifted_products)(window, self.weight)


def grouped_conv(window: mx.array, weight: mx.array) -> mx.array:
    """The depthwise convolution by mlx's own kernel. Shapes as in DepthwiseConv."""
    return mx.conv1d(window, weight.swapaxes(1, 2), groups=weight.shape[0])


def shifted_products(window: mx.array, weight: mx.array) -> mx.array:
    """The same by elementwise products, which the CPU backend does much faster."""
    taps = weight[:, 0].T  # [kernel, C]
    kernel = taps.shape[0]
    tokens = window.shape[1] - kernel + 1
    if tokens == 1 and not on_metal():
        return (window * taps.astype(mx.float32)).sum(axis=1, keepdims=True)
    # Cut first and cast then: mx.compile takes a cast into its launch, but not a cut.
    products = [
        window[:, tap : tap + tokens] * taps[tap : tap + 1].astype(mx.float32)
        for tap in range(kernel)
    ]
    total = products[0]
    for product in products[1:]:
        total = total + product
    return total


class GatedDeltaNet(nn.Module):
    """Axes: T new tokens, Hk key heads, H value heads, Dk and Dv their widths, C conv channels."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.key_heads = config.linear_num_key_heads
        self.value_heads = config.linear_num_value_heads
        self.key_dim = config.linear_key_head_dim
        self.value_dim = config.linear_value_head_dim
        self.kernel = config.linear_conv_kernel_dim
        keys = self.key_heads * self.key_dim
        values = self.value_heads * self.value_dim
        channels = 2 * keys + values
        self.in_proj_qkv = Linear(config.hidden_size, channels)
        self.in_proj_z = Linear(config.hidden_size, values)
        self.in_proj_b = Linear(config.hidden_size, self.value_heads)
        self.in_proj_a = Linear(config.hidden_size, self.value_heads)
        self.conv1d = DepthwiseConv(channels, self.kernel)
        self.A_log = mx.zeros((self.value_heads,))
        self.dt_bias = mx.zeros((self.value_heads,))
        # The published model divides queries by sqrt(Dk). The rule is linear in them and this norm
        # takes any factor out again, all but the weight of its eps.
        self.norm = GatedRMSNorm(self.value_dim, config.rms_norm_eps * self.key_dim)
        self.out_proj = Linear(values, config.hidden_size)
        self._unit_weight = unit_weight(self.key_dim)
        self._small_source: mx.array | None = None
        self._small_maps: nn.Module | None = None
        # Asked for here, while the model is being loaded, because it may take a second.
        self.kernel_on_metal = metal_kernel(self.key_dim, self.value_dim)

    def __call__(self, x: mx.array, cache: DeltaNetCache) -> mx.array:
        """Shapes: x [1, T, hidden] -> the same; replaces the state and the tail in `cache`."""
        tokens = x.shape[1]
        queries, keys, values, window = self._convolved(x, cache)
        beta, rate = self._rates(x)
        beta = mx.sigmoid(beta.astype(mx.float32))
        rate = nn.softplus(rate.astype(mx.float32) + self.dt_bias)
        log_decay = -mx.exp(self.A_log.astype(mx.float32)) * rate  # [1, T, H]
        state = cache.state
        if state is None:
            state = mx.zeros((1, self.value_heads, self.value_dim, self.key_dim), mx.float32)
        rule = self.kernel_on_metal or delta_rule
        if cache.trail is None:
            mixed, cache.state = rule(queries, keys, values, log_decay, beta, state)
        else:
            mixed, states = one_by_one(rule, queries, keys, values, log_decay, beta, state)
            cache.state = states[-1]
            cache.trail.extend(
                (passed, window[:, place : place + self.kernel - 1])
                for place, passed in enumerate(states, start=1)
            )
        gate = self.in_proj_z(x).reshape(1, tokens, self.value_heads, self.value_dim)
        mixed = self.norm(mixed, gate).reshape(1, tokens, -1)
        projected: mx.array = self.out_proj(mixed)
        return projected

    def small_maps(self) -> nn.Module | None:
        """in_proj_b and in_proj_a as one map, whose weights are small enough to be there twice.

        None if that cannot be.
        """
        if self._small_source is not self.in_proj_b.weight:
            self._small_source = self.in_proj_b.weight
            self._small_maps = side_by_side(self.in_proj_b, self.in_proj_a)
        return self._small_maps

    def _rates(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """What beta and the decay are made of. Shapes: x [1, T, hidden] -> [1, T, H] twice."""
        both = self.small_maps()
        if both is None:
            return self.in_proj_b(x), self.in_proj_a(x)
        beta, rate = mx.split(both(x), 2, axis=-1)
        return beta, rate

    def _convolved(
        self, x: mx.array, cache: DeltaNetCache
    ) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """Queries and keys of unit length [1, T, Hk, Dk] and values [1, T, H, Dv], in fp32.

        The last of the four is what was convolved: [1, kernel - 1 + T, C].
        """
        tokens = x.shape[1]
        mixed = self.in_proj_qkv(x)
        tail = cache.conv_tail
        if tail is None:
            tail = mx.zeros((1, self.kernel - 1, mixed.shape[-1]), mixed.dtype)
        window = mx.concatenate([tail, mixed], axis=1)
        cache.conv_tail = window[:, tokens:]
        activated = silu(self.conv1d(window).astype(mx.float32))
        both, values = mx.split(activated, [2 * self.key_heads * self.key_dim], axis=-1)
        both = both.reshape(1, tokens, 2 * self.key_heads, self.key_dim)
        both = unit_length(both, self._unit_weight)
        queries, keys = mx.split(both, 2, axis=2)
        values = values.reshape(1, tokens, self.value_heads, self.value_dim)
        return queries, keys, values, window


def unit_length(x: mx.array, weight: mx.array) -> mx.array:
    """x / sqrt(sum x^2 + 1e-6) over the last axis; `weight` is the `unit_weight` of its width."""
    return mx.fast.rms_norm(x, weight, _L2_EPS / x.shape[-1])


def unit_weight(width: int) -> mx.array:
    """The weight that gives what an RMS norm makes of a vector the length 1. Shapes: [width]"""
    return mx.array(np.full(width, 1 / math.sqrt(width), np.float32))


def metal_kernel(key_dim: int, value_dim: int) -> DeltaRule | None:
    """mlx-lm's kernel for the gated delta rule, or None where there is none for these widths."""
    if not on_metal() or key_dim % 32 or value_dim % 8:
        return None
    gated_delta_kernel = gated_delta().gated_delta_kernel

    def rule(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        log_decay: mx.array,
        beta: mx.array,
        state: mx.array,
    ) -> tuple[mx.array, mx.array]:
        outputs, state = gated_delta_kernel(queries, keys, values, mx.exp(log_decay), beta, state)
        return outputs, state

    return rule


def delta_rule(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    log_decay: mx.array,
    beta: mx.array,
    state: mx.array,
) -> tuple[mx.array, mx.array]:
    """The gated delta rule in plain array operations, for one token or many.

    Shapes: queries and keys [1, T, Hk, Dk]; values [1, T, H, Dv]; log_decay and beta [1, T, H];
    state [1, H, Dv, Dk] -> outputs [1, T, H, Dv] and the state after the last token; all fp32.
    """
    groups = values.shape[2] // keys.shape[2]
    if groups > 1:
        queries, keys = mx.repeat(queries, groups, axis=2), mx.repeat(keys, groups, axis=2)
    if queries.shape[1] == 1:
        return recurrent_step(queries, keys, values, log_decay, beta, state)
    return chunked(queries, keys, values, log_decay, beta, state)


def one_by_one(
    rule: DeltaRule,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    log_decay: mx.array,
    beta: mx.array,
    state: mx.array,
) -> tuple[mx.array, list[mx.array]]:
    """A few tokens with the arithmetic of single ones, and the state after each of them.

    Shapes as in `delta_rule`.
    """
    outputs, states = [], []
    for place in range(queries.shape[1]):
        query, key, value, decay, rate = (
            part[:, place : place + 1] for part in (queries, keys, values, log_decay, beta)
        )
        output, state = rule(query, key, value, decay, rate, state)
        outputs.append(output)
        states.append(state)
    return mx.concatenate(outputs, axis=1), states


def recurrent_step(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    log_decay: mx.array,
    beta: mx.array,
    state: mx.array,
) -> tuple[mx.array, mx.array]:
    """One token. Shapes as in `delta_rule` with T = 1 and Hk = H."""
    decay = mx.exp(log_decay).swapaxes(1, 2)[..., None]  # [1, H, 1, 1]
    query, key, value = (part.swapaxes(1, 2) for part in (queries, keys, values))  # [1, H, 1, D]
    state = decay * state
    delta = beta.swapaxes(1, 2)[..., None] * (value - key @ state.swapaxes(2, 3))
    state = state + delta.swapaxes(2, 3) * key
    return (query @ state.swapaxes(2, 3)).swapaxes(1, 2), state


def chunked(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    log_decay: mx.array,
    beta: mx.array,
    state: mx.array,
) -> tuple[mx.array, mx.array]:
    """Many tokens, 64 at a time. Shapes as in `delta_rule` with Hk = H.

    Inside a chunk the updates of all tokens solve one unit-lower-triangular system; between
    chunks only the state passes on. Source: the WY form of Gated DeltaNet (arXiv 2412.06464).
    """
    tokens = queries.shape[1]
    size = min(_CHUNK_TOKENS, tokens)
    q, k, v, g, b = (_in_chunks(x, size) for x in (queries, keys, values, log_decay, beta))
    total = mx.cumsum(g, axis=2)  # [N, H, C], log of the decay since the chunk began
    causal = mx.tril(mx.ones((size, size), mx.bool_))
    # Masked before exp: above the diagonal the exponent is positive and would overflow.
    decay = exp(mx.where(causal, total[..., :, None] - total[..., None, :], -mx.inf))
    k_t = k.swapaxes(2, 3)
    system = mx.tril((b[..., None] * k @ k_t) * decay, -1) + mx.eye(size)
    inverse = mx.linalg.tri_inv(system, stream=mx.cpu)
    new_values = inverse @ (b[..., None] * v)  # [N, H, C, Dv]
    read_keys = inverse @ ((b * exp(total))[..., None] * k)  # [N, H, C, Dk]
    scores = (q @ k_t) * decay
    q = q * exp(total)[..., None]
    k = k * exp(total[..., -1:] - total)[..., None]
    chunk_decay = exp(total[..., -1])[..., None, None]

    state, outputs = state[0], []
    for n in range(q.shape[0]):
        state_t = state.swapaxes(1, 2)
        update = new_values[n] - read_keys[n] @ state_t  # [H, C, Dv]
        outputs.append(q[n] @ state_t + scores[n] @ update)
        state = chunk_decay[n] * state + update.swapaxes(1, 2) @ k[n]
    joined = mx.stack(outputs).swapaxes(1, 2)  # [N, C, H, Dv]
    return joined.reshape(1, -1, *joined.shape[2:])[:, :tokens], state[None]


def _in_chunks(x: mx.array, size: int) -> mx.array:
    """Shapes: [1, T, H, ...] -> [N, H, size, ...], the tail filled with zeros.

    A filled token has log decay 0 and beta 0, so it leaves the state as it is.
    """
    missing = -x.shape[1] % size
    if missing:
        x = mx.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(-1, size, *x.shape[2:]).swapaxes(1, 2)
