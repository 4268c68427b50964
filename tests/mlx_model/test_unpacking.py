"""A small model is unpacked where that is faster, and says the same."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_model import unpacking
from mlx_model.engine import Engine
from mlx_model.layers import PackedLinear
from mlx_model.model import Model
from mlx_model.unpacking import unpack_small
from mlx_model.weights import load_model
from tests.mlx_model.goldens import relative_error

DEMO = Path(__file__).parents[2] / "assets" / "demo_model"
IDS = np.random.default_rng(1).integers(0, 1000, (1, 12))


def packed_layers(model: Model) -> list[str]:
    packed = PackedLinear | nn.QuantizedEmbedding
    return [path for path, module in model.named_modules() if isinstance(module, packed)]


def test_an_unpacked_model_says_the_same() -> None:
    model = load_model(DEMO)
    before = model(IDS)
    assert packed_layers(model)
    assert unpack_small(model)
    assert not packed_layers(model)
    assert relative_error(model(IDS), before) < 1e-5
    assert not unpack_small(model)  # there is nothing left to do


def test_a_large_model_stays_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(DEMO)
    weights = sum(
        module.weight.size * 32 // module.bits
        for _, module in model.named_modules()
        if isinstance(module, PackedLinear | nn.QuantizedEmbedding)
    )
    monkeypatch.setattr(unpacking, "_MOST_BYTES", 4 * weights - 1)
    assert not unpack_small(model)
    assert packed_layers(model)
    monkeypatch.setattr(unpacking, "_MOST_BYTES", 4 * weights)
    assert unpack_small(model)


def test_nothing_is_unpacked_on_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "on_metal", lambda: True)
    model = load_model(DEMO)
    assert not unpack_small(model)
    assert packed_layers(model)


def test_the_engine_unpacks_a_small_model() -> None:
    engine = Engine.load(DEMO)
    assert not packed_layers(engine.model)
    mx.clear_cache()
