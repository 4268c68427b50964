"""Functions that mlx computes much faster in another form on one device than on the other.

On x86 the CPU backend takes 14 ns for each exponential, a third of that for a power, and next to
nothing for sums and products (nobody has measured an ARM processor). Metal has kernels of its own.
"""

import math

import mlx.core as mx
import mlx.nn as nn

# So many are computed as a single token is: a window of drafts then gives what its tokens do. On
# the CPU backend a window of more than two drafts differs by rounding where weights are packed.
FEW_TOKENS = 8


def on_metal() -> bool:
    """Whether work goes to a Mac's GPU; everything else counts as the CPU backend."""
    return mx.default_device() == mx.gpu and mx.metal.is_available()


def exp(x: mx.array) -> mx.array:
    """e to the power of each element of x, which is in fp32."""
    return mx.exp(x) if on_metal() else mx.power(mx.array(math.e), x)


def silu(x: mx.array) -> mx.array:
    """x times its sigmoid. Shapes: x [1, T, ...], or rows that are single tokens [N, 1, width]."""
    if x.shape[1] <= FEW_TOKENS or on_metal():
        fused: mx.array = nn.silu(x)
        return fused
    precise = x.astype(mx.float32)
    return (precise / (1.0 + exp(-precise))).astype(x.dtype)


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU in its tanh form: x times a sigmoid, since (1 + tanh(u)) / 2 is that of 2u."""
    if on_metal():
        fused: mx.array = nn.gelu_approx(x)
        return fused
    precise = x.astype(mx.float32)
    twice = math.sqrt(8 / math.pi) * (precise + 0.044715 * precise * precise * precise)
    return (precise / (1.0 + exp(-twice))).astype(x.dtype)


def softmax_attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, causal: bool = False
) -> mx.array:
    """Softmax attention, heads of keys and values shared by groups of query heads.

    `causal`: the queries are those of the last T keys, T <= L, and see nothing that comes after.
    Shapes: queries [B, H, T, D]; keys and values [B, K, L, D] -> [B, H, T, D]
    """
    batch, heads, tokens, width = queries.shape
    if tokens <= FEW_TOKENS or queries.dtype != mx.float32 or on_metal():
        mask = "causal" if causal and tokens > 1 else None
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    kv_heads, length = keys.shape[1:3]
    groups = heads // kv_heads
    queries = (scale * queries).reshape(batch, kv_heads, groups * tokens, width)
    scores = queries @ keys.swapaxes(2, 3)
    if causal:
        ahead = mx.triu(mx.full((tokens, tokens), -mx.inf), 1)
        hidden = mx.pad(ahead, [(0, 0), (length - tokens, 0)])
        scores = scores.reshape(batch, kv_heads, groups, tokens, length) + hidden
        scores = scores.reshape(batch, kv_heads, groups * tokens, length)
    weights = exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights @ values / weights.sum(axis=-1, keepdims=True)
    return mixed.reshape(batch, heads, tokens, width)
