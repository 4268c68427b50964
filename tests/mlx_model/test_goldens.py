"""The port against transformers: logits of tiny random checkpoints, made by tools/reference."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import GOLDENS, VARIANTS, Golden, read_golden, relative_error

TOLERANCE = 1e-4
CASES = (
    "text_1",
    "text_2",
    "text_63",
    "text_64",
    "text_65",
    "text_129",
    "text_decode",
    "image",
    "image_only",
    "two_images",
    "video_one_group",
    "video",
    "two_videos",
    "image_and_video",
)


def in_chunks(model: Model, golden: Golden, stops: list[int]) -> Iterator[mx.array]:
    """The last row of each chunk, as generation reads a prompt; chunks may cut through media."""
    cache = model.make_cache()
    ids = golden.prompt[0]
    positions, _ = model.position_ids(golden.prompt, golden.image_grid_thw, golden.video_grid_thw)
    rows = mx.zeros((ids.size, model.config.text.hidden_size))
    for token, pixels, grid in (
        (model.config.image_token_id, golden.pixel_values, golden.image_grid_thw),
        (model.config.video_token_id, golden.pixel_values_videos, golden.video_grid_thw),
    ):
        if pixels is not None:
            rows[mx.array(np.flatnonzero(ids == token))] = model.encode_media(pixels, grid)
    is_media = np.isin(ids, (model.config.image_token_id, model.config.video_token_id))
    start = 0
    for stop in [*stops, ids.size]:
        here = np.flatnonzero(is_media[start:stop]) + start
        yield model.last_logits(
            golden.prompt[:, start:stop],
            cache,
            rows[mx.array(here)] if here.size else None,
            positions[:, start:stop],
        )
        start = stop
    assert cache.length == ids.size
    assert cache.next_position == positions.max() + 1


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(variant: str) -> Model:
    return load_model(GOLDENS / variant)


def test_the_golden_files_hold_these_cases(variant: str) -> None:
    with np.load(GOLDENS / variant / "cases.npz") as arrays:
        assert {key.split("/")[0] for key in arrays.files} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_prompt_and_decoded_tokens_match_the_reference(
    model: Model, variant: str, case: str
) -> None:
    golden = read_golden(variant, case)
    cache = model.make_cache()
    rows = [model(golden.prompt, **golden.media, cache=cache)[0]]
    for token in golden.input_ids[0, golden.prompt_tokens :]:
        rows.append(model.last_logits(mx.array([[int(token)]]), cache))
    assert relative_error(mx.concatenate(rows), golden.logits) < TOLERANCE
    assert cache.length == golden.input_ids.size
    assert cache.next_position == golden.position_ids[0, -1] + 1


@pytest.mark.parametrize("case", CASES)
def test_positions_match_the_reference(model: Model, variant: str, case: str) -> None:
    golden = read_golden(variant, case)
    found, following = model.position_ids(
        golden.input_ids, golden.image_grid_thw, golden.video_grid_thw
    )
    np.testing.assert_array_equal(found, golden.position_ids)
    assert following == golden.position_ids.max() + 1


@pytest.mark.parametrize(
    ("case", "stops"),
    [
        ("text_129", [64]),
        ("text_129", [1, 2, 65, 128]),
        ("text_65", [3, 64]),
        ("image", [6]),
        ("image", [8, 9, 15]),
        ("two_images", [5, 12, 17]),
        ("image_and_video", [7, 40, 50]),
        ("two_videos", [10, 11, 30]),
    ],
)
def test_split_prompts_match_the_reference(
    model: Model, variant: str, case: str, stops: list[int]
) -> None:
    golden = read_golden(variant, case)
    rows = [stop - 1 for stop in [*stops, golden.prompt_tokens]]
    found = mx.concatenate(list(in_chunks(model, golden, stops)))
    error = np.abs(np.array(found) - golden.logits[rows]).max() / np.abs(golden.logits).max()
    assert error < TOLERANCE


def test_after_a_picture_the_next_position_is_past_its_widest_side(
    model: Model, variant: str
) -> None:
    golden = read_golden(variant, "image")
    cache = model.make_cache()
    inside = int(np.flatnonzero(golden.prompt[0] == model.config.image_token_id)[-1]) + 1
    positions = golden.position_ids[:, :inside]
    rows = model.encode_media(golden.pixel_values, golden.image_grid_thw)
    model.last_logits(golden.prompt[:, :inside], cache, rows, positions)
    assert cache.next_position == positions.max() + 1 > positions[0].max() + 1


def test_a_later_call_with_a_picture_continues_the_sequence(model: Model, variant: str) -> None:
    golden = read_golden(variant, "two_images")
    cache = model.make_cache()
    first = int(np.flatnonzero(golden.prompt[0] == model.config.vision_end_token_id)[0]) + 1
    patches = int(golden.image_grid_thw[0].prod())
    pixels, grid = golden.pixel_values, golden.image_grid_thw
    rows = [
        model(golden.prompt[:, :first], pixels[:patches], grid[:1], cache=cache)[0],
        model(golden.prompt[:, first:], pixels[patches:], grid[1:], cache=cache)[0],
    ]
    expected = golden.logits[: golden.prompt_tokens]
    assert relative_error(mx.concatenate(rows), expected) < TOLERANCE


def test_a_clip_encoded_group_by_group_is_the_same(model: Model, variant: str) -> None:
    golden = read_golden(variant, "video")
    whole = model.encode_media(golden.pixel_values_videos, golden.video_grid_thw)
    frames, height, width = (int(n) for n in golden.video_grid_thw[0])
    patches = height * width
    groups = [
        model.encode_media(
            golden.pixel_values_videos[t * patches : (t + 1) * patches],
            np.array([[1, height, width]]),
        )
        for t in range(frames)
    ]
    assert relative_error(mx.concatenate(groups), whole) < 1e-6


def test_media_that_do_not_fit_the_prompt_are_refused(model: Model, variant: str) -> None:
    golden = read_golden(variant, "image")
    with pytest.raises(ValueError, match="media"):
        model(golden.prompt)
    for half in ("pixel_values", "image_grid_thw"):
        with pytest.raises(ValueError, match="both"):
            model(golden.prompt, **{half: golden.media[half]})
    with pytest.raises(ValueError, match="grids"):
        model.position_ids(golden.prompt, np.repeat(golden.image_grid_thw, 2, axis=0))
    with pytest.raises(ValueError, match="patches"):
        model.encode_media(golden.pixel_values[:-1], golden.image_grid_thw)
    with pytest.raises(ValueError, match="embeddings"):
        model.last_logits(golden.prompt, model.make_cache(), mx.zeros((1, 64)))
