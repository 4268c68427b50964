"""Positions and frequencies, on cases small enough to be written down."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.config import RopeConfig, load_config
from mlx_model.rope import LineRotation, RotaryPositions, frequency_axes, media_position_ids
from tests.mlx_model.goldens import GOLDENS, relative_error

CONFIG = load_config(GOLDENS / "tied")
PIC, CLIP, S, E = 104, 105, 106, 107  # picture token, clip token, vision start and end


def positions(ids: list[int], images: object = None, videos: object = None, start: int = 0):
    grids = [None if grid is None else np.array(grid) for grid in (images, videos)]
    found, following = media_position_ids(np.array(ids), *grids, CONFIG, start)
    return found.tolist(), following


def test_axes_interleave_until_the_shorter_sections_are_used_up() -> None:
    assert frequency_axes((3, 3, 2)).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    published = frequency_axes((11, 11, 10)).tolist()
    assert published == [0, 1, 2] * 10 + [0, 1]
    assert [published.count(axis) for axis in range(3)] == [11, 11, 10]


def test_text_counts_up_on_all_axes() -> None:
    assert positions([1, 2, 3], start=7) == ([[7, 8, 9]] * 3, 10)


def test_a_picture_stands_still_in_time_and_spreads_over_rows_and_columns() -> None:
    found, following = positions([1, S, PIC, PIC, PIC, PIC, PIC, PIC, E, 2], images=[[1, 4, 6]])
    assert found == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert following == 7


def test_each_group_of_a_clip_is_a_block_of_its_own() -> None:
    found, following = positions([9, S, CLIP, CLIP, E, 8, S, CLIP, CLIP, E], videos=[[2, 2, 4]])
    assert found == [
        [0, 1, 2, 2, 4, 5, 6, 7, 7, 9],
        [0, 1, 2, 2, 4, 5, 6, 7, 7, 9],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]
    assert following == 10


def test_pictures_without_anything_between_them_keep_their_own_blocks() -> None:
    found, following = positions([PIC, PIC, PIC, PIC], images=[[1, 2, 4], [1, 4, 2]])
    assert found == [[0, 0, 2, 2], [0, 0, 2, 3], [0, 1, 2, 2]]
    assert following == 4


def test_pictures_and_clips_take_their_grids_in_order() -> None:
    ids = [CLIP, CLIP, PIC, CLIP, CLIP, PIC, PIC]
    found, following = positions(ids, images=[[1, 2, 2], [1, 4, 2]], videos=[[2, 2, 4]])
    assert found[0] == [0, 0, 2, 3, 3, 5, 5]
    assert following == 7


@pytest.mark.parametrize(
    ("ids", "images"),
    [
        ([PIC, PIC], None),
        ([PIC], [[1, 2, 4]]),
        ([PIC, 3, PIC], [[1, 2, 4]]),
        ([PIC, PIC, PIC], [[1, 2, 4]]),
    ],
)
def test_grids_that_do_not_fit_are_refused(ids: list[int], images: object) -> None:
    with pytest.raises(ValueError, match="grids"):
        positions(ids, images=images)


def test_mlxs_own_rotation_equals_the_table_for_text() -> None:
    """On Metal text takes mx.fast.rope; the table is the one held against transformers."""
    config = RopeConfig(theta=1e7, rotary_dim=16, sections=(3, 3, 2))
    x = mx.random.normal((1, 4, 5, 64), key=mx.random.key(0))
    for start in (0, 3, 1000, 30000):
        table = RotaryPositions(config).rotation(np.arange(start, start + 5)[None].repeat(3, 0))
        fused = LineRotation(start, config.theta, config.rotary_dim)
        tolerance = 1e-6 + 1e-7 * start  # the angle itself is an fp32 number
        assert relative_error(fused.apply(x), table.apply(x)) < tolerance
