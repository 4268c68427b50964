"""The tower in pieces: the same answer as the whole, bounded in work and in memory."""

from collections.abc import Callable, Generator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map

from mlx_model import vision
from mlx_model.config import VisionConfig
from mlx_model.device_math import softmax_attention
from mlx_model.limits import GIB, MachineLimits
from mlx_model.vision import VisionModel
from mlx_model.vision_work import cuts, row_work
from tests.mlx_model.goldens import relative_error

CONFIG = VisionConfig(
    depth=3,
    hidden_size=32,
    intermediate_size=48,
    num_heads=4,
    in_channels=3,
    patch_size=4,
    temporal_patch_size=2,
    spatial_merge_size=2,
    out_hidden_size=24,
    num_position_embeddings=36,
)
PIXELS = CONFIG.in_channels * CONFIG.temporal_patch_size * CONFIG.patch_size**2


@pytest.fixture(scope="module")
def tower() -> VisionModel:
    keys = iter(mx.random.split(mx.random.key(3), 100))
    model = VisionModel(CONFIG)
    weights = tree_map(
        lambda a: 0.3 * mx.random.normal(a.shape, key=next(keys)), model.parameters()
    )
    model.update(weights)
    mx.eval(model.parameters())
    return model


def pixels_of(*grid: int) -> tuple[mx.array, np.ndarray]:
    count = int(np.prod(grid))
    return mx.random.normal((count, PIXELS), key=mx.random.key(count)), np.array(grid)


def run(steps: Generator[int, None, mx.array]) -> tuple[list[int], mx.array]:
    done = []
    while True:
        try:
            done.append(next(steps))
        except StopIteration as end:
            return done, end.value


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 30),
)
def test_any_pieces_give_the_answer_of_the_whole(
    tower: VisionModel, frames: int, rows: int, columns: int, halvings: int
) -> None:
    pixels, grid = pixels_of(frames, 2 * rows, 2 * columns)
    done, tokens = run(tower.pieces(pixels.__getitem__, grid, (tower.work(grid) >> halvings) + 1))
    assert relative_error(tokens, tower(pixels, grid[None])) < 1e-5
    assert sum(done) == tower.work(grid)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize("parts", [1, 30])
def test_a_tower_in_16_bits_computes_in_them_whatever_the_pieces(
    tower: VisionModel, dtype: mx.Dtype, parts: int
) -> None:
    rounded = VisionModel(CONFIG)
    rounded.update(tree_map(lambda a: a.astype(dtype), tower.parameters()))
    pixels, grid = pixels_of(2, 6, 8)
    _, tokens = run(rounded.pieces(pixels.__getitem__, grid, tower.work(grid) // parts))
    assert tokens.dtype == dtype
    assert relative_error(tokens.astype(mx.float32), tower(pixels, grid[None])) < 0.05


def test_what_fits_the_budget_is_one_piece(tower: VisionModel) -> None:
    pixels, grid = pixels_of(3, 4, 6)
    done, _ = run(tower.pieces(pixels.__getitem__, grid, tower.work(grid)))
    assert done == [tower.work(grid)]


def test_patches_are_asked_for_in_order_and_as_they_are_needed(tower: VisionModel) -> None:
    pixels, grid = pixels_of(2, 10, 8)
    budget = 20 * row_work(CONFIG, 80).embed
    asked: list[slice] = []

    def rows(part: slice) -> mx.array:
        asked.append(part)
        return pixels[part]

    steps = tower.pieces(rows, grid, budget)
    next(steps)
    assert sum(part.stop - part.start for part in asked) <= 2 * 20
    run(steps)
    assert [n for part in asked for n in range(part.start, part.stop)] == list(range(160))


class _Meter:
    """Counts the operations of products and scores that mlx is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.products = self.scores = self.most_scores = 0

        def linear(layer: nn.Linear, x: mx.array) -> mx.array:
            self.products += 2 * x.size * layer.weight.shape[0]
            return x @ layer.weight.T + layer.bias

        def attend(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
            scores = q.size // q.shape[-1] * k.shape[-2]
            self.products += 4 * scores * q.shape[-1]
            self.scores += scores
            self.most_scores = max(self.most_scores, scores)
            return softmax_attention(q, k, v, scale)

        def add_product(bias: mx.array, x: mx.array, weight: mx.array) -> mx.array:
            self.products += 2 * x.size * weight.shape[1]
            return bias + x @ weight

        monkeypatch.setattr(nn.Linear, "__call__", linear)
        monkeypatch.setattr(vision, "softmax_attention", attend)
        monkeypatch.setattr(mx, "addmm", add_product)


def test_the_work_is_that_of_the_products(
    tower: VisionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = _Meter(monkeypatch)
    pixels, grid = pixels_of(2, 6, 8)
    tower(pixels, grid[None])
    assert tower.work(grid) == meter.products + 1024 * meter.scores
    assert meter.scores == 2 * CONFIG.depth * CONFIG.num_heads * 48**2


@pytest.mark.parametrize("grid", [(1, 24, 20), (6, 4, 6)])
@pytest.mark.parametrize("parts", [3, 50, 1000])
def test_no_piece_exceeds_its_budget(
    tower: VisionModel, monkeypatch: pytest.MonkeyPatch, grid: tuple[int, ...], parts: int
) -> None:
    meter = _Meter(monkeypatch)
    evaluated: list[int] = []
    evaluate = mx.eval

    def noted(arrays: Any) -> None:
        evaluated.append(meter.products + 1024 * meter.scores - sum(evaluated))
        evaluate(arrays)

    monkeypatch.setattr(mx, "eval", noted)
    pixels, shape = pixels_of(*grid)
    budget = tower.work(shape) // parts
    done, _ = run(tower.pieces(pixels.__getitem__, shape, budget))
    smallest = 4 * row_work(CONFIG, int(shape[1:].prod())).most
    assert max(done) <= max(budget, smallest)
    assert budget < smallest or len(done) >= parts
    # What was asked for is at most one step ahead of what is evaluated.
    assert max(evaluated) <= 2 * max(budget, smallest)
    assert meter.most_scores * 1024 <= max(budget, smallest)


def test_after_the_last_look_nothing_more_is_computed(
    tower: VisionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = []
    evaluate = mx.eval
    monkeypatch.setattr(mx, "eval", lambda arrays: (evaluated.append(1), evaluate(arrays)))
    pixels, grid = pixels_of(1, 24, 20)
    steps = tower.pieces(pixels.__getitem__, grid, tower.work(grid) // 20)
    for _ in range(3):
        next(steps)
    steps.close()
    assert len(evaluated) == 3


def test_memory_is_bounded_by_the_pieces_not_by_the_square_of_the_patches(
    tower: VisionModel,
) -> None:
    pixels, grid = pixels_of(1, 36, 36)
    scores_bytes = CONFIG.num_heads * 1296**2 * 4

    def peak_bytes(encode: Callable[[], Any]) -> int:
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        encode()
        return mx.get_peak_memory() - before

    whole = peak_bytes(lambda: mx.eval(tower(pixels, grid[None])))
    pieces = peak_bytes(lambda: run(tower.pieces(pixels.__getitem__, grid, 10**7)))
    assert whole > scores_bytes
    assert pieces < scores_bytes / 10


@given(st.integers(1, 200), st.integers(1, 500), st.integers(1, 10**5), st.integers(1, 8))
def test_cuts_cover_everything_within_the_budget(
    blocks: int, row: int, budget: int, multiple: int
) -> None:
    parts = list(cuts(blocks * multiple, row, budget, multiple))
    assert [n for part in parts for n in range(part.start, part.stop)] == [
        *range(blocks * multiple)
    ]
    sizes = [part.stop - part.start for part in parts]
    assert all(size % multiple == 0 for size in sizes)
    assert max(sizes) - min(sizes) <= multiple
    assert max(sizes) * row <= max(budget, multiple * row)
    assert len(parts) == 1 or (max(sizes) + multiple) * len(parts) * row > budget


def test_the_smallest_piece_of_a_photograph_is_within_the_budget_of_a_slow_machine() -> None:
    """Four rows of 12 megapixels in the tower of Qwen3.5 0.8B."""
    real = VisionConfig(12, 768, 3072, 12, 3, 16, 2, 2, 1024, 2304)
    budget = MachineLimits.of_memory(8 * GIB, on_gpu=False).vision_piece_work
    assert 4 * row_work(real, 188 * 252).most <= budget
