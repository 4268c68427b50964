"""Endless training batches, each fixed by the seed and its step; drawn in processes of their own.

All pictures (or clips) of a batch share one patch grid, so that the vision tower works on them as
one array.
"""

import math
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from mlx_model.image_processing import (
    ClipSettings,
    PixelSettings,
    frame_size,
    patches,
    picture_size,
    resize,
)
from tools.train_demo import questions, scenes
from tools.train_demo.dialogue import NO_LABEL, DialogueWriter, Media, Sample
from tools.train_demo.tokenizer import DEMO_MODEL

# The limits in the demo model's processor files.
PIXELS = PixelSettings(16, 2, 2, 4096, 16384, (0.5,) * 3, (0.5,) * 3)
CLIPS = ClipSettings(
    PixelSettings(16, 2, 2, 4096, 147456, (0.5,) * 3, (0.5,) * 3),
    fps=2.0,
    min_frames=4,
    max_frames=16,
    max_frame_tokens=9,
)
PATCH, FACTOR, TEMPORAL = PIXELS.patch_size, PIXELS.factor, PIXELS.temporal_patch_size

SHAPE_CLASSES = len(scenes.SHAPES) + 1
COLOUR_CLASSES = len(scenes.COLOURS) + 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one step. Shapes: ids, labels [B, T]; positions [3, B, T]; patches [N, P, 1536]
    with N pictures or frame groups of P patches; cell labels [N, P / 4]."""

    kind: str
    input_ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    patches: np.ndarray | None
    grid: tuple[int, int] | None
    cell_shapes: np.ndarray | None
    cell_colours: np.ndarray | None


def draw_batch(seed: int, step: int, size: int, stage: int) -> Batch:
    """Batch `step` of the run `seed`; `stage` is the most shapes a picture may hold."""
    rng = random.Random(f"{seed}/{step}")
    lot = rng.random()
    if lot < 0.72 or stage < 2:
        return _picture_batch(rng, size, stage)
    if lot < 0.93:
        return _clip_batch(rng, size // 2)
    return _text_batch(rng, size)


def stream(seed: int, start: int, stop: int, size: int, stages: list[int]) -> Iterator[Batch]:
    """Batches `start` to `stop`, drawn ahead by a process of their own, in order."""
    jobs = ((seed, step, size, stages[min(step, len(stages) - 1)]) for step in range(start, stop))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        window: list[multiprocessing.pool.AsyncResult] = []
        for job in jobs:
            window.append(pool.apply_async(draw_batch, job))
            if len(window) > 4:
                yield window.pop(0).get()
        for result in window:
            yield result.get()


def _picture_batch(rng: random.Random, size: int, stage: int) -> Batch:
    grids = _picture_sizes()
    height, width = rng.choices(list(grids), [math.sqrt(len(g)) for g in grids.values()])[0]
    media = Media(height // FACTOR, width // FACTOR)
    samples, pixel_values, cells = [], [], []
    for _ in range(size):
        original = rng.choice(grids[height, width])
        scene = scenes.random_scene(rng, *original, rng.randint(1, stage))
        picture = scenes.render(scene)
        pixel_values.append(_patches([picture], height, width))
        cells.append(_cells(scene, media.rows, media.columns))
        samples.append(_picture_sample(rng, scene, media))
    return _collate("picture", samples, pixel_values, (height // PATCH, width // PATCH), cells)


def _picture_sample(rng: random.Random, scene: scenes.Scene, media: Media) -> Sample:
    turns: list[questions.Turn] = []
    for _ in range(rng.randint(2, 4)):
        lot = rng.random()
        if lot < 0.3:
            turn = questions.colour_turn(rng, scene)
        elif lot < 0.42:
            turn = questions.count_turn(rng, scene)
        elif lot < 0.64:
            turn = questions.presence_turn(rng, scene)
        elif lot < 0.95:
            turn = questions.list_turn(rng, scene)
        else:
            turn = questions.small_talk_turn(rng)
        turns += [turn] if turn else []
    first = 0
    if rng.random() < 0.12:
        told, asked = questions.name_turns(rng)
        turns = [told, *turns, asked]
        first = rng.randint(0, 1)
    elif rng.random() < 0.08:
        turns = [rng.choice((questions.small_talk_turn, questions.no_picture_turn))(rng), *turns]
        first = 1
    if not turns:
        turns = [questions.list_turn(rng, scene)]
        first = 0
    return _write(rng, turns, {first: media})


def _clip_batch(rng: random.Random, size: int) -> Batch:
    height, width = rng.choice(
        ((480, 640), (720, 1280), (240, 320), (200, 200), (320, 240), (128, 128))
    )
    rate, seconds = rng.choice((10.0, 12.0, 15.0, 24.0, 25.0, 30.0)), rng.uniform(1.5, 8.0)
    total = max(CLIPS.min_frames, round(rate * seconds))
    count = min(max(int(total / rate * CLIPS.fps), CLIPS.min_frames), CLIPS.max_frames, total)
    indices = np.linspace(0, total - 1, count).round().astype(int).tolist()
    indices += indices[-1:] * (len(indices) % TEMPORAL)
    times = tuple(
        (indices[i] + indices[i + 1]) / 2 / rate for i in range(0, len(indices), TEMPORAL)
    )
    h, w = frame_size(count, height, width, CLIPS)
    media = Media(h // FACTOR, w // FACTOR, times)
    # Draw near the size that is looked at: the shapes are the same and it is many times faster.
    scale = min(1.0, 2.0 * h / height)
    samples, pixel_values = [], []
    for _ in range(size):
        clip = scenes.random_clip(rng, round(width * scale), round(height * scale))
        clip = scenes.ClipScene(clip.scene, clip.direction, clip.travel, total / rate, rate)
        frames = {i: scenes.render_frame(clip, i) for i in set(indices)}
        pixel_values.append(_patches([frames[i] for i in indices], h, w))
        turns = [questions.direction_turn(rng, clip)]
        if rng.random() < 0.35:
            turns.insert(rng.randint(0, 1), questions.clip_colour_turn(rng, clip))
        if rng.random() < 0.1:
            turns.append(questions.small_talk_turn(rng))
        samples.append(_write(rng, turns, {0: media}))
    return _collate("clip", samples, pixel_values, (h // PATCH, w // PATCH), None)


def _text_batch(rng: random.Random, size: int) -> Batch:
    samples = []
    for _ in range(size):
        turns = [
            rng.choice(
                (questions.small_talk_turn, questions.small_talk_turn, questions.no_picture_turn)
            )(rng)
            for _ in range(rng.randint(0, 5))
        ]
        told, asked = questions.name_turns(rng)
        place = rng.randint(0, len(turns))
        turns = [*turns[:place], told, *turns[place:], asked]
        samples.append(_write(rng, turns, {}))
    return _collate("text", samples, [], None, None)


def _write(rng: random.Random, turns: list[questions.Turn], media: dict[int, Media]) -> Sample:
    typed = [
        questions.Turn(turn.ability, questions.sloppy(rng, turn.question), turn.answer)
        for turn in turns
    ]
    thoughts = [rng.random() < 0.35 for _ in typed]
    thoughts[-1] = True
    return _writer().write(typed, media, thoughts)


def _patches(frames: list[Image.Image], height: int, width: int) -> np.ndarray:
    """[groups, patches, 1536] of a picture or of the frames of a clip."""
    values, grid = patches([resize(np.asarray(f), height, width) for f in frames], PIXELS)
    return values.reshape(grid[0], grid[1] * grid[2], -1)


def _cells(scene: scenes.Scene, rows: int, columns: int) -> tuple[list[int], list[int]]:
    """Which shape and colour fill most of each cell, row by row; 0 where nothing does."""
    kinds, colours = [0] * (rows * columns), [0] * (rows * columns)
    most = [0.12] * (rows * columns)
    side = min(scene.width, scene.height)
    for shape in scene.shapes:
        half_x = 0.85 * shape.radius * side / scene.width * columns
        half_y = 0.85 * shape.radius * side / scene.height * rows
        cx, cy = shape.x * columns, shape.y * rows
        for row in range(rows):
            for column in range(columns):
                across = min(column + 1, cx + half_x) - max(column, cx - half_x)
                down = min(row + 1, cy + half_y) - max(row, cy - half_y)
                covered = max(across, 0.0) * max(down, 0.0)
                cell = row * columns + column
                if covered > most[cell]:
                    most[cell] = covered
                    kinds[cell] = 1 + scenes.SHAPES.index(shape.kind)
                    colours[cell] = 1 + list(scenes.COLOURS).index(shape.colour)
    return kinds, colours


def _collate(
    kind: str,
    samples: list[Sample],
    pixel_values: list[np.ndarray],
    grid: tuple[int, int] | None,
    cells: list[tuple[list[int], list[int]]] | None,
) -> Batch:
    length = max(len(s.input_ids) for s in samples)
    input_ids = np.zeros((len(samples), length), np.int64)
    labels = np.full((len(samples), length), NO_LABEL, np.int64)
    positions = np.zeros((3, len(samples), length), np.int64)
    for row, sample in enumerate(samples):
        count = len(sample.input_ids)
        input_ids[row, :count] = sample.input_ids
        labels[row, :count] = sample.labels
        positions[:, row, :count] = np.array(sample.positions).T
    return Batch(
        kind,
        input_ids,
        labels,
        positions,
        np.concatenate(pixel_values) if pixel_values else None,
        grid,
        np.array([c[0] for c in cells]) if cells else None,
        np.array([c[1] for c in cells]) if cells else None,
    )


@lru_cache
def _writer() -> DialogueWriter:
    return DialogueWriter(Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json")))


@lru_cache
def _picture_sizes() -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Original (width, height)s by the (height, width) they are brought to."""
    rng = random.Random(0)
    sizes = defaultdict(list)
    for _ in range(4000):
        width = rng.choice((rng.randint(64, 200), rng.randint(150, 480)))
        height = round(width * math.exp(rng.uniform(-0.65, 0.65)))
        if height >= 56:
            sizes[picture_size(height, width, PIXELS)].append((width, height))
    return {grid: group for grid, group in sizes.items() if len(group) >= 60 and min(grid) >= 64}
