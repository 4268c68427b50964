"""The judges of the demo model let right answers pass and no others."""

import random

import numpy as np
import pytest

from tools.train_demo import judges, place_questions, scenes
from tools.train_demo.scenes import Scene, Shape

CIRCLE = Shape("circle", "red", (220, 30, 30), 0.25, 0.5, 0.2, 0.0)
SQUARE = Shape("square", "blue", (30, 60, 220), 0.75, 0.5, 0.2, 0.0)
SCENE = Scene(200, 100, (255,) * 3, (255,) * 3, (CIRCLE, SQUARE), 1, None, False)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('[{"bbox_2d": [150, 300, 350, 700], "label": "red circle"}]', True),
        ('[{"bbox_2d": [160, 320, 350, 690], "label": "red circle"}]', True),
        ('[{"bbox_2d": [150, 300, 350, 700], "label": "blue square"}]', False),
        ('[{"bbox_2d": [650, 300, 850, 700], "label": "red circle"}]', False),
        ('[{"bbox_2d": [0, 0, 1000, 1000], "label": "red circle"}]', False),
        ('[{"bbox_2d": [150, 300, 350], "label": "red circle"}]', False),
        ('[{"bbox_2d": [350, 700, 150, 300], "label": "red circle"}]', False),
        ("The red circle is on the left.", False),
        ("[]", False),
    ],
)
def test_boxes(answer: str, right: bool) -> None:
    assert judges.box_of(SCENE, CIRCLE)("", answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"point_2d": [250, 500], "label": "red circle"}', True),
        ('{"point_2d": [250, 800], "label": "red circle"}', False),
        ('{"point_2d": [250, 500], "label": "red star"}', False),
        ('{"point_2d": [500, 250], "label": "red circle"}', False),
    ],
)
def test_points(answer: str, right: bool) -> None:
    assert judges.point_on(SCENE, CIRCLE)("", answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The star appears at <2.0 seconds>.", True),
        ("The star appears at <2.5 seconds>.", True),
        ("The star appears at <2.6 seconds>.", False),
        ("The star leaves at <2.0 seconds>.", False),
        ("The star appears at 2.0 seconds.", False),
    ],
)
def test_times(answer: str, right: bool) -> None:
    assert judges.at_time("The star appears", 2.0)("", answer) is right


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("How many shapes are there?", "There are 2 shapes.", True),
        ("How many shapes are there?", "There are 3 shapes.", False),
        ("What colour is the star?", "The star is blue.", True),
        ("What colour is the star?", "The star is red.", False),
        ("Is there a red circle?", "A red circle? Yes, there is one.", True),
        ("Is there a blue circle?", "A blue circle? Yes, there is one.", False),
        ("What do you see?", "A red circle and a blue star.", True),
        ("What do you see?", "A blue star and a red circle.", False),
    ],
)
def test_answers_have_to_follow_from_the_thought(question: str, answer: str, right: bool) -> None:
    assert judges.agrees(question)("I see a red circle and a blue star.", answer) is right
    assert not judges.agrees(question)("I see.", answer), "a thought that names nothing"


def test_boxes_and_points_of_drawn_shapes_are_those_of_their_pixels() -> None:
    for seed in range(40):
        scene = scenes.random_scene(random.Random(seed), 240, 180, 1 + seed % 4)
        for shape in scene.shapes:
            alone = Scene(240, 180, (128,) * 3, (128,) * 3, (shape,), 1, None, False)
            drawn = np.abs(np.asarray(scenes.render(alone)).astype(int) - 128).sum(-1) > 60
            rows, columns = np.nonzero(drawn)
            box = np.array(scenes.bounding_box(scene, shape)) * (240, 180, 240, 180)
            edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(box - edges).max() <= 2
            for row, column in ((30, 30), (90, 120), *zip(rows[::97], columns[::97], strict=True)):
                inside = scenes.holds(scene, shape, (column + 0.5) / 240, (row + 0.5) / 180)
                around = drawn[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                on_the_edge = around.any() and not around.all()
                assert on_the_edge or inside == drawn[row, column]


def test_the_answers_of_training_are_right_by_the_judges() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        scene = scenes.random_scene(rng, 240, 180, 1 + seed % 4)
        box, point = place_questions.box_turn(rng, scene), place_questions.point_turn(rng, scene)
        named = {name: s for s in scene.shapes for name in (f'"{s.name}"',)}
        boxed = next(shape for name, shape in named.items() if name in box.answer)
        pointed = next(shape for name, shape in named.items() if name in point.answer)
        assert judges.box_of(scene, boxed)("", box.answer)
        assert judges.point_on(scene, pointed)("", point.answer)
