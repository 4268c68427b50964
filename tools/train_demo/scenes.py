"""Generated scenes of coloured shapes: what is in them, and how they look as a picture or a clip.

Everything is drawn from one `random.Random`, so a seed names a scene for good. Knows nothing of
questions, tokens or models; tests and benchmarks use it as they please.
"""

import dataclasses
import io
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star")
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}

# The range of each channel that people would call by the name.
COLOURS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((195, 255), (0, 55), (0, 55)),
    "orange": ((235, 255), (120, 158), (0, 45)),
    "yellow": ((235, 255), (205, 250), (0, 80)),
    "green": ((0, 75), (125, 200), (0, 85)),
    "blue": ((0, 70), (50, 130), (190, 255)),
    "purple": ((115, 160), (0, 70), (140, 205)),
    "black": ((0, 30), (0, 30), (0, 30)),
    "white": ((240, 255), (240, 255), (240, 255)),
}

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape; centre and radius in fractions of the canvas (radius: of its shorter side)."""

    kind: str
    colour: str
    rgb: Rgb
    x: float
    y: float
    radius: float
    rotation: float

    @property
    def name(self) -> str:
        """What a person would call it: "red circle"."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A canvas of `width` x `height` pixels with shapes on it, listed from left to right."""

    width: int
    height: int
    background: Rgb
    background_end: Rgb
    shapes: tuple[Shape, ...]
    supersample: int
    jpeg_quality: int | None
    outline: bool


@dataclass(frozen=True, slots=True)
class ClipScene:
    """A scene whose first shape moves evenly in one direction for the whole clip."""

    scene: Scene
    direction: str
    travel: float
    duration_s: float
    frames_per_s: float

    @property
    def frame_count(self) -> int:
        """How many frames the clip has."""
        return max(4, round(self.duration_s * self.frames_per_s))


def random_scene(
    rng: random.Random, width: int, height: int, shape_count: int, radius_scale: float = 1.0
) -> Scene:
    """A scene of `shape_count` shapes that neither touch nor share a left-to-right place."""
    background, background_end = _background(rng)
    while True:
        shapes = _place_shapes(
            rng, width, height, shape_count, (background, background_end), radius_scale
        )
        if shapes is not None:
            break
    return Scene(
        width=width,
        height=height,
        background=background,
        background_end=background_end,
        shapes=shapes,
        supersample=rng.choice((1, 2, 3)),
        jpeg_quality=rng.randint(40, 95) if rng.random() < 0.5 else None,
        outline=rng.random() < 0.1,
    )


def random_clip(rng: random.Random, width: int, height: int) -> ClipScene:
    """A clip of one shape on the move, now and then with a second one that stays."""
    direction = rng.choice(tuple(DIRECTIONS))
    dx, dy = DIRECTIONS[direction]
    travel = rng.uniform(0.3, 0.62)
    while True:
        scene = random_scene(rng, width, height, 1 if rng.random() < 0.7 else 2, radius_scale=1.15)
        mover, *others = rng.sample(scene.shapes, len(scene.shapes))
        # Start so that the whole way stays inside the picture.
        reach = mover.radius * min(width, height) * 1.05
        low_x, high_x = _start_range(reach / width, dx * travel)
        low_y, high_y = _start_range(reach / height, dy * travel)
        if low_x > high_x or low_y > high_y:
            travel *= 0.9
            continue
        x, y = rng.uniform(low_x, high_x), rng.uniform(low_y, high_y)
        mover = dataclasses.replace(mover, x=x, y=y)
        if others and (
            others[0].kind == mover.kind
            or _crosses(mover, others[0], dx * travel, dy * travel, width, height)
        ):
            continue
        shapes = (mover, *others)
        break
    scene = dataclasses.replace(scene, shapes=shapes)
    return ClipScene(
        scene=scene,
        direction=direction,
        travel=travel,
        duration_s=rng.uniform(1.5, 8.0),
        frames_per_s=rng.choice((10.0, 12.0, 15.0, 24.0, 25.0, 30.0)),
    )


def render(scene: Scene, with_jpeg: bool = True) -> Image.Image:
    """The scene as an RGB picture; `with_jpeg` puts it through the scene's JPEG quality, if any."""
    scale = scene.supersample
    canvas = _backdrop(scene).resize(
        (scene.width * scale, scene.height * scale), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(canvas)
    for shape in scene.shapes:
        _draw_shape(draw, shape, scene.width * scale, scene.height * scale, scene.outline, scale)
    if scale > 1:
        canvas = canvas.resize((scene.width, scene.height), Image.Resampling.BOX)
    if with_jpeg and scene.jpeg_quality is not None:
        data = io.BytesIO()
        canvas.save(data, "JPEG", quality=scene.jpeg_quality)
        canvas = Image.open(data).convert("RGB")
    return canvas


def scene_at(clip: ClipScene, index: int) -> Scene:
    """What frame `index` of the clip shows; the first shape is the one that moves."""
    dx, dy = DIRECTIONS[clip.direction]
    way = clip.travel * index / max(clip.frame_count - 1, 1)
    mover, *others = clip.scene.shapes
    moved = dataclasses.replace(mover, x=mover.x + dx * way, y=mover.y + dy * way)
    return dataclasses.replace(clip.scene, shapes=(moved, *others))


def render_frame(clip: ClipScene, index: int) -> Image.Image:
    """Frame `index` of the clip as an RGB picture."""
    return render(scene_at(clip, index))


def bounding_box(scene: Scene, shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a shape in fractions of the canvas."""
    outline = [(-1.0, -1.0), (1.0, 1.0)] if shape.kind == "circle" else _corners(shape)
    reach = shape.radius * min(scene.width, scene.height)
    across = [x * reach / scene.width for x, _ in outline]
    down = [y * reach / scene.height for _, y in outline]
    return (
        max(0.0, shape.x + min(across)),
        max(0.0, shape.y + min(down)),
        min(1.0, shape.x + max(across)),
        min(1.0, shape.y + max(down)),
    )


def holds(scene: Scene, shape: Shape, x: float, y: float) -> bool:
    """Whether a point, in fractions of the canvas, lies inside a shape."""
    reach = shape.radius * min(scene.width, scene.height)
    dx, dy = (x - shape.x) * scene.width / reach, (y - shape.y) * scene.height / reach
    if shape.kind == "circle":
        return math.hypot(dx, dy) <= 1
    # Even-odd: a ray to the right crosses the outline once if it starts inside.
    corners = _corners(shape)
    crossings = 0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (ay > dy) != (by > dy) and dx < ax + (dy - ay) / (by - ay) * (bx - ax):
            crossings += 1
    return crossings % 2 == 1


def _start_range(reach: float, way: float) -> tuple[float, float]:
    """Where a shape may start so that `reach` around it and the way it goes stay inside 0..1."""
    return reach - min(way, 0.0), 1.0 - reach - max(way, 0.0)


def _crosses(a: Shape, b: Shape, way_x: float, way_y: float, width: int, height: int) -> bool:
    side = min(width, height)
    for step in range(9):
        x, y = a.x + way_x * step / 8, a.y + way_y * step / 8
        distance = math.hypot((x - b.x) * width, (y - b.y) * height)
        if distance < (a.radius + b.radius) * side * 1.2:
            return True
    return False


def _background(rng: random.Random) -> tuple[Rgb, Rgb]:
    kind = rng.random()
    if kind < 0.4:
        base = (255, 255, 255) if rng.random() < 0.6 else (250, 248, 245)
    elif kind < 0.7:
        base = tuple(rng.randint(190, 255) for _ in range(3))
    elif kind < 0.85:
        grey = rng.randint(100, 200)
        base = tuple(min(255, max(0, grey + rng.randint(-20, 20))) for _ in range(3))
    else:
        base = tuple(rng.randint(0, 60) for _ in range(3))
    if rng.random() < 0.25:
        return base, tuple(min(255, max(0, c + rng.randint(-35, 35))) for c in base)
    return base, base


def _place_shapes(
    rng: random.Random,
    width: int,
    height: int,
    count: int,
    backgrounds: tuple[Rgb, Rgb],
    radius_scale: float,
) -> tuple[Shape, ...] | None:
    side = min(width, height)
    crowd = (1.0, 1.0, 0.95, 0.9, 0.85)[count]
    shapes: list[Shape] = []
    for _ in range(60 * count):
        radius = rng.uniform(0.15, 0.26) * crowd * radius_scale
        reach_x, reach_y = radius * side * 1.05 / width, radius * side * 1.05 / height
        if 2 * reach_x > 1 or 2 * reach_y > 1:
            continue
        x, y = rng.uniform(reach_x, 1 - reach_x), rng.uniform(reach_y, 1 - reach_y)
        clear = all(
            math.hypot((x - s.x) * width, (y - s.y) * height) > (radius + s.radius) * side * 1.12
            and abs(x - s.x) * width > 0.12 * side
            for s in shapes
        )
        if not clear:
            continue
        colour, rgb = colour_against(rng, backgrounds)
        kind = rng.choice(SHAPES)
        if any(s.kind == kind and s.colour == colour for s in shapes):
            continue
        rotation = rng.uniform(-14, 14) if rng.random() < 0.5 else 0.0
        shapes.append(Shape(kind, colour, rgb, x, y, radius, rotation))
        if len(shapes) == count:
            return tuple(sorted(shapes, key=lambda s: s.x))
    return None


def colour_against(rng: random.Random, backgrounds: tuple[Rgb, Rgb]) -> tuple[str, Rgb]:
    """A colour that stands out from the ground, by name and value."""
    while True:
        colour = rng.choice(tuple(COLOURS))
        rgb = tuple(rng.randint(low, high) for low, high in COLOURS[colour])
        if all(
            sum(abs(a - b) for a, b in zip(rgb, ground, strict=True)) > 150
            for ground in backgrounds
        ):
            return colour, rgb


def _backdrop(scene: Scene) -> Image.Image:
    if scene.background == scene.background_end:
        return Image.new("RGB", (scene.width, scene.height), scene.background)
    blend = np.linspace(0.0, 1.0, scene.height)[:, None, None]
    start, end = np.array(scene.background), np.array(scene.background_end)
    rows = (start * (1 - blend) + end * blend).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(rows, (scene.height, scene.width, 3)).copy())


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: Shape, width: int, height: int, outline: bool, scale: int
) -> None:
    cx, cy, radius = shape.x * width, shape.y * height, shape.radius * min(width, height)
    border = (0, 0, 0) if outline and shape.colour != "black" else None
    stroke = scale if border else 0
    if shape.kind == "circle":
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        draw.ellipse(box, fill=shape.rgb, outline=border, width=stroke)
        return
    draw.polygon(
        [(cx + x * radius, cy + y * radius) for x, y in _corners(shape)],
        fill=shape.rgb,
        outline=border,
    )


def _corners(shape: Shape) -> list[tuple[float, float]]:
    """Corners around the origin, at most 1 away from it, turned by the shape's rotation."""
    if shape.kind == "square":
        polar = [(1.0, 45 + 90 * i) for i in range(4)]
    elif shape.kind == "triangle":
        polar = [(1.0, 90 + 120 * i) for i in range(3)]
    else:
        polar = [(1.0 if i % 2 == 0 else 0.42, 90 + 36 * i) for i in range(10)]
    turned = [(r, math.radians(angle + shape.rotation)) for r, angle in polar]
    return [(r * math.cos(a), -r * math.sin(a)) for r, a in turned]
