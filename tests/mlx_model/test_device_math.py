"""Both forms of a function give what it is, up to rounding."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_model.device_math import exp, gelu_tanh, on_metal, silu, softmax_attention


@pytest.mark.parametrize("tokens", [1, 8, 10])
@pytest.mark.parametrize(
    ("dtype", "half_ulp"), [(mx.float32, 2**-24), (mx.bfloat16, 2**-8), (mx.float16, 2**-11)]
)
def test_silu_rounds_once(tokens: int, dtype: mx.Dtype, half_ulp: float) -> None:
    x = mx.linspace(-6, 8, 4000).reshape(1, tokens, -1).astype(dtype)
    exact = np.array(x.astype(mx.float32), dtype=np.float64)
    exact = exact / (1 + np.exp(-exact))
    found = silu(x)
    assert found.dtype == dtype
    error = np.abs(np.array(found.astype(mx.float32)) - exact) / np.abs(exact)
    # Few tokens, and Metal, go through mlx's own function, which rounds the sigmoid as well.
    allowed = 1.1 if tokens > 8 and dtype != mx.float32 and not on_metal() else 8.0
    assert error.max() < allowed * half_ulp


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_gelu_is_that_of_mlx(dtype: mx.Dtype) -> None:
    x = mx.concatenate([mx.linspace(-9, 9, 4000), mx.array([-1e4, 1e4])]).astype(dtype)
    found, expected = gelu_tanh(x), nn.gelu_approx(x.astype(mx.float32))
    assert found.dtype == dtype
    tolerance = {mx.float32: 1e-6, mx.bfloat16: 2**-8, mx.float16: 2**-11}[dtype]
    if on_metal():
        tolerance *= 8  # mlx's own rounds after each of its steps
    assert mx.allclose(found.astype(mx.float32), expected, rtol=tolerance, atol=2 * tolerance)


def test_exponentials_from_nothing_to_infinity() -> None:
    x = np.concatenate([np.linspace(-80, 80, 5000), [0.0, -200, 200, -np.inf]]).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    found = np.array(exp(mx.array(x)), dtype=np.float64)
    ordinary = np.abs(x) < 81
    # e itself is rounded, which counts once for each unit of x.
    allowed = (2 + np.abs(x[ordinary])) * 2**-23 * exact[ordinary]
    assert (np.abs(found - exact)[ordinary] <= allowed).all()
    assert found[-4:].tolist() == [1.0, 0.0, np.inf, 0.0]


def exact_attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, causal: bool
) -> NDArray[np.float64]:
    """The definition, in fp64, one head after the other."""
    q, k, v = (np.array(part, dtype=np.float64) for part in (queries, keys, values))
    made = np.zeros_like(q)
    tokens, length, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    for batch, head in np.ndindex(q.shape[:2]):
        scores = scale * q[batch, head] @ k[batch, head // groups].T
        for token in range(tokens):
            seen = length - tokens + token + 1 if causal else length
            weights = np.exp(scores[token, :seen] - scores[token, :seen].max())
            made[batch, head, token] = weights @ v[batch, head // groups, :seen] / weights.sum()
    return made


@pytest.mark.parametrize("tokens", [1, 2, 8, 9, 40])
@pytest.mark.parametrize("past", [0, 1, 30])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("strength", [1.0, 40.0])
def test_attention_is_what_it_is_defined_as(
    tokens: int, past: int, causal: bool, strength: float
) -> None:
    keys = iter(mx.random.split(mx.random.key(tokens + past), 3))
    queries = strength * mx.random.normal((2, 4, tokens, 16), key=next(keys))
    # Behind the rows in use there is room, as in a cache.
    room = [mx.random.normal((2, 2, past + tokens + 7, 16), key=next(keys)) for _ in range(2)]
    k, v = (buffer[:, :, : past + tokens] for buffer in room)
    found = softmax_attention(queries, k, v, 0.25, causal)
    assert found.dtype == mx.float32
    assert (
        np.abs(np.array(found) - exact_attention(queries, k, v, 0.25, causal)).max()
        < 1e-5 * strength
    )


def test_attention_in_16_bits_stays_in_16_bits() -> None:
    x = mx.random.normal((1, 2, 12, 16), key=mx.random.key(3)).astype(mx.bfloat16)
    found = softmax_attention(x, x, x, 0.25, causal=True)
    assert found.dtype == mx.bfloat16
    exact = exact_attention(*[x.astype(mx.float32)] * 3, 0.25, True)
    assert np.abs(np.array(found.astype(mx.float32)) - exact).max() < 0.05
