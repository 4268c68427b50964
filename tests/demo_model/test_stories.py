"""Clips in which something happens: what the frames show is what the answers say."""

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest

from tools.train_demo import stories, story_questions
from tools.train_demo.scenes import Scene
from tools.train_demo.sources import frames_looked_at

RATE, DURATION_S = 10.0, 6.0
MAKERS = (
    stories.random_coming_or_going,
    stories.random_order,
    stories.random_recolouring,
    stories.random_bouncing,
)


def frames(make: Callable[..., stories.Story], seed: int) -> tuple[stories.Story, list[Scene]]:
    story = make(random.Random(seed), 160, 120, DURATION_S, RATE)
    return story, [stories.scene_at(story, i) for i in range(story.frame_count)]


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_names_a_story_for_good(make: Callable[..., stories.Story]) -> None:
    (first, _), (second, _) = frames(make, 4), frames(make, 4)
    assert first == second
    for index in (0, first.frame_count - 1):
        np.testing.assert_array_equal(
            stories.render_frame(first, index), stories.render_frame(second, index)
        )


def test_shapes_are_there_from_when_they_appear_until_they_leave() -> None:
    for seed in range(40):
        story, shown = frames(stories.random_coming_or_going, seed)
        for actor in story.actors:
            there = [
                i / RATE
                for i, scene in enumerate(shown)
                if actor.shape.kind in [shape.kind for shape in scene.shapes]
            ]
            assert there[0] - actor.appears_s < 1 / RATE
            assert there[0] >= actor.appears_s
            assert there[-1] < actor.leaves_s <= max(there[-1] + 1 / RATE + 1e-9, DURATION_S) or (
                actor.leaves_s == float("inf")
            )


def test_the_time_told_is_within_half_a_second_of_the_truth() -> None:
    told = 0
    for seed in range(60):
        rng = random.Random(seed)
        duration_s = rng.uniform(3.0, stories.LONGEST_S)
        story = stories.random_coming_or_going(rng, 160, 120, duration_s, RATE)
        times_s = [i / RATE for i in frames_looked_at(story.frame_count, RATE)]
        for actor in story.actors:
            for event in actor.events:
                answer_s = story_questions.between_frames(event, times_s)
                assert abs(answer_s - event.time_s) < 0.5
                told += 1
    assert told > 60


def test_first_is_what_happens_first() -> None:
    for seed in range(60):
        story, _ = frames(stories.random_order, seed)
        answer = story_questions.first_turn(random.Random(seed), story).answer
        events = sorted(
            (event.time_s, actor.shape.kind, event.kind)
            for actor in story.actors
            for event in actor.events
        )
        assert answer == f"First the {events[0][1]} {events[0][2]}."


def test_bounces_are_turns_of_the_way() -> None:
    counts = set()
    for seed in range(60):
        story, shown = frames(stories.random_bouncing, seed)
        places = np.array([(scene.shapes[0].x, scene.shapes[0].y) for scene in shown])
        along = places[:, np.argmax(np.ptp(places, axis=0))]
        ways = np.sign(np.diff(along))
        turns = int((np.diff(ways[ways != 0]) != 0).sum())
        said = story_questions.bounce_turn(random.Random(seed), story).answer
        assert said.endswith(f"bounces {story_questions.times(turns)}.")
        counts.add(turns)
    assert counts == {0, 1, 2, 3}


def test_colour_changes_are_counted() -> None:
    for seed in range(60):
        story, shown = frames(stories.random_recolouring, seed)
        colours = [scene.shapes[0].colour for scene in shown]
        changes = sum(a != b for a, b in itertools.pairwise(colours))
        said = story_questions.change_turn(random.Random(seed), story).answer
        assert said.endswith(f"changes colour {story_questions.times(changes)}.")
