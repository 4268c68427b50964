"""The port against transformers: logits of tiny random checkpoints, made by tools/reference."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.image_processing import Patches, PixelSettings
from mlx_model.model import Model
from tests.mlx_model.goldens import (
    GOLDENS,
    MIXTURES,
    TOLERANCE,
    VARIANTS,
    golden_model,
    read_golden,
    relative_error,
)
from tests.mlx_model.preprocessing_cases import clip

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
    "text_150",
    "strong_decay",
    "no_decay",
    "hard_gates",
    "calm",
    "short_image",
    "image_first",
    "image_last",
    "image_across_64",
    "several_turns",
    "image_between_videos",
    "odd_frames",
)
MIXTURE_CASES = ("text_1", "text_65", "text_129", "text_decode", "image_and_video", "several_turns")
every_case = pytest.mark.parametrize(
    ("variant", "case"),
    [(variant, case) for variant in VARIANTS for case in CASES]
    + [(variant, case) for variant in MIXTURES for case in MIXTURE_CASES],
)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(variant: str) -> Model:
    return golden_model(variant)


@pytest.mark.parametrize("kind", VARIANTS + MIXTURES)
def test_the_golden_files_hold_these_cases(kind: str) -> None:
    with np.load(GOLDENS / kind / "cases.npz") as arrays:
        expected = CASES if kind in VARIANTS else MIXTURE_CASES
        assert {key.split("/")[0] for key in arrays.files} == set(expected)


@every_case
def test_prompt_and_decoded_tokens_match_the_reference(variant: str, case: str) -> None:
    golden = read_golden(variant, case)
    model = golden_model(variant, golden.version)
    cache = model.make_cache()
    rows = [model(golden.prompt, **golden.media, cache=cache)[0]]
    for token in golden.input_ids[0, golden.prompt_tokens :]:
        rows.append(model.last_logits(mx.array([[int(token)]]), cache))
    assert relative_error(mx.concatenate(rows), golden.logits) < TOLERANCE
    assert cache.length == golden.input_ids.size
    assert cache.next_position == golden.position_ids[0, -1] + 1


@every_case
def test_positions_match_the_reference(variant: str, case: str) -> None:
    golden = read_golden(variant, case)
    found, following = golden_model(variant).position_ids(
        golden.input_ids, golden.image_grid_thw, golden.video_grid_thw
    )
    np.testing.assert_array_equal(found, golden.position_ids)
    assert following == golden.position_ids.max() + 1


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


def test_an_odd_clip_goes_through_the_processor(model: Model, variant: str) -> None:
    golden = read_golden(variant, "odd_frames")
    half = (0.5, 0.5, 0.5)
    settings = PixelSettings(
        patch_size=4,
        temporal_patch_size=2,
        merge_size=2,
        min_pixels=64,
        max_pixels=4096,
        mean=half,
        std=half,
    )
    patches = Patches(clip("noise", 16, 24, 5), settings)
    pixels, grid = patches[:], patches.grid
    np.testing.assert_allclose(pixels, golden.pixel_values_videos, atol=1e-6)
    assert [list(grid)] == golden.video_grid_thw.tolist()
    found = model(golden.prompt, pixel_values_videos=pixels, video_grid_thw=np.array([grid]))[0]
    assert relative_error(found, golden.logits[: golden.prompt_tokens]) < TOLERANCE


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
