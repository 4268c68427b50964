"""The graph of a decoded token: a number of launches that may only fall, every weight read once."""

import mlx.core as mx
import pytest

from mlx_model.device_math import on_metal
from tests.mlx_model.published_shapes import published_config
from tools.bench.decode_graph import Step, metal_stand_ins, mlx_lm_step, our_step

# On Metal, for the published 0.8B in 4 bits: lower it when something has been fused.
LAUNCHES = 579
CONTEXT = 1024


@pytest.fixture(scope="module")
def ours() -> Step:
    return our_step(published_config("0.8B"), CONTEXT)


def test_a_token_takes_no_more_launches_than_it_did(ours: Step) -> None:
    assert ours.launch_count <= LAUNCHES


def test_a_token_takes_fewer_launches_than_in_mlx_lm(ours: Step) -> None:
    assert ours.launch_count < mlx_lm_step(published_config("0.8B"), CONTEXT).launch_count


def test_every_weight_is_read_once(ours: Step) -> None:
    assert not ours.read_twice
    # But for the row of the token, which lies in the same matrix as the head.
    assert ours.bytes_moved == pytest.approx(ours.bytes_ideal, rel=1e-5)
    # 752 million weights in 4 bits with their scales, states read and written, keys and values.
    state = 18 * 2 * (16 * 128 * 128 * 4 + 3 * 6144 * 2)
    rows = 6 * CONTEXT * 2 * 2 * 256 * 2
    assert ours.bytes_moved == pytest.approx(752e6 * 4.5 / 8 + state + rows, rel=0.02)


def test_the_stand_ins_are_gone_afterwards(ours: Step) -> None:
    assert not on_metal()
    with metal_stand_ins():
        assert on_metal()
    assert mx.fast.rms_norm(mx.full((1, 4), 3.0), None, 0.0).tolist() == [[1.0] * 4]
