"""What training holds to be true beside the answers: a probe that learns it wrong teaches it."""

import random

import pytest
from tokenizers import Tokenizer

from tools.train_demo import pair_questions, scenes, stories, story_questions
from tools.train_demo.dialogue import DialogueWriter
from tools.train_demo.questions import Turn, named
from tools.train_demo.sources import ClipSource, StoryMaker, compare
from tools.train_demo.tokenizer import DEMO_MODEL

ROWS, COLUMNS = 4, 4
SEEDS = range(40)


def clip_source(seed: int) -> ClipSource:
    return ClipSource(random.Random(seed), shortest_s=3.0)


@pytest.mark.parametrize("make", [stories.random_recolouring, stories.random_bouncing])
def test_as_much_is_marked_as_the_answer_counts(make: StoryMaker) -> None:
    counts = set()
    for seed in SEEDS:
        source = clip_source(seed)
        story = source.draw_story(random.Random(seed), make)
        (actor,) = story.actors
        marks = source.memories[0]["happens"]
        count = actor.swing.bounces if actor.swing else len(actor.looks)
        assert sum(mark > 0 for mark in marks) == count
        counts.add(count)
    assert counts >= {1, 2, 3}


def test_the_first_mark_is_what_happens_first_and_to_whom() -> None:
    found = set()
    for seed in SEEDS:
        source = clip_source(seed)
        story = source.draw_story(random.Random(seed), stories.random_order)
        happens, to, happened = (
            source.memories[0][name] for name in ("happens", "happens to", "happened")
        )
        first = next(group for group, mark in enumerate(happens) if mark)
        answer = story_questions.first_turn(random.Random(seed), story).answer
        event, kind = stories.HAPPENINGS[happens[first] - 1], scenes.SHAPES[to[first] - 1]
        assert answer == f"First the {kind} {event}."
        assert happened == [0] * (first + 1) + [1] * (len(happens) - first - 1)
        found.add(event)
    assert found == {"appears", "leaves", "changes colour"}


def test_a_shape_is_new_in_the_first_group_that_shows_it_and_only_there() -> None:
    seen_later = 0
    for seed in SEEDS:
        source = clip_source(seed)
        story = source.draw_story(random.Random(seed), stories.random_coming_or_going)
        if len(story.actors) > 1:
            continue
        cells = source.media.rows * source.media.columns
        ages = source.memories[0]["age"]
        groups = [set(ages[at : at + cells]) - {0} for at in range(0, len(ages), cells)]
        shown = [group for group in groups if group]
        assert shown == [{1}] + [{2}] * (len(shown) - 1)
        seen_later += groups[0] == set()
    assert seen_later, "some appear in the course of the clip"


def test_what_differs_between_two_pictures_is_marked_where_it_is() -> None:
    found = set()
    for seed in SEEDS:
        rng = random.Random(seed)
        first = scenes.random_scene(rng, 200, 200, 3)
        second, answer = pair_questions.changed(rng, first)
        brought = compare(first, second, ROWS, COLUMNS)
        marks = brought["likeness"]
        gone = len(second.shapes) < len(first.shapes)
        assert (3 in marks) == gone
        assert (2 in marks) == (not gone)
        assert 1 in marks, "the others are as they were"
        found.add(gone)
        assert set(compare(first, first, ROWS, COLUMNS)["likeness"]) == {0, 1}
        at = next(cell for cell, mark in enumerate(marks) if mark > 1)
        kind = scenes.SHAPES[brought["earlier kind"][at] - 1]
        colour = list(scenes.COLOURS)[brought["earlier colour"][at] - 1]
        assert (f"{colour} {kind} in" if gone else f"The {kind} is {colour} in") in answer
    assert found == {False, True}


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ('[{"bbox_2d": [350, 50, 700, 400], "label": "red circle"}]', "350"),
        ("The circle appears at <2.3 seconds>.", "2.3"),
        ("17 + 25 is 42.", "17"),
        ("There are 3 shapes.", "3"),
        ("A red circle.", ""),
    ],
)
def test_the_number_that_has_to_be_looked_up_is_the_first_one(answer: str, number: str) -> None:
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    sample = DialogueWriter().write(
        [Turn("any", "Where is the red circle?", answer)], {}, ["no thought"]
    )
    (asked,) = sample.asked
    ids = [sample.input_ids[at] for at in asked.number]
    assert tokenizer.decode(ids) == number
    assert (asked.kind, asked.colour) == (1, 1)
    assert tokenizer.decode(sample.input_ids[asked.start : asked.stop]) == answer


@pytest.mark.parametrize(
    ("question", "picture"),
    [
        ("In picture 2, what colour is the star?", 2),
        ("In the first picture, how many shapes are there?", 1),
        ("What is different?", 0),
    ],
)
def test_the_picture_that_a_question_is_about_is_known(question: str, picture: int) -> None:
    assert named(question)[2] == picture
