"""The generator that trains and judges the demo model: seeds, truth and pixels agree."""

import random

import numpy as np

from tools.train_demo import questions, scenes


def test_a_seed_names_a_picture_for_good() -> None:
    first, second = (scenes.random_scene(random.Random(7), 200, 150, 3) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(scenes.render(first), scenes.render(second))


def test_the_pixel_at_a_shapes_centre_has_its_colour() -> None:
    for seed in range(40):
        scene = scenes.random_scene(random.Random(seed), 240, 180, 1 + seed % 4)
        pixels = np.asarray(scenes.render(scene, with_jpeg=False))
        for shape in scene.shapes:
            pixel = pixels[round(shape.y * scene.height), round(shape.x * scene.width)]
            assert tuple(pixel) == shape.rgb


def test_shapes_are_listed_from_left_to_right() -> None:
    for seed in range(40):
        scene = scenes.random_scene(random.Random(seed), 240, 180, 4)
        places = [shape.x for shape in scene.shapes]
        assert places == sorted(places)
        turn = questions.list_turn(random.Random(seed), scene)
        found = [turn.answer.lower().index(shape.name) for shape in scene.shapes]
        assert found == sorted(found)


def test_the_moving_shape_goes_where_the_answer_says() -> None:
    for seed in range(40):
        clip = scenes.random_clip(random.Random(seed), 160, 120)
        mover = clip.scene.shapes[0]
        dx, dy = scenes.DIRECTIONS[clip.direction]
        assert clip.direction in questions.direction_turn(random.Random(seed), clip).answer
        for index, way in ((0, 0.0), (clip.frame_count - 1, clip.travel)):
            pixels = np.asarray(scenes.render_frame(clip, index), np.int16)
            row = round((mover.y + dy * way) * clip.scene.height)
            column = round((mover.x + dx * way) * clip.scene.width)
            assert np.abs(pixels[row, column] - mover.rgb).max() < 60, "off by more than JPEG does"


def test_presence_answers_are_true() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        scene = scenes.random_scene(rng, 200, 150, 1 + seed % 4)
        turn = questions.presence_turn(rng, scene)
        shown = any(shape.name in turn.question for shape in scene.shapes)
        assert ("Yes" if shown else "No") in turn.answer
