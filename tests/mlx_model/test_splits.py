"""A prompt may be read in any pieces: chunks, turns, several tokens after a cache. All are one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import DeltaNetCache, SequenceCache
from mlx_model.model import Model
from tests.mlx_model.goldens import (
    TOLERANCE,
    VARIANTS,
    Golden,
    golden_model,
    read_golden,
    relative_error,
)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(variant: str) -> Model:
    return golden_model(variant)


class Reader:
    """Reads pieces of a golden prompt as generation does; a piece may end inside a picture."""

    def __init__(self, model: Model, golden: Golden) -> None:
        self.model = model
        self.cache = model.make_cache()
        self.ids = golden.prompt
        self.expected = golden.logits
        self.scale = np.abs(golden.logits).max()
        grids = golden.image_grid_thw, golden.video_grid_thw
        self.positions, _ = model.position_ids(golden.prompt, *grids)
        config = model.config
        self.is_media = np.isin(self.ids[0], (config.image_token_id, config.video_token_id))
        self.rows = mx.zeros((self.tokens, config.text.hidden_size))
        for token, pixels, grid in (
            (config.image_token_id, golden.pixel_values, grids[0]),
            (config.video_token_id, golden.pixel_values_videos, grids[1]),
        ):
            if pixels is not None:
                place = mx.array(np.flatnonzero(self.ids[0] == token))
                self.rows[place] = model.encode_media(pixels, grid)

    @property
    def tokens(self) -> int:
        return self.ids.shape[1]

    def read(self, stop: int) -> float:
        """Read on up to token `stop`; how far the last row is from the reference's."""
        start = self.cache.length
        media = np.flatnonzero(self.is_media[start:stop]) + start
        logits = self.model.last_logits(
            self.ids[:, start:stop],
            self.cache,
            self.rows[mx.array(media)] if media.size else None,
            self.positions[:, start:stop],
        )
        assert self.cache.length == stop
        assert self.cache.next_position == self.positions[:, :stop][:, start:].max() + 1
        return float(np.abs(np.array(logits)[0] - self.expected[stop - 1]).max() / self.scale)

    def start_anew(self) -> None:
        self.cache = self.model.make_cache()


@dataclass(frozen=True)
class Mark:
    """A place in a sequence to go back to."""

    length: int
    next_position: int
    states: list[tuple[mx.array | None, mx.array | None]]

    @classmethod
    def of(cls, cache: SequenceCache) -> "Mark":
        states = [(net.state, net.conv_tail) for net in delta_nets(cache)]
        return cls(cache.length, cache.next_position, states)

    def restore(self, cache: SequenceCache) -> None:
        cache.length, cache.next_position = self.length, self.next_position
        for net, (state, tail) in zip(delta_nets(cache), self.states, strict=True):
            net.state, net.conv_tail = state, tail


def delta_nets(cache: SequenceCache) -> list[DeltaNetCache]:
    return [layer for layer in cache.layers if isinstance(layer, DeltaNetCache)]


def errors_of_every_split(reader: Reader) -> Iterator[float]:
    """One error for each piece of each of the 2^(T - 1) ways to cut the rest of the prompt."""
    mark = Mark.of(reader.cache)
    for stop in range(mark.length + 1, reader.tokens + 1):
        mark.restore(reader.cache)
        yield reader.read(stop)
        yield from errors_of_every_split(reader)


def test_every_split_of_a_short_prompt_with_a_picture(model: Model, variant: str) -> None:
    reader = Reader(model, read_golden(variant, "short_image"))
    errors = list(errors_of_every_split(reader))
    assert len(errors) == 2**reader.tokens - 1
    assert max(errors) < TOLERANCE


@pytest.mark.slow
def test_every_split_of_a_longer_prompt_with_a_picture(model: Model, variant: str) -> None:
    reader = Reader(model, read_golden(variant, "image_last"))
    assert reader.tokens == 14
    assert max(errors_of_every_split(reader)) < TOLERANCE


@pytest.mark.parametrize(
    "case",
    [
        "several_turns",
        "image_between_videos",
        pytest.param("image_across_64", marks=pytest.mark.slow),
        pytest.param("image_and_video", marks=pytest.mark.slow),
        pytest.param("text_150", marks=pytest.mark.slow),
    ],
)
def test_a_prompt_cut_once_anywhere(model: Model, variant: str, case: str) -> None:
    reader = Reader(model, read_golden(variant, case))
    for stop in range(1, reader.tokens):
        reader.start_anew()
        assert reader.read(stop) < TOLERANCE, stop
        assert reader.read(reader.tokens) < TOLERANCE, stop


@pytest.mark.slow
@pytest.mark.parametrize("case", ["text_65", "two_videos"])
def test_a_prompt_cut_twice_anywhere(model: Model, variant: str, case: str) -> None:
    reader = Reader(model, read_golden(variant, case))
    for first, second in itertools.combinations(range(1, reader.tokens, 2), 2):
        reader.start_anew()
        for stop in (first, second, reader.tokens):
            assert reader.read(stop) < TOLERANCE, (first, second)


@pytest.mark.parametrize(
    ("case", "stops"),
    [
        ("text_129", [1, 2, 65, 128]),
        ("text_65", [3, 64]),
        ("text_150", [64, 128]),
        ("image", [8, 9, 15]),
        ("two_images", [5, 12, 17]),
        ("image_and_video", [7, 40, 50]),
        ("two_videos", [10, 11, 30]),
        ("strong_decay", [1, 30, 66]),
        ("no_decay", [1, 30, 66]),
        ("hard_gates", [1, 30, 66]),
    ],
)
def test_a_prompt_cut_several_times(variant: str, case: str, stops: list[int]) -> None:
    golden = read_golden(variant, case)
    reader = Reader(golden_model(variant, golden.version), golden)
    for stop in [*stops, reader.tokens]:
        assert reader.read(stop) < TOLERANCE, stop


@pytest.mark.parametrize(
    "case", ["text_decode", "image", "image_last", "two_images", "two_videos", "hard_gates"]
)
def test_several_tokens_at_once_continue_what_a_cache_holds(variant: str, case: str) -> None:
    golden = read_golden(variant, case)
    model = golden_model(variant, golden.version)
    cache = model.make_cache()
    model(golden.prompt, **golden.media, cache=cache)
    following = golden.input_ids[:, golden.prompt_tokens :]
    assert following.size > 1
    found = model(following, cache=cache)[0]
    assert relative_error(found, golden.logits[golden.prompt_tokens :]) < TOLERANCE
    assert cache.next_position == golden.position_ids[0, -1] + 1


@pytest.mark.parametrize("case", ["several_turns", "two_images"])
def test_each_turn_brings_its_own_pictures(model: Model, variant: str, case: str) -> None:
    golden = read_golden(variant, case)
    end_of_first = np.flatnonzero(golden.prompt[0] == model.config.vision_end_token_id)[0] + 1
    bounds = [0, *(golden.turns or (int(end_of_first),)), golden.prompt_tokens]
    cache = model.make_cache()
    pixels, grids = golden.pixel_values, golden.image_grid_thw
    rows = []
    for start, stop in itertools.pairwise(bounds):
        ids = golden.prompt[:, start:stop]
        pictures = int((ids == model.config.vision_start_token_id).sum())
        patches = int(grids[:pictures].prod(axis=1).sum())
        media = (pixels[:patches], grids[:pictures]) if pictures else (None, None)
        rows.append(model(ids, *media, cache=cache)[0])
        pixels, grids = pixels[patches:], grids[pictures:]
    expected = golden.logits[: golden.prompt_tokens]
    assert relative_error(mx.concatenate(rows), expected) < TOLERANCE
