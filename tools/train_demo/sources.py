"""Where a batch gets its pictures: each source draws media of one size and gathers their patches.

All pictures (or clips) of a batch share one patch grid, so that the vision tower works on them as
one array. Beside the pixels goes the truth about each vision token, which the probe learns from.
"""

import dataclasses
import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from mlx_model.image_processing import (
    ClipSettings,
    Patches,
    PixelSettings,
    frame_size,
    picture_size,
    resize,
)
from tools.train_demo import place_questions, printed, scenes, stories
from tools.train_demo.dialogue import Media
from tools.train_demo.printed import Page
from tools.train_demo.scenes import ClipScene, Scene, Shape
from tools.train_demo.stories import Story

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

# What is known of each vision token in training, and how many classes it has; 0 is "nothing here".
# "rank" counts the shapes of a picture from the left, "direction" is the way of what moves, the
# edges and the middle are those of the shape as answers give them, "presence" tells which frames
# show it.
PLACES = 1000 // place_questions.STEP
EDGES = ("left edge", "top edge", "right edge", "bottom edge", "middle across", "middle down")
CELL_CLASSES = {
    "kind": 1 + len(scenes.SHAPES),
    "colour": 1 + len(scenes.COLOURS),
    "rank": 1 + 4,
    "direction": 1 + len(scenes.DIRECTIONS),
    "presence": 1 + 3,
    **dict.fromkeys(EDGES, 2 + PLACES),
}
# The same of each of the four patches of a token: the letter whose middle lies in it, and where in
# the text that is.
PATCH_CLASSES = {
    "letter": 1 + len(printed.LETTERS),
    "place": 1 + printed.MOST_LINES * printed.MOST_LETTERS,
}

# What a token should bring to mind of what came before it. "age": whether an earlier group of the
# clip shows this shape; "likeness": whether the first picture shows the same here, something else,
# or what is gone now, of which kind and colour; "picture": which of two it belongs to; "asked": the
# kind, the colour and the picture in the question that is being answered.
# The mark behind each group: what "happens" there, to a shape of which kind, and whether something
# has happened before.
GROUP_MEMORIES = {
    "happens": 1 + len(stories.HAPPENINGS),
    "happens to": 1 + len(scenes.SHAPES),
    "happened": 2,
}
MEMORY_CLASSES = {
    "age": 1 + 2,
    "likeness": 1 + 3,
    "asked kind": 1 + len(scenes.SHAPES),
    "asked colour": 1 + len(scenes.COLOURS),
    **GROUP_MEMORIES,
    "earlier kind": 1 + len(scenes.SHAPES),
    "earlier colour": 1 + len(scenes.COLOURS),
    "picture": 2,
    "asked picture": 1 + 2,
}

# A patch of which nothing is held to be true, and how near a border that is, in patches.
NO_TRUTH, UNSURE = -100, 0.2

Memories = dict[str, list[int]]
PageMaker = Callable[[random.Random, int, int], Page]
StoryMaker = Callable[[random.Random, int, int, float, float], Story]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pictures or frame groups of one grid, and the truth about each of their tokens.

    Shapes: patches [N, P, 1536], P = rows * columns; each of `cells` [N, P / 4], or [N, P] for
    what is known of patches.
    """

    patches: np.ndarray
    rows: int
    columns: int
    cells: dict[str, np.ndarray]


class PictureSource:
    """Pictures of shapes."""

    def __init__(self, rng: random.Random, most_shapes: int) -> None:
        grids = _picture_sizes()
        weights = [math.sqrt(len(group)) for group in grids.values()]
        self._size = rng.choices(list(grids), weights)[0]
        self._originals = grids[self._size]
        self._most_shapes = most_shapes
        self.media = _media(self._size)
        self._gathered = _Gathered(self._size)

    def draw(self, rng: random.Random) -> Scene:
        """One more picture."""
        original = rng.choice(self._originals)
        return self.add(scenes.random_scene(rng, *original, rng.randint(1, self._most_shapes)))

    def add(self, scene: Scene) -> Scene:
        """One more picture, of this scene, whose size comes from an earlier picture's."""
        where = shape_of_cells(scene, self.media.rows, self.media.columns)
        truth = {**_looks(scene, where), "rank": where, **_edges(scene, where)}
        self._gathered.add([scenes.render(scene)], [truth])
        return scene

    def pixels(self) -> Pixels:
        """All pictures drawn."""
        return self._gathered.pixels()


class PrintSource:
    """Pictures of print of one sort: a word, a page, or a sheet full of letters."""

    def __init__(self, rng: random.Random, make: PageMaker) -> None:
        grids = _sign_sizes() if make is printed.random_sign else _page_sizes()
        self._size = rng.choice(list(grids))
        self._originals = grids[self._size]
        self._make = make
        self.media = _media(self._size)
        self._gathered = _Gathered(self._size)

    def draw(self, rng: random.Random) -> Page:
        """One more picture."""
        page = self._make(rng, *rng.choice(self._originals))
        letters = _letters_of_patches(page, self.media.rows * 2, self.media.columns * 2)
        self._gathered.add([printed.render(page)], [letters])
        return page

    def pixels(self) -> Pixels:
        """All pictures drawn."""
        return self._gathered.pixels()


class ClipSource:
    """Clips of one size, length and rate, of which the frames that are looked at are drawn."""

    def __init__(self, rng: random.Random, shortest_s: float = 1.5) -> None:
        height, width = rng.choice(
            ((480, 640), (720, 1280), (240, 320), (200, 200), (320, 240), (128, 128))
        )
        self._rate = rng.choice((10.0, 12.0, 15.0, 24.0, 25.0, 30.0))
        self._total = max(CLIPS.min_frames, round(self._rate * rng.uniform(shortest_s, 8)))
        self._indices = frames_looked_at(self._total, self._rate)
        pairs = zip(self._indices[::2], self._indices[1::2], strict=True)
        times = tuple((first + second) / 2 / self._rate for first, second in pairs)
        self._size = frame_size(len(self._indices), height, width, CLIPS)
        self.media = dataclasses.replace(_media(self._size), times_s=times)
        # Near the size that is looked at: the shapes are the same, and it is many times faster.
        scale = min(1.0, 1.5 * self._size[0] / height)
        self._canvas = round(width * scale), round(height * scale)
        self._gathered = _Gathered(self._size)
        self.memories: list[Memories] = []

    @property
    def duration_s(self) -> float:
        """How long each clip is."""
        return self._total / self._rate

    @property
    def frame_times_s(self) -> list[float]:
        """When the frames are that the model looks at."""
        return [index / self._rate for index in self._indices]

    def draw(self, rng: random.Random) -> ClipScene:
        """One more clip, of a shape on the move."""
        clip = dataclasses.replace(
            scenes.random_clip(rng, *self._canvas),
            duration_s=self.duration_s,
            frames_per_s=self._rate,
        )
        self._add([scenes.scene_at(clip, index) for index in self._indices])
        return clip

    def draw_story(self, rng: random.Random, make: StoryMaker) -> Story:
        """One more clip, in which something happens."""
        story = make(rng, *self._canvas, self.duration_s, self._rate)
        truths = self._add([stories.scene_at(story, index) for index in self._indices])
        kinds = [truth["kind"] for truth in truths]
        self.memories.append(_memories(story, kinds, self.frame_times_s))
        return story

    def _add(self, shown: list[Scene]) -> list[dict[str, list[int]]]:
        drawn: dict[Scene, Image.Image] = {}
        for scene in shown:
            if scene not in drawn:
                drawn[scene] = scenes.render(scene)
        rows, columns = self.media.rows, self.media.columns
        pairs = zip(shown[::2], shown[1::2], strict=True)
        truths = [_group_truth(first, second, rows, columns) for first, second in pairs]
        self._gathered.add([drawn[scene] for scene in shown], truths)
        return truths

    def pixels(self) -> Pixels:
        """The frame groups of all clips drawn."""
        return self._gathered.pixels()


class _Gathered:
    """Patches of one grid, and the truth about them."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._height, self._width = size
        self._patches: list[np.ndarray] = []
        self._truths: list[dict[str, list[int]]] = []

    def add(self, frames: list[Image.Image], truths: list[dict[str, list[int]]]) -> None:
        """A picture, or the frames of a clip; one truth for each group of them."""
        resized = [resize(np.asarray(f), self._height, self._width) for f in frames]
        cut = Patches(resized, PIXELS)
        groups, rows, columns = cut.grid
        self._patches.append(cut[:].reshape(groups, rows * columns, -1))
        self._truths += truths

    def pixels(self) -> Pixels:
        truth = {name: np.array([t[name] for t in self._truths]) for name in self._truths[0]}
        patches = np.concatenate(self._patches)
        return Pixels(patches, self._height // PATCH, self._width // PATCH, truth)


def frames_looked_at(total: int, rate: float) -> list[int]:
    """The frames that the pipeline takes of a clip; the last one twice if their number is odd."""
    wanted = max(int(total / rate * CLIPS.fps), CLIPS.min_frames)
    count = min(wanted, CLIPS.max_frames, total)
    indices: list[int] = np.linspace(0, total - 1, count).round().astype(int).tolist()
    return indices + indices[-1:] * (len(indices) % TEMPORAL)


def shape_of_cells(scene: Scene, rows: int, columns: int) -> list[int]:
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


def compare(first: Scene, second: Scene, rows: int, columns: int) -> Memories:
    """What the cells of the second picture should bring to mind of the first."""
    before, now = (_looks(s, shape_of_cells(s, rows, columns)) for s in (first, second))
    seen = (list(zip(looks["kind"], looks["colour"], strict=True)) for looks in (before, now))
    alike = [
        (1 if then == here else 2) if any(here) else 3 if any(then) else 0
        for then, here in zip(*seen, strict=True)
    ]
    cells = rows * columns
    return {
        "likeness": alike,
        "earlier kind": before["kind"],
        "earlier colour": before["colour"],
        "picture": [0] * cells + [1] * cells,
    }


def _memories(story: Story, kinds: list[list[int]], times_s: list[float]) -> Memories:
    """What the cells of all groups, and the marks behind these, should bring to mind."""
    age: list[int] = []
    shown: set[int] = {0}
    for cells in kinds:
        age += [0 if kind == 0 else 2 if kind in shown else 1 for kind in cells]
        shown |= set(cells)
    happens, to = [0] * len(kinds), [0] * len(kinds)
    for frame, actor, happening in reversed(stories.seen_to_happen(story, times_s)):
        happens[frame // TEMPORAL] = 1 + stories.HAPPENINGS.index(happening)
        to[frame // TEMPORAL] = 1 + scenes.SHAPES.index(actor.shape.kind)
    happened = [int(any(happens[:group])) for group in range(len(kinds))]
    return {"age": age, "happens": happens, "happens to": to, "happened": happened}


def _media(size: tuple[int, int]) -> Media:
    return Media(size[0] // FACTOR, size[1] // FACTOR)


def _looks(scene: Scene, where: list[int]) -> dict[str, list[int]]:
    """Kind and colour of the shape in each cell."""
    kinds = [0] + [1 + scenes.SHAPES.index(s.kind) for s in scene.shapes]
    colours = [0] + [1 + list(scenes.COLOURS).index(s.colour) for s in scene.shapes]
    return {"kind": [kinds[n] for n in where], "colour": [colours[n] for n in where]}


def _edges(scene: Scene, where: list[int]) -> dict[str, list[int]]:
    """The edges of the shape in each cell."""
    boxes: list[tuple[int, ...]] = [(0,) * len(EDGES)]
    for shape in scene.shapes:
        box = scenes.bounding_box(scene, shape)
        places = (place_questions.place(edge) for edge in (*box, shape.x, shape.y))
        boxes.append(tuple(1 + place // place_questions.STEP for place in places))
    return {name: [boxes[n][i] for n in where] for i, name in enumerate(EDGES)}


def _group_truth(first: Scene, second: Scene, rows: int, columns: int) -> dict[str, list[int]]:
    """What two frames that are looked at together show in each cell."""
    kinds = {shape.kind: shape for shape in second.shapes} | {s.kind: s for s in first.shapes}
    union = dataclasses.replace(first, shapes=tuple(kinds.values()))
    presence, directions = [0], [0]
    for shape in union.shapes:
        in_both = [_same_kind(scene, shape) for scene in (first, second)]
        presence.append(1 if all(in_both) else 2 if in_both[0] else 3)
        directions.append(_direction(*in_both) if all(in_both) else 0)  # type: ignore[arg-type]
    where = shape_of_cells(union, rows, columns)
    return {
        **_looks(union, where),
        "presence": [presence[n] for n in where],
        "direction": [directions[n] for n in where],
    }


def _same_kind(scene: Scene, shape: Shape) -> Shape | None:
    return next((other for other in scene.shapes if other.kind == shape.kind), None)


def _direction(before: Shape, after: Shape) -> int:
    dx, dy = after.x - before.x, after.y - before.y
    if max(abs(dx), abs(dy)) < 0.01:
        return 0
    way = ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    return 1 + list(scenes.DIRECTIONS).index(way)


def _letters_of_patches(page: Page, rows: int, columns: int) -> dict[str, list[int]]:
    """Letter and place of each patch, in the order of the merge blocks."""
    sign, place = np.zeros((rows, columns), int), np.zeros((rows, columns), int)
    letters = list(printed.letters(page))
    for letter in letters:
        # No telling in which of two patches a middle near their border lies: neither is blamed.
        for dy in (-UNSURE, UNSURE):
            for dx in (-UNSURE, UNSURE):
                near = int(letter.y * rows + dy), int(letter.x * columns + dx)
                if 0 <= near[0] < rows and 0 <= near[1] < columns:
                    sign[near] = place[near] = NO_TRUTH
    has_order = page.has_order
    for letter in letters:
        cell = min(rows - 1, int(letter.y * rows)), min(columns - 1, int(letter.x * columns))
        is_shared = sign[cell] > 0
        sign[cell] = NO_TRUTH if is_shared else 1 + printed.LETTERS.index(letter.sign)
        place[cell] = 1 + letter.line * printed.MOST_LETTERS + letter.place if has_order else 0
    if not has_order:
        place[:] = NO_TRUTH
    return {
        name: grid.reshape(rows // 2, 2, columns // 2, 2).transpose(0, 2, 1, 3).ravel().tolist()
        for name, grid in (("letter", sign), ("place", place))
    }


@lru_cache
def _picture_sizes() -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Original (width, height)s by the (height, width) they are brought to."""
    rng = random.Random(0)
    sizes = []
    for _ in range(4000):
        width = rng.choice((rng.randint(64, 200), rng.randint(150, 480)))
        sizes.append((width, round(width * math.exp(rng.uniform(-0.65, 0.65)))))
    return _grouped(sizes, 60, 96 * 96)


@lru_cache
def _sign_sizes() -> dict[tuple[int, int], list[tuple[int, int]]]:
    rng = random.Random(1)
    sizes = []
    for _ in range(4000):
        width = rng.randint(130, 420)
        sizes.append((width, round(width / math.exp(rng.uniform(-0.2, 1.35)))))
    return _grouped(sizes, 60, 96 * 96)


@lru_cache
def _page_sizes() -> dict[tuple[int, int], list[tuple[int, int]]]:
    rng = random.Random(2)
    sizes = []
    for _ in range(4000):
        width = rng.randint(140, 320)
        sizes.append((width, round(width * math.exp(rng.uniform(-0.55, 0.55)))))
    return _grouped(sizes, 60, 96 * 96)


def _grouped(
    originals: list[tuple[int, int]], fewest: int, least_pixels: int
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    sizes = defaultdict(list)
    for width, height in originals:
        if height >= 56 and width * height >= 0.7 * least_pixels:
            sizes[picture_size(height, width, PIXELS)].append((width, height))
    return {
        grid: group
        for grid, group in sizes.items()
        if len(group) >= fewest and math.prod(grid) >= least_pixels
    }
