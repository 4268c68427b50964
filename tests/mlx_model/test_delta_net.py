"""The delta rule against its own definition, written out token by token in float64."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_model.cache import DeltaNetCache
from mlx_model.config import TextConfig, load_config
from mlx_model.delta_kernels import gated_delta
from mlx_model.delta_net import (
    GatedDeltaNet,
    chunked,
    delta_rule,
    grouped_conv,
    metal_kernel,
    shifted_products,
    unit_length,
    unit_weight,
)
from mlx_model.device_math import on_metal
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, relative_error

TOKEN_COUNTS = (1, 2, 3, 63, 64, 65, 129, 200)


def definition(
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    log_decay: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """S <- decay S; delta = beta (v - S k); S <- S + delta k^T; out = S q, per value head."""
    groups = values.shape[2] // keys.shape[2]
    q, k = (np.repeat(x.astype(np.float64), groups, axis=2)[0] for x in (queries, keys))
    v, g, b = (x.astype(np.float64)[0] for x in (values, log_decay, beta))
    s = state.astype(np.float64)[0]
    outputs = []
    for t in range(v.shape[0]):
        s = np.exp(g[t])[:, None, None] * s
        delta = b[t][:, None] * (v[t] - np.einsum("hvk,hk->hv", s, k[t]))
        s = s + np.einsum("hv,hk->hvk", delta, k[t])
        outputs.append(np.einsum("hvk,hk->hv", s, q[t]))
    return np.stack(outputs)[None], s[None]


def random_inputs(
    tokens: int, key_heads: int = 2, value_heads: int = 4, seed: int = 0
) -> list[np.ndarray]:
    """queries, keys, values, log_decay, beta, state as `delta_rule` takes them."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((2, 1, tokens, key_heads, 32))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    values = rng.standard_normal((1, tokens, value_heads, 16))
    log_decay = -np.exp(rng.uniform(-6, 1, (1, tokens, value_heads)))
    beta = rng.uniform(0, 1, (1, tokens, value_heads))
    state = rng.standard_normal((1, value_heads, 16, 32))
    found = [keys[0] * 32**-0.5, keys[1], values, log_decay, beta, state]
    return [array.astype(np.float32) for array in found]


def check(inputs: list[np.ndarray], tolerance: float = 2e-6) -> None:
    expected, expected_state = definition(*inputs)
    outputs, state = delta_rule(*(mx.array(array) for array in inputs))
    assert outputs.dtype == state.dtype == mx.float32
    assert relative_error(outputs, expected) < tolerance
    assert relative_error(state, expected_state) < tolerance


@pytest.mark.parametrize("tokens", TOKEN_COUNTS)
def test_any_number_of_tokens_follows_the_definition(tokens: int) -> None:
    check(random_inputs(tokens))


@pytest.mark.parametrize("tokens", TOKEN_COUNTS)
def test_chunked_equals_one_token_at_a_time(tokens: int) -> None:
    arrays = [mx.array(array) for array in random_inputs(tokens, key_heads=4)]
    *sequences, state = arrays
    outputs, final = chunked(*sequences, state)
    rows = []
    for t in range(tokens):
        row, state = delta_rule(*(x[:, t : t + 1] for x in sequences), state)
        rows.append(row)
    assert relative_error(outputs, mx.concatenate(rows, axis=1)) < 2e-6
    assert relative_error(final, state) < 2e-6


@pytest.mark.parametrize("tokens", [1, 65, 129])
@pytest.mark.parametrize(
    ("log_decay", "beta"), [(-40.0, 0.5), (-1e-6, 0.5), (-0.1, 0.0), (-0.1, 1.0), (0.0, 1.0)]
)
def test_extreme_gates(tokens: int, log_decay: float, beta: float) -> None:
    inputs = random_inputs(tokens)
    inputs[3][:] = log_decay
    inputs[4][:] = beta
    check(inputs, tolerance=2e-5)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_keys_that_are_nearly_the_same(noise: float) -> None:
    inputs = random_inputs(129)
    rng = np.random.default_rng(1)
    keys = inputs[1][:, :1] + noise * rng.standard_normal(inputs[1].shape)
    inputs[1] = (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).astype(np.float32)
    inputs[3][:] = -1e-4
    inputs[4][:] = 0.99
    check(inputs, tolerance=2e-5)


def test_decay_that_would_overflow_backwards_stays_finite() -> None:
    inputs = random_inputs(128)
    inputs[3][:] = -16.0
    outputs, state = delta_rule(*(mx.array(array) for array in inputs))
    assert bool(mx.isfinite(outputs).all())
    assert bool(mx.isfinite(state).all())


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-4])
def test_unit_length_adds_its_epsilon_to_the_sum_of_squares(scale: float) -> None:
    x = scale * np.random.default_rng(2).standard_normal((3, 32)).astype(np.float32)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True) + 1e-6)
    assert relative_error(unit_length(mx.array(x), unit_weight(x.shape[-1])), expected) < 1e-6


def test_the_kernel_that_runs_on_metal_follows_the_same_conventions() -> None:
    """mlx-lm's plain twin of its kernel, given what the kernel is given: the only check off a Mac.

    It says whether the decay is linear, how heads are grouped and which way the state lies.
    """
    for tokens in (1, 7):
        arrays = [mx.array(array) for array in random_inputs(tokens)]
        queries, keys, values, log_decay, beta, state = arrays
        twin = gated_delta().gated_delta_ops(queries, keys, values, mx.exp(log_decay), beta, state)
        for found, expected in zip(delta_rule(*arrays), twin, strict=True):
            assert relative_error(found, expected) < 1e-6


def test_without_metal_there_is_no_kernel() -> None:
    if not on_metal():
        assert metal_kernel(128, 128) is None


@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_both_forms_of_the_convolution_agree(tokens: int) -> None:
    keys = mx.random.split(mx.random.key(5))
    window = mx.random.normal((1, tokens + 3, 24), key=keys[0])
    weight = mx.random.normal((24, 1, 4), key=keys[1])
    expected = grouped_conv(window, weight)
    assert expected.shape == (1, tokens, 24)
    assert relative_error(shifted_products(window, weight), expected) < 1e-6


def test_a_layer_gives_the_same_whichever_way_its_input_is_cut() -> None:
    layer = random_layer(load_config(GOLDENS / "untied").text)
    x = mx.random.normal((1, 70, 64), key=mx.random.key(3))
    whole_cache = DeltaNetCache()
    whole = layer(x, whole_cache)
    for stops in ([1], [69], [2, 3, 5], [64], [10, 11, 12, 60]):
        cache = DeltaNetCache()
        bounds = zip([0, *stops], [*stops, 70], strict=True)
        parts = [layer(x[:, start:stop], cache) for start, stop in bounds]
        assert relative_error(mx.concatenate(parts, axis=1), whole) < 1e-5
        assert relative_error(cache.state, whole_cache.state) < 1e-5
        # The tail is what the convolution will need next: projections of the last three inputs.
        assert cache.conv_tail.shape == (1, 3, 192)
        assert relative_error(cache.conv_tail, layer.in_proj_qkv(x[:, -3:])) < 1e-5


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bf16", "fp16"])
def test_in_16_bits_decay_is_still_computed_in_32(dtype: mx.Dtype) -> None:
    """Decays multiply over the whole sequence, and so do their roundings."""
    layer = load_model(GOLDENS / "untied", dtype).model.language_model.layers[0].linear_attn
    layer.A_log = mx.full(layer.A_log.shape, math.log(0.02))
    cache = DeltaNetCache()
    layer(mx.random.normal((1, 10, 64), key=mx.random.key(3)).astype(dtype), cache)
    layer(mx.zeros((1, 3, 64), dtype), cache)  # the convolution has forgotten what was there
    before = cache.state
    layer(mx.zeros((1, 400, 64), dtype), cache)
    decay = mx.exp(-400 * 0.02 * nn.softplus(layer.dt_bias))
    assert relative_error(cache.state, before * decay[None, :, None, None]) < 1e-4


def random_layer(config: TextConfig) -> GatedDeltaNet:
    layer = GatedDeltaNet(config)
    keys = iter(mx.random.split(mx.random.key(4), 10))
    layer.conv1d.weight = mx.random.normal(layer.conv1d.weight.shape, key=next(keys)) * 0.5
    layer.A_log = mx.random.uniform(-3, 2, layer.A_log.shape, key=next(keys))
    layer.dt_bias = mx.random.uniform(-3, 1, layer.dt_bias.shape, key=next(keys))
    return layer
