"""Sizes, values and patch order against what transformers made of the same pictures and clips."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlx_model.errors import MediaError
from mlx_model.image_processing import (
    ClipSettings,
    Patches,
    PixelSettings,
    frame_size,
    picture_size,
    resize,
    smart_resize,
)
from mlx_model.stills import load_image
from tests.mlx_model import picture_files
from tests.mlx_model import preprocessing_cases as cases

FOLDER = Path(__file__).parents[1] / "goldens" / "preprocessing"
STILLS = dict(np.load(FOLDER / "stills.npz"))
CLIPS = dict(np.load(FOLDER / "clips.npz"))
TABLES = json.loads((FOLDER / "tables.json").read_text())
HALF = (0.5, 0.5, 0.5)


def settings(budget: dict[str, int], **colours: Any) -> PixelSettings:
    return PixelSettings(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        min_pixels=budget["shortest_edge"],
        max_pixels=budget["longest_edge"],
        mean=colours.get("mean", HALF),
        std=colours.get("std", HALF),
    )


@pytest.mark.parametrize("name", cases.PICTURES)
def test_a_picture_becomes_the_references_patches(name: str) -> None:
    kind, height, width, budget, colours = cases.PICTURES[name]
    _check_still(name, cases.picture(kind, height, width), settings(budget, **colours))


@pytest.mark.parametrize("name", picture_files.FILES)
def test_an_odd_file_becomes_the_references_patches(name: str, tmp_path: Path) -> None:
    image = load_image(picture_files.write(name, tmp_path))
    _check_still(name, image, settings(cases.DEMO))


def _check_still(name: str, image: np.ndarray, wanted: PixelSettings) -> None:
    size = picture_size(image.shape[0], image.shape[1], wanted)
    patches = Patches([resize(image, *size)], wanted)
    values = patches[:]
    assert patches.grid == tuple(STILLS[f"{name}.grid"])
    assert values.dtype == np.float32
    exact = STILLS[f"{name}.values"]
    np.testing.assert_array_equal(values[: len(exact)], exact)
    by_channel = values.reshape(len(values), 3, -1)
    mean, std = (np.array(wanted.mean)[:, None], np.array(wanted.std)[:, None])
    levels = ((by_channel * std + mean) * 255).reshape(values.shape)
    assert np.abs(levels - STILLS[f"{name}.levels"]).max() < 1


@pytest.mark.parametrize("name", ["demo", pytest.param("published", marks=pytest.mark.slow)])
def test_many_random_pictures_become_the_references_patches(name: str) -> None:
    budget, count, longest = cases.RANDOM_PICTURES[name]
    wanted = settings(budget)
    found = []
    for kind, height, width in cases.random_pictures(count, longest):
        size = picture_size(height, width, wanted)
        patches = Patches([resize(cases.picture(kind, height, width), *size)], wanted)
        levels = np.rint((patches[:] + 1) * 127.5).astype(np.uint8)
        found.append(cases.patch_digest(patches.grid, levels))
    assert len(found) > 0.9 * count
    assert found == TABLES["random_stills"][name]


@pytest.mark.parametrize("name", cases.CLIPS)
def test_a_clip_becomes_the_references_patches(name: str) -> None:
    kind, height, width, count, budget, cap = cases.CLIPS[name]
    wanted = settings(budget)
    size = frame_size(count, height, width, ClipSettings(wanted, max_frame_tokens=cap))

    frames = [resize(frame, *size) for frame in cases.clip(kind, height, width, count)]
    patches = Patches(frames, wanted)
    values = patches[:]

    assert patches.grid == tuple(CLIPS[f"{name}.grid"])
    levels = (values + 1) * 127.5
    assert np.abs(levels - CLIPS[f"{name}.levels"].astype(np.float32)).max() < 1


@pytest.mark.parametrize(("name", "budget"), [("published", cases.PUBLISHED), ("demo", cases.DEMO)])
def test_picture_sizes_are_the_references(name: str, budget: dict[str, int]) -> None:
    found = [_size_or_none(picture_size, *size, settings(budget)) for size in cases.size_sweep()]
    assert found == TABLES["sizes"]["still"][name]


@pytest.mark.parametrize(("name", "budget"), [("published", cases.PUBLISHED), ("demo", cases.DEMO)])
def test_sizes_of_random_pictures_are_the_references(name: str, budget: dict[str, int]) -> None:
    sizes = cases.random_sizes(1000, seed=1)
    found = [_size_or_none(picture_size, *size, settings(budget)) for size in sizes]
    assert found == TABLES["sizes"]["random"][name]


@pytest.mark.parametrize("key", TABLES["sizes"]["clip"])
def test_frame_sizes_are_the_references(key: str) -> None:
    name, count = key.split()
    budget, cap, _ = cases.CLIP_BUDGETS[name]
    wanted = ClipSettings(settings(budget), max_frame_tokens=cap)
    found = [_size_or_none(frame_size, int(count), *size, wanted) for size in cases.size_sweep()]
    assert found == TABLES["sizes"]["clip"][key]


def test_known_sizes() -> None:
    published = settings(cases.PUBLISHED)
    assert picture_size(480, 640, published) == (480, 640)
    assert picture_size(64, 64, published) == (256, 256)
    # 3024 / 32 is 94.5: halves go to the even neighbour.
    assert picture_size(3024, 4032, published) == (3008, 4032)


def test_a_ratio_of_200_is_read_and_one_beyond_is_refused_in_words() -> None:
    assert picture_size(10, 2000, settings(cases.PUBLISHED))
    with pytest.raises(MediaError, match="201 times as long"):
        picture_size(2010, 10, settings(cases.PUBLISHED))


@hypothesis_settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 64))
def test_a_token_limit_holds_for_every_shape_and_only_lowers(
    height: int, width: int, tokens: int
) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    budget = settings(cases.DEMO)
    plain = picture_size(height, width, budget)
    limited = picture_size(height, width, budget, tokens)
    assert np.prod(limited) <= tokens * 1024
    assert limited[0] <= plain[0]
    assert limited[1] <= plain[1]
    if np.prod(plain) <= tokens * 1024:
        assert limited == plain


@hypothesis_settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 40), st.integers(1, 3000))
def test_a_token_limit_holds_for_the_frames_of_a_clip(
    height: int, width: int, count: int, tokens: int
) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    for clips in (
        ClipSettings(settings(cases.PUBLISHED_CLIP)),
        ClipSettings(settings(cases.PUBLISHED_CLIP), max_frame_tokens=768),
    ):
        plain = frame_size(count, height, width, clips)
        limited = frame_size(count, height, width, clips, tokens)
        assert np.prod(limited) <= max(1, tokens) * 1024
        if np.prod(plain) <= tokens * 1024:
            assert limited == plain


@hypothesis_settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), st.data())
def test_any_run_of_patches_is_that_part_of_the_whole(
    count: int, rows: int, columns: int, data: st.DataObject
) -> None:
    frames = cases.clip("noise", 32 * rows, 32 * columns, count)
    patches = Patches(frames, settings(cases.DEMO_CLIP))
    start = data.draw(st.integers(0, len(patches) - 1))
    stop = data.draw(st.integers(start + 1, len(patches)))
    np.testing.assert_array_equal(patches[start:stop], patches[:][start:stop])


def test_rows_go_through_merge_blocks_and_a_still_fills_both_frames() -> None:
    # Every pixel holds the number of its 16 x 16 patch, counted along the rows of the picture.
    rows, columns = np.mgrid[0:64, 0:96] // 16
    image = np.repeat((rows * 6 + columns)[..., None], 3, axis=2).astype(np.uint8)

    patches = Patches([image], settings(cases.DEMO))

    levels = np.rint((patches[:] + 1) * 127.5).astype(int)
    assert patches.grid == (1, 4, 6)
    assert (levels == levels[:, :1]).all()
    assert levels[:, 0].tolist() == [
        *(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11),
        *(12, 13, 18, 19, 14, 15, 20, 21, 16, 17, 22, 23),
    ]


def test_an_odd_clip_repeats_its_last_frame() -> None:
    frames = [np.full((32, 32, 3), level, dtype=np.uint8) for level in (0, 100, 200)]

    patches = Patches(frames, settings(cases.DEMO_CLIP))

    levels = np.rint((patches[:].reshape(2, 4, 3, 2, 256) + 1) * 127.5)
    assert patches.grid == (2, 2, 2)
    assert levels.mean(axis=(1, 2, 4)).tolist() == [[0, 100], [200, 200]]


@hypothesis_settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 768))
def test_the_demo_models_frames_stay_small(height: int, width: int, count: int) -> None:
    if max(height, width) / min(height, width) > 2.5:
        return
    demo = ClipSettings(settings(cases.DEMO_CLIP), max_frame_tokens=9)
    side_a, side_b = frame_size(min(count, 16), height, width, demo)
    assert side_a * side_b <= 10 * 1024


def test_a_clip_of_one_frame_is_read_as_two() -> None:
    wanted = ClipSettings(settings(cases.PUBLISHED_CLIP))
    assert frame_size(1, 64, 64, wanted) == frame_size(2, 64, 64, wanted)


def test_sides_are_multiples_of_the_factor_and_never_zero() -> None:
    assert smart_resize(3, 500, factor=32, min_pixels=1024, max_pixels=16384)[0] == 32


def _size_or_none(function: Any, *arguments: Any) -> list[int] | None:
    try:
        return list(function(*arguments))
    except MediaError:
        return None
