"""Endless training batches, each fixed by the seed and its step; drawn in processes of their own.

All pictures (or clips) of a batch share one patch grid, so that the vision tower works on them as
one array.
"""

import dataclasses
import math
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from mlx_model.image_processing import (
    ClipSettings,
    PixelSettings,
    frame_size,
    picture_size,
    resize,
)
from mlx_model.image_processing import (
    patches as cut_patches,
)
from tools.train_demo import questions, scenes
from tools.train_demo.dialogue import NO_LABEL, DialogueWriter, Media, Opening, Sample
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

DRILL_SHARE = 0.7

# What is known of each vision token in training, and how many classes it has; 0 is "nothing here".
# "rank" counts the shapes of a picture from the left, "direction" is the way of what moves.
CELL_CLASSES = {
    "kind": 1 + len(scenes.SHAPES),
    "colour": 1 + len(scenes.COLOURS),
    "rank": 1 + 4,
    "direction": 1 + len(scenes.DIRECTIONS),
}


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pictures or frame groups of one grid, and the truth about each of their tokens.

    Shapes: patches [N, P, 1536], P = rows * columns; each of `cells` [N, P / 4].
    """

    patches: np.ndarray
    rows: int
    columns: int
    cells: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one step. Shapes: ids and labels [B, T], None where nothing is said; positions
    [3, B, T]."""

    kind: str
    input_ids: np.ndarray | None = None
    labels: np.ndarray | None = None
    positions: np.ndarray | None = None
    pictures: Pixels | None = None
    clips: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """How hard the batches are: shapes in a picture at most, the share of answers that are thought
    out, and whether a conversation may show more than one picture or clip; or nothing but looking.
    """

    most_shapes: int
    thinking_share: float = 0.0
    mixed: bool = False
    looking_only: bool = False
    # Most shapes in drills, short batches about one thing that is learnt slowly; 0 for no drills.
    drill_shapes: int = 0
    # Of the shapes asked for in vain, how many are right in colour or kind.
    half_right: float = 0.8
    # Where the shares end of batches that are mixed, of pictures and of clips; the rest is text.
    batch_bounds: tuple[float, float, float] = (0.28, 0.72, 0.93)
    # The same for questions of colour, count, presence and list; the rest is small talk.
    question_bounds: tuple[float, float, float, float] = (0.3, 0.42, 0.64, 0.95)


def draw_batch(seed: int, step: int, size: int, stage: Stage) -> Batch:
    """Batch `step` of the run `seed`."""
    rng = random.Random(f"{seed}/{step}")
    lot = rng.random()
    if stage.looking_only:
        return _looking_batch(rng, size)
    if stage.drill_shapes and rng.random() < DRILL_SHARE:
        return _drill_batch(rng, size, stage)
    mixed, pictures, clips = stage.batch_bounds
    if stage.mixed and lot < mixed:
        return _mixed_batch(rng, size // 2, stage)
    if lot < pictures or stage.most_shapes < 2:
        return _picture_batch(rng, size, stage)
    if lot < clips:
        return _clip_batch(rng, size // 2, stage)
    return _text_batch(rng, size, stage)


def stream(seed: int, start: int, stop: int, size: int, stages: list[Stage]) -> Iterator[Batch]:
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


class _PictureSource:
    """Draws pictures of one grid and gathers their patches."""

    def __init__(self, rng: random.Random, most_shapes: int) -> None:
        grids = _picture_sizes()
        weights = [math.sqrt(len(group)) for group in grids.values()]
        self._height, self._width = rng.choices(list(grids), weights)[0]
        self._originals = grids[self._height, self._width]
        self._most_shapes = most_shapes
        self.media = Media(self._height // FACTOR, self._width // FACTOR)
        self._patches: list[np.ndarray] = []
        self._cells: list[dict[str, list[int]]] = []

    def draw(self, rng: random.Random) -> scenes.Scene:
        """One more picture."""
        original = rng.choice(self._originals)
        scene = scenes.random_scene(rng, *original, rng.randint(1, self._most_shapes))
        picture = scenes.render(scene)
        self._patches.append(_patches([picture], self._height, self._width))
        where = _shape_of_cells(scene, self.media.rows, self.media.columns)
        self._cells.append({**_looks(scene, where), "rank": where})
        return scene

    def arrays(self) -> dict[str, Any]:
        """The batch's field for all pictures drawn."""
        return {"pictures": _pixels(self._patches, self._cells, self._height, self._width)}


class _ClipSource:
    """Draws clips of one size, length and rate, and gathers the patches of the frames looked at."""

    def __init__(self, rng: random.Random) -> None:
        height, width = rng.choice(
            ((480, 640), (720, 1280), (240, 320), (200, 200), (320, 240), (128, 128))
        )
        self._rate, seconds = rng.choice((10.0, 12.0, 15.0, 24.0, 25.0, 30.0)), rng.uniform(1.5, 8)
        self._total = total = max(CLIPS.min_frames, round(self._rate * seconds))
        wanted = max(int(total / self._rate * CLIPS.fps), CLIPS.min_frames)
        count = min(wanted, CLIPS.max_frames, total)
        indices = np.linspace(0, total - 1, count).round().astype(int).tolist()
        indices += indices[-1:] * (len(indices) % TEMPORAL)
        pairs = zip(indices[::2], indices[1::2], strict=True)
        times = tuple((first + second) / 2 / self._rate for first, second in pairs)
        self._indices = indices
        self._height, self._width = frame_size(count, height, width, CLIPS)
        self.media = Media(self._height // FACTOR, self._width // FACTOR, times)
        # Near the size that is looked at: the shapes are the same, and it is many times faster.
        scale = min(1.0, 2.0 * self._height / height)
        self._canvas = round(width * scale), round(height * scale)
        self._patches: list[np.ndarray] = []
        self._cells: list[dict[str, list[int]]] = []

    def draw(self, rng: random.Random) -> scenes.ClipScene:
        """One more clip."""
        clip = dataclasses.replace(
            scenes.random_clip(rng, *self._canvas),
            duration_s=self._total / self._rate,
            frames_per_s=self._rate,
        )
        frames = {i: scenes.render_frame(clip, i) for i in set(self._indices)}
        shown = [frames[i] for i in self._indices]
        self._patches.append(_patches(shown, self._height, self._width))
        way = 1 + list(scenes.DIRECTIONS).index(clip.direction)
        for index in self._indices[::TEMPORAL]:
            scene = scenes.scene_at(clip, index)
            where = _shape_of_cells(scene, self.media.rows, self.media.columns)
            directions = [way if shape == 1 else 0 for shape in where]
            self._cells.append({**_looks(scene, where), "direction": directions})
        return clip

    def arrays(self) -> dict[str, Any]:
        """The batch's field for all clips drawn."""
        return {"clips": _pixels(self._patches, self._cells, self._height, self._width)}


def _picture_batch(rng: random.Random, size: int, stage: Stage) -> Batch:
    source = _PictureSource(rng, stage.most_shapes)
    samples = [_picture_sample(rng, source.draw(rng), source.media, stage) for _ in range(size)]
    return _collate("picture", samples, **source.arrays())


def _picture_sample(rng: random.Random, scene: scenes.Scene, media: Media, stage: Stage) -> Sample:
    turns = _picture_turns(rng, scene, rng.randint(2, 4), stage)
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
    return _write(rng, turns, {first: media}, stage)


def _picture_turns(
    rng: random.Random, scene: scenes.Scene, count: int, stage: Stage
) -> list[questions.Turn]:
    """At most `count` turns: not every question suits every scene."""
    turns: list[questions.Turn] = []
    colour, number, presence, everything = stage.question_bounds
    for _ in range(count):
        lot = rng.random()
        if lot < colour:
            turn = questions.colour_turn(rng, scene)
        elif lot < number:
            turn = questions.count_turn(rng, scene)
        elif lot < presence:
            turn = questions.presence_turn(rng, scene, stage.half_right)
        elif lot < everything:
            turn = questions.list_turn(rng, scene)
        else:
            turn = questions.small_talk_turn(rng)
        turns += [turn] if turn else []
    return turns


def _clip_batch(rng: random.Random, size: int, stage: Stage) -> Batch:
    source = _ClipSource(rng)
    samples = []
    for _ in range(size):
        turns = _clip_turns(rng, source.draw(rng))
        if rng.random() < 0.1:
            turns.append(questions.small_talk_turn(rng))
        samples.append(_write(rng, turns, {0: source.media}, stage))
    return _collate("clip", samples, **source.arrays())


def _clip_turns(rng: random.Random, clip: scenes.ClipScene) -> list[questions.Turn]:
    turns = [questions.direction_turn(rng, clip)]
    if rng.random() < 0.35:
        turns.insert(rng.randint(0, 1), questions.clip_colour_turn(rng, clip))
    return turns


def _mixed_batch(rng: random.Random, size: int, stage: Stage) -> Batch:
    """Conversations that show two pictures, or a picture and a clip, one after the other.

    Every question is about the newest of them; now and then a name told first is asked for last.
    """
    pictures = _PictureSource(rng, stage.most_shapes)
    clips = _ClipSource(rng) if rng.random() < 0.6 else None
    clip_first = clips is not None and rng.random() < 0.5
    samples = []
    for _ in range(size):
        turns: list[questions.Turn] = []
        media: dict[int, Media] = {}
        told = questions.name_turns(rng) if rng.random() < 0.4 else None
        if told:
            turns.append(told[0])
        for place in range(2):
            first = len(turns)
            if clips is not None and clip_first == (place == 0):
                turns += _clip_turns(rng, clips.draw(rng))
                media[first] = clips.media
            else:
                scene = pictures.draw(rng)
                turns += _picture_turns(rng, scene, 2, stage) or [questions.list_turn(rng, scene)]
                media[first] = pictures.media
        if told:
            turns.append(told[1])
        samples.append(_write(rng, turns, media, stage))
    return _collate("mixed", samples, **pictures.arrays(), **(clips.arrays() if clips else {}))


def _drill_batch(rng: random.Random, size: int, stage: Stage) -> Batch:
    """Pictures with a single question each: is something there or not."""
    source = _PictureSource(rng, stage.drill_shapes)
    samples = []
    for _ in range(size):
        turn = questions.presence_turn(rng, source.draw(rng), stage.half_right)
        samples.append(_write(rng, [turn], {0: source.media}, Stage(stage.drill_shapes)))
    return _collate("drill", samples, **source.arrays())


def _looking_batch(rng: random.Random, size: int) -> Batch:
    """Pictures, or every fifth time clips, without a word about them."""
    source = _ClipSource(rng) if rng.random() < 0.2 else _PictureSource(rng, most_shapes=4)
    for _ in range(size // 3 if isinstance(source, _ClipSource) else size):
        source.draw(rng)
    return Batch("looking", **source.arrays())


def _text_batch(rng: random.Random, size: int, stage: Stage) -> Batch:
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
        samples.append(_write(rng, turns, {}, stage))
    return _collate("text", samples)


def _write(
    rng: random.Random, turns: list[questions.Turn], media: dict[int, Media], stage: Stage
) -> Sample:
    typed = [
        dataclasses.replace(turn, question=questions.sloppy(rng, turn.question)) for turn in turns
    ]
    openings: list[Opening] = ["no thought" if rng.random() < 0.35 else "bare" for _ in typed]
    openings[-1] = "no thought"
    if stage.thinking_share and rng.random() < stage.thinking_share:
        openings[-1] = "thought"
    return _writer().write(typed, media, openings)


def _patches(frames: list[Image.Image], height: int, width: int) -> np.ndarray:
    """[groups, patches, 1536] of a picture or of the frames of a clip."""
    values, grid = cut_patches([resize(np.asarray(f), height, width) for f in frames], PIXELS)
    return values.reshape(grid[0], grid[1] * grid[2], -1)


def _shape_of_cells(scene: scenes.Scene, rows: int, columns: int) -> list[int]:
    """Which shape (1 for the first) fills most of each cell, row by row; 0 where none does."""
    where, most = [0] * (rows * columns), [0.12] * (rows * columns)
    side = min(scene.width, scene.height)
    for number, shape in enumerate(scene.shapes, 1):
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
                    most[cell], where[cell] = covered, number
    return where


def _looks(scene: scenes.Scene, where: list[int]) -> dict[str, list[int]]:
    """Kind and colour of the shape in each cell."""
    kinds = [0] + [1 + scenes.SHAPES.index(s.kind) for s in scene.shapes]
    colours = [0] + [1 + list(scenes.COLOURS).index(s.colour) for s in scene.shapes]
    return {"kind": [kinds[n] for n in where], "colour": [colours[n] for n in where]}


def _pixels(
    patches: list[np.ndarray], cells: list[dict[str, list[int]]], height: int, width: int
) -> Pixels:
    truth = {name: np.array([cell[name] for cell in cells]) for name in cells[0]}
    return Pixels(np.concatenate(patches), height // PATCH, width // PATCH, truth)


def _collate(kind: str, samples: list[Sample], **media: Any) -> Batch:
    length = max(len(s.input_ids) for s in samples)
    input_ids = np.zeros((len(samples), length), np.int64)
    labels = np.full((len(samples), length), NO_LABEL, np.int64)
    positions = np.zeros((3, len(samples), length), np.int64)
    for row, sample in enumerate(samples):
        count = len(sample.input_ids)
        input_ids[row, :count] = sample.input_ids
        labels[row, :count] = sample.labels
        positions[:, row, :count] = np.array(sample.positions).T
    return Batch(kind, input_ids, labels, positions, **media)


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
    return {
        grid: group
        for grid, group in sizes.items()
        if len(group) >= 60 and math.prod(grid) >= 96 * 96
    }
