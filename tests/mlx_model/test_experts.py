"""Which experts a token goes to, in which shares, and that sorting and packing change nothing."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_model.config import ExpertsConfig
from mlx_model.experts import Experts, MixtureOfExperts
from tests.mlx_model.goldens import MIXTURES, golden_model, relative_error


def mixture(dtype: mx.Dtype = mx.float32) -> MixtureOfExperts:
    layer = golden_model("mixture_untied", dtype=dtype).model.language_model.layers[0]
    assert isinstance(layer.mlp, MixtureOfExperts)
    return layer.mlp


def tokens(count: int, seed: int = 0) -> mx.array:
    return mx.random.normal((1, count, 64), key=mx.random.key(seed))


def test_the_likeliest_experts_are_chosen_and_their_shares_add_up() -> None:
    layer, x = mixture(), tokens(40)
    chosen, shares = (np.array(found) for found in layer.route(x))
    scores = np.array(layer.gate(x), dtype=np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    best = np.argsort(-probabilities, axis=-1)[..., :2]
    np.testing.assert_array_equal(np.sort(chosen, axis=-1), np.sort(best, axis=-1))
    expected = np.take_along_axis(probabilities, chosen, axis=-1)
    np.testing.assert_allclose(shares, expected / expected.sum(-1, keepdims=True), rtol=1e-5)


def test_shares_of_a_16_bit_model_are_computed_in_fp32() -> None:
    layer = mixture(mx.bfloat16)
    x = tokens(200).astype(mx.bfloat16)
    chosen, shares = layer.route(x)
    assert shares.dtype == mx.bfloat16
    precise = np.array(layer.gate(x).astype(mx.float32), dtype=np.float64)
    probabilities = np.exp(precise) / np.exp(precise).sum(axis=-1, keepdims=True)
    expected = np.take_along_axis(probabilities, np.array(chosen), axis=-1)
    expected /= expected.sum(-1, keepdims=True)
    # Half a step of bf16, which has 8 bits; rounding at each step makes it several.
    error = np.abs(np.array(shares.astype(mx.float32)) - expected) / expected
    assert error.max() < 2**-8


@pytest.mark.parametrize("variant", MIXTURES)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_16_bit_mixture_stays_in_16_bits(dtype: mx.Dtype, variant: str) -> None:
    layer = golden_model(variant, dtype=dtype).model.language_model.layers[0].mlp
    precise = golden_model(variant).model.language_model.layers[0].mlp
    for count in (1, 50):
        found, expected = layer(tokens(count).astype(dtype)), precise(tokens(count))
        assert found.dtype == dtype
        # Rounding may send a token to another expert, so not by the largest difference.
        error = mx.abs(found - expected).mean() / mx.abs(expected).mean()
        assert float(error.item()) < 0.03


@pytest.mark.parametrize("packed", [False, True])
def test_many_tokens_at_once_are_the_same_as_one_by_one(packed: bool) -> None:
    config = ExpertsConfig(count=7, per_token=3, intermediate_size=32)
    experts = Experts(config, 64)
    mx.random.seed(3)
    for linear in (experts.gate_proj, experts.up_proj, experts.down_proj):
        linear.weight = mx.random.normal(linear.weight.shape) * 0.2
    if packed:
        nn.quantize(experts, group_size=32, bits=4)
    x = tokens(50)
    chosen = mx.argsort(mx.random.normal((1, 50, 7)), axis=-1)[..., :3]
    whole = experts(x, chosen)
    assert whole.shape == (1, 50, 3, 64)
    rows = [experts(x[:, t : t + 1], chosen[:, t : t + 1]) for t in range(50)]
    assert relative_error(mx.concatenate(rows, axis=1), whole) < 1e-5


def test_packed_experts_are_their_dequantised_matrices() -> None:
    config = ExpertsConfig(count=4, per_token=2, intermediate_size=32)
    plain, packed = Experts(config, 64), Experts(config, 64)
    mx.random.seed(4)
    for name in ("gate_proj", "up_proj", "down_proj"):
        weight = mx.random.normal(plain[name].weight.shape) * 0.2
        packed[name].weight = weight
        parts = mx.quantize(weight, 32, 6)
        plain[name].weight = mx.dequantize(*parts, group_size=32, bits=6)
    nn.quantize(packed, group_size=32, bits=6)
    x, chosen = tokens(9), mx.array([[[0, 3], [1, 2], [3, 0]] * 3])
    assert relative_error(packed(x, chosen), plain(x, chosen)) < 1e-5
