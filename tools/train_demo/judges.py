"""Whether an answer is right, for answers that may be right in more than one way."""

import json
import math
import re
from collections.abc import Callable

from tools.train_demo.questions import article, listing
from tools.train_demo.scenes import COLOURS, SHAPES, Scene, Shape, bounding_box, holds

Judge = Callable[[str, str], bool]

BOX_OVERLAP = 0.5
TIME_TOLERANCE_S = 0.5
_NAME = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")


def exactly(expected: str) -> Judge:
    """Right word for word."""
    return lambda thought, answer: answer == expected


def box_of(scene: Scene, shape: Shape) -> Judge:
    """One box with the shape's name, at least half of it shared with the shape's own."""

    def judge(thought: str, answer: str) -> bool:
        found = _fields(answer, "bbox_2d", 4)
        return (
            found is not None
            and found[1] == shape.name
            and overlap(found[0], bounding_box(scene, shape)) >= BOX_OVERLAP
        )

    return judge


def point_on(scene: Scene, shape: Shape) -> Judge:
    """One point with the shape's name, inside the shape."""

    def judge(thought: str, answer: str) -> bool:
        found = _fields(answer, "point_2d", 2)
        return found is not None and found[1] == shape.name and holds(scene, shape, *found[0])

    return judge


def at_time(words: str, time_s: float) -> Judge:
    """`words`, then `<t seconds>` within half a second of the truth."""

    def judge(thought: str, answer: str) -> bool:
        found = re.fullmatch(rf"{re.escape(words)} at <(\d+\.\d) seconds>\.", answer)
        return found is not None and abs(float(found[1]) - time_s) <= TIME_TOLERANCE_S

    return judge


def agrees(question: str) -> Judge:
    """A thought that names shapes, and an answer that follows from it, whatever the picture has."""

    def judge(thought: str, answer: str) -> bool:
        names = [f"{colour} {kind}" for colour, kind in _NAME.findall(thought)]
        return bool(names) and answer in implied(question, names)

    return judge


def implied(question: str, names: list[str]) -> list[str]:
    """The answers that fit a question about a picture in which there is just what `names` says."""
    asked = _NAME.search(question)
    if asked:
        echo = f"{article(asked[0])} {asked[0]}?".capitalize()
        return [f"{echo} Yes, there is one." if asked[0] in names else f"{echo} No, there is none."]
    if re.search(r"how many|count", question, re.IGNORECASE):
        count = len(names)
        return ["There is 1 shape." if count == 1 else f"There are {count} shapes."]
    kind = next((kind for kind in SHAPES if re.search(rf"\b{kind}\b", question)), None)
    if kind:
        colours = [name.split()[0] for name in names if name.endswith(kind)]
        return [f"The {kind} is {colour}." for colour in colours]
    return [listing(names)]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(across, 0.0) * max(down, 0.0)
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def _fields(answer: str, key: str, count: int) -> tuple[tuple[float, ...], str] | None:
    """Coordinates as fractions, and the label, of the single thing that an answer places."""
    try:
        parsed = json.loads(answer)
        if isinstance(parsed, list):
            (parsed,) = parsed
        places = tuple(float(value) / 1000 for value in parsed[key])
        label = parsed["label"]
    except (ValueError, KeyError, TypeError):
        return None
    if len(places) != count or not all(math.isfinite(place) for place in places):
        return None
    return places, label
