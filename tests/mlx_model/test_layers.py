"""The small layers, where the goldens of whole models would not see a rounding too many."""

import mlx.core as mx
import pytest

from mlx_model.layers import Linear, side_by_side


@pytest.mark.parametrize("bits", [None, 4])
def test_two_maps_side_by_side_give_what_both_give(bits: int | None) -> None:
    first, second = Linear(64, 8), Linear(64, 24)
    if bits is not None:
        first, second = (part.to_quantized(64, bits) for part in (first, second))
    x = mx.random.normal((1, 2, 64), key=mx.random.key(1))
    both = side_by_side(first, second)
    assert both is not None
    assert mx.array_equal(both(x), mx.concatenate([first(x), second(x)], axis=-1))
    assert first(x).shape[-1] == 8  # and they are what they were


def test_maps_that_are_packed_in_different_ways_stay_apart() -> None:
    plain, four, eight = Linear(64, 8), Linear(64, 8), Linear(64, 8)
    packed = four.to_quantized(64, 4)
    assert side_by_side(plain, packed) is None
    assert side_by_side(packed, plain) is None
    assert side_by_side(packed, eight.to_quantized(64, 8)) is None
    assert side_by_side(packed, eight.to_quantized(32, 4)) is None
