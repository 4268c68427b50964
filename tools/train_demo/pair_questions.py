"""Two pictures, or a picture and a clip, in one message: questions about them and the answers."""

import dataclasses
import random
from collections.abc import Callable

from tools.train_demo import scenes
from tools.train_demo.questions import (
    SINGLE_DIRECTION_WORDINGS,
    Turn,
    article,
    clip_colour_turn,
    colour_turn,
    count_turn,
    direction_turn,
    list_turn,
    presence_turn,
    seen,
)
from tools.train_demo.scenes import ClipScene, Scene

DIFFERENCE_WORDINGS = (
    "What is different?",
    "What is the difference?",
    "What is the difference between the pictures?",
    "What has changed?",
    "What is different in the second picture?",
)
MORE_WORDINGS = (
    "Which picture has more shapes?",
    "Which one has more shapes?",
    "Where are more shapes?",
    "In which picture are there more shapes?",
)
Asker = Callable[[random.Random, Scene], Turn | None]
ASKERS: tuple[Asker, ...] = (colour_turn, colour_turn, count_turn, presence_turn, list_turn)


def changed(rng: random.Random, scene: Scene) -> tuple[Scene, str]:
    """A second picture in which one thing is different, and the sentence that says which."""
    shapes = list(scene.shapes)
    number = rng.randrange(len(shapes))
    shape = shapes[number]
    if len(shapes) > 1 and rng.random() < 0.4:
        del shapes[number]
        answer = f"There is {article(shape.name)} {shape.name} in picture 1 only."
    else:
        taken = {other.name for other in shapes}
        while True:
            colour, rgb = scenes.colour_against(rng, (scene.background, scene.background_end))
            if f"{colour} {shape.kind}" not in taken:
                break
        shapes[number] = dataclasses.replace(shape, colour=colour, rgb=rgb)
        answer = f"The {shape.kind} is {shape.colour} in picture 1 and {colour} in picture 2."
    return dataclasses.replace(scene, shapes=tuple(shapes)), answer


def difference_turn(rng: random.Random, first: Scene, second: Scene, answer: str) -> Turn:
    """Asks what tells two pictures apart."""
    thought = f"In picture 1 {seen(first)} In picture 2 {seen(second)}"
    return Turn("difference", rng.choice(DIFFERENCE_WORDINGS), answer, thought)


def more_turn(rng: random.Random, first: Scene, second: Scene) -> Turn:
    """Asks which picture has more shapes."""
    counts = len(first.shapes), len(second.shapes)
    if counts[0] == counts[1]:
        verdict = "Both have the same number."
    else:
        verdict = f"Picture {1 if counts[0] > counts[1] else 2} has more."
    answer = f"Picture 1 has {counts[0]}, picture 2 has {counts[1]}. {verdict}"
    return Turn("more", rng.choice(MORE_WORDINGS), answer, "I count the shapes of both.")


def numbered_turn(rng: random.Random, first: Scene, second: Scene) -> Turn:
    """Asks about one of two pictures by its number."""
    number = rng.choice((1, 2))
    scene = (first, second)[number - 1]
    turn = None
    while turn is None:
        turn = rng.choice(ASKERS)(rng, scene)
    name = f"picture {number}"
    if rng.random() < 0.4:
        name = f"the {('first', 'second')[number - 1]} picture"
    return dataclasses.replace(turn, ability="numbered", question=_about(name, turn.question))


def picture_or_clip_turn(rng: random.Random, scene: Scene, clip: ClipScene) -> Turn:
    """Asks about a picture, or about the clip beside it."""
    turn = None
    if rng.random() < 0.5:
        while turn is None:
            turn = rng.choice(ASKERS)(rng, scene)
        question = _about("the picture", turn.question)
    else:
        ask = direction_turn if rng.random() < 0.65 else clip_colour_turn
        turn = ask(rng, clip)
        question = turn.question
        if question != SINGLE_DIRECTION_WORDINGS[-1]:
            question = _about("the clip", question)
    return dataclasses.replace(turn, ability="either", question=question)


def _about(name: str, question: str) -> str:
    """The question, put to one of several things: "In picture 2, what colour is the star?"."""
    if question.endswith("in the picture?") or question == "Describe the picture.":
        question = "What do you see?"
    return f"In {name}, {_lower(question)}"


def _lower(sentence: str) -> str:
    return sentence if sentence.startswith("I ") else sentence[0].lower() + sentence[1:]
