"""Generated clips in which something happens: shapes appear, leave, change colour or bounce.

Like `scenes`: drawn from one `random.Random`, and ignorant of questions, tokens and models. Times
are in seconds from the clip's start.
"""

import bisect
import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

from tools.train_demo import scenes
from tools.train_demo.scenes import Rgb, Scene, Shape

# What happens lasts long enough to be seen at two frames a second.
SHORTEST_S, LONGEST_S = 2.0, 8.0
CALM_S = 1.15
MOST_TIMES = 3

EventKind = Literal["appears", "leaves", "changes colour"]
HAPPENINGS = (*get_args(EventKind), "turns back")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at once: `kind` is what a person would say the shape does."""

    kind: EventKind
    time_s: float


@dataclass(frozen=True, slots=True)
class Swing:
    """A way there and back along one axis, in fractions of the canvas: `bounces` turns in all."""

    dx: float
    dy: float
    bounces: int


@dataclass(frozen=True, slots=True)
class Actor:
    """A shape and what becomes of it; `looks` are its later colours, by the time they begin."""

    shape: Shape
    appears_s: float = 0.0
    leaves_s: float = float("inf")
    looks: tuple[tuple[float, str, Rgb], ...] = ()
    swing: Swing | None = None

    @property
    def events(self) -> list[Event]:
        """What happens to it at once, in order."""
        events = [Event("changes colour", start) for start, _, _ in self.looks]
        if self.appears_s > 0:
            events.append(Event("appears", self.appears_s))
        if self.leaves_s != float("inf"):
            events.append(Event("leaves", self.leaves_s))
        return sorted(events, key=lambda event: event.time_s)

    def at(self, time_s: float, duration_s: float) -> Shape | None:
        """What it looks like at a time; None while it is not there."""
        if not self.appears_s <= time_s < self.leaves_s:
            return None
        shape = self.shape
        passed = bisect.bisect_right([start for start, _, _ in self.looks], time_s)
        if passed:
            _, colour, rgb = self.looks[passed - 1]
            shape = dataclasses.replace(shape, colour=colour, rgb=rgb)
        if self.swing is None:
            return shape
        way = time_s / duration_s * (self.swing.bounces + 1)
        leg, along = divmod(way, 1.0)
        along = along if leg % 2 == 0 else 1.0 - along
        x, y = shape.x + self.swing.dx * along, shape.y + self.swing.dy * along
        return dataclasses.replace(shape, x=x, y=y)


@dataclass(frozen=True, slots=True)
class Story:
    """A clip: the ground and manner of `scene`, the shapes of `actors`."""

    scene: Scene
    actors: tuple[Actor, ...]
    duration_s: float
    frames_per_s: float

    @property
    def frame_count(self) -> int:
        """How many frames the clip has."""
        return max(4, round(self.duration_s * self.frames_per_s))


def scene_at(story: Story, index: int) -> Scene:
    """What frame `index` of the clip shows."""
    time_s = index / story.frames_per_s
    shapes = [actor.at(time_s, story.duration_s) for actor in story.actors]
    return dataclasses.replace(story.scene, shapes=tuple(s for s in shapes if s is not None))


def render_frame(story: Story, index: int) -> Image.Image:
    """Frame `index` of the clip as an RGB picture."""
    return scenes.render(scene_at(story, index))


def seen_to_happen(story: Story, times_s: Sequence[float]) -> list[tuple[int, Actor, str]]:
    """Each of `HAPPENINGS` that the frames at these times tell of, with the number of the frame
    that does, and to which actor; first to last."""
    found = []
    for actor in story.actors:
        looks = [actor.at(time_s, story.duration_s) for time_s in times_s]
        for frame in range(1, len(looks)):
            if happening := _between(looks[max(0, frame - 2)], looks[frame - 1], looks[frame]):
                found.append((frame, actor, happening))
    return sorted(found, key=lambda one: one[0])


def _between(earlier: Shape | None, before: Shape | None, after: Shape | None) -> str | None:
    if before is None or after is None:
        return None if before is after else "leaves" if after is None else "appears"
    if before.colour != after.colour:
        return "changes colour"
    if earlier is not None:
        ways = (
            (before.x - earlier.x, after.x - before.x),
            (before.y - earlier.y, after.y - before.y),
        )
        if any(one * other < 0 for one, other in ways):
            return "turns back"
    return None


def random_coming_or_going(
    rng: random.Random, width: int, height: int, duration_s: float, frames_per_s: float
) -> Story:
    """The first actor appears or leaves, or both; a second may stand by or come and go as well."""
    scene = _still_scene(rng, width, height, rng.choice((1, 2, 2)))
    actors = [_coming_or_going(rng, scene.shapes[0], duration_s)]
    for shape in scene.shapes[1:]:
        quiet = rng.random() < 0.5
        actors.append(Actor(shape) if quiet else _coming_or_going(rng, shape, duration_s))
    return Story(scene, tuple(actors), duration_s, frames_per_s)


def random_order(
    rng: random.Random, width: int, height: int, duration_s: float, frames_per_s: float
) -> Story:
    """Two things happen one after the other, to one shape each; which shape is first is open."""
    scene = _still_scene(rng, width, height, 2)
    first_s = rng.uniform(0.6, duration_s - 0.6 - CALM_S)
    times = [first_s, rng.uniform(first_s + CALM_S, duration_s - 0.6)]
    rng.shuffle(times)
    actors = []
    for shape, time_s in zip(scene.shapes, times, strict=True):
        kind: EventKind = rng.choice(("appears", "leaves", "changes colour"))
        if kind == "appears":
            actors.append(Actor(shape, appears_s=time_s))
        elif kind == "leaves":
            actors.append(Actor(shape, leaves_s=time_s))
        else:
            actors.append(Actor(shape, looks=_later_colours(rng, scene, shape, [time_s])))
    return Story(scene, tuple(actors), duration_s, frames_per_s)


def random_recolouring(
    rng: random.Random, width: int, height: int, duration_s: float, frames_per_s: float
) -> Story:
    """A shape that changes its colour up to three times, as often as the clip's length allows."""
    scene = _still_scene(rng, width, height, 1)
    count = rng.randint(0 if rng.random() < 0.3 else 1, _most_times(duration_s))
    spare = duration_s - CALM_S * (count + 1)
    shares = sorted(rng.uniform(0, spare) for _ in range(count))
    times = [CALM_S * (i + 1) + share for i, share in enumerate(shares)]
    shape = scene.shapes[0]
    actor = Actor(shape, looks=_later_colours(rng, scene, shape, times))
    return Story(scene, (actor,), duration_s, frames_per_s)


def random_bouncing(
    rng: random.Random, width: int, height: int, duration_s: float, frames_per_s: float
) -> Story:
    """A shape that goes to and fro between two sides of the picture."""
    count = rng.randint(0 if rng.random() < 0.3 else 1, _most_times(duration_s))
    scene = _still_scene(rng, width, height, 1)
    shape = scene.shapes[0]
    reach = shape.radius * min(width, height) * 1.05
    reach_x, reach_y = reach / width, reach / height
    if rng.random() < 0.5:
        dx, dy = rng.uniform(0.75, 1.0) * (1 - 2 * reach_x), 0.0
        x, y = rng.uniform(reach_x, 1 - reach_x - dx), shape.y
    else:
        dx, dy = 0.0, rng.uniform(0.75, 1.0) * (1 - 2 * reach_y)
        x, y = shape.x, rng.uniform(reach_y, 1 - reach_y - dy)
    if rng.random() < 0.5:
        x, y, dx, dy = x + dx, y + dy, -dx, -dy
    actor = Actor(dataclasses.replace(shape, x=x, y=y), swing=Swing(dx, dy, count))
    return Story(scene, (actor,), duration_s, frames_per_s)


def _still_scene(rng: random.Random, width: int, height: int, count: int) -> Scene:
    """Shapes of different kinds, so that the kind alone names each."""
    while True:
        scene = scenes.random_scene(rng, width, height, count, radius_scale=1.1)
        if len({shape.kind for shape in scene.shapes}) == count:
            return dataclasses.replace(scene, shapes=tuple(rng.sample(scene.shapes, count)))


def _coming_or_going(rng: random.Random, shape: Shape, duration_s: float) -> Actor:
    appears_s, leaves_s = 0.0, float("inf")
    lot = rng.random()
    if lot < 0.4:
        appears_s = rng.uniform(0.6, duration_s - 0.6)
    elif lot < 0.8 or duration_s < 0.6 * 2 + CALM_S:
        leaves_s = rng.uniform(0.6, duration_s - 0.6)
    else:
        appears_s = rng.uniform(0.6, duration_s - 0.6 - CALM_S)
        leaves_s = rng.uniform(appears_s + CALM_S, duration_s - 0.6)
    return Actor(shape, appears_s, leaves_s)


def _later_colours(
    rng: random.Random, scene: Scene, shape: Shape, times: list[float]
) -> tuple[tuple[float, str, Rgb], ...]:
    looks, before = [], shape.colour
    for time_s in times:
        while True:
            colour, rgb = scenes.colour_against(rng, (scene.background, scene.background_end))
            if colour != before:
                break
        looks.append((time_s, colour, rgb))
        before = colour
    return tuple(looks)


def _most_times(duration_s: float) -> int:
    return max(1, min(MOST_TIMES, int(duration_s / CALM_S) - 1))
