"""Where shapes are: boxes and points as Qwen3.5 writes them, 0 to 1000 across and down the picture.

The demo model gives places in steps of fifty, which is about as fine as it can see.
"""

import random

from tools.train_demo.questions import Turn, seen
from tools.train_demo.scenes import Scene, Shape, bounding_box

BOX_WORDINGS = (
    "Where is the {name}?",
    "Draw a box around the {name}.",
    "Give the box of the {name}.",
    "Give the bounding box of the {name}.",
    "Find the {name} and give its box.",
    "Locate the {name}.",
)
POINT_WORDINGS = (
    "Point at the {name}.",
    "Point to the {name}.",
    "Give a point on the {name}.",
    "Click on the {name}.",
    "Mark the {name} with a point.",
)
STEP = 50


def box_turn(rng: random.Random, scene: Scene) -> Turn:
    """Asks for the box of one of the shapes."""
    shape, named = _pick(rng, scene)
    edges = ", ".join(str(place(edge)) for edge in bounding_box(scene, shape))
    answer = f'[{{"bbox_2d": [{edges}], "label": "{shape.name}"}}]'
    return Turn("box", rng.choice(BOX_WORDINGS).format(name=named), answer, seen(scene))


def point_turn(rng: random.Random, scene: Scene) -> Turn:
    """Asks for a point on one of the shapes; the answer is its middle."""
    shape, named = _pick(rng, scene)
    answer = f'{{"point_2d": [{place(shape.x)}, {place(shape.y)}], "label": "{shape.name}"}}'
    return Turn("point", rng.choice(POINT_WORDINGS).format(name=named), answer, seen(scene))


def place(fraction: float) -> int:
    """A fraction of the picture as the model writes it."""
    return round(fraction * 1000 / STEP) * STEP


def _pick(rng: random.Random, scene: Scene) -> tuple[Shape, str]:
    """A shape and a name for it that fits no other."""
    shape = rng.choice(scene.shapes)
    is_only = sum(other.kind == shape.kind for other in scene.shapes) == 1
    return shape, shape.kind if is_only and rng.random() < 0.5 else shape.name
