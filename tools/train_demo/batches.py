"""Endless training batches, each fixed by the seed and its step; drawn in a process of their own.

A batch holds conversations of one kind, all of whose pictures (or clips) share a size.
"""

import dataclasses
import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tools.train_demo import (
    fact_questions,
    pair_questions,
    place_questions,
    print_questions,
    printed,
    questions,
    stories,
    story_questions,
    tool_questions,
)
from tools.train_demo.dialogue import NO_LABEL, DialogueWriter, Media, Opening, Sample
from tools.train_demo.outside_questions import outside_turn
from tools.train_demo.questions import Turn
from tools.train_demo.scenes import ClipScene, Scene
from tools.train_demo.sources import (
    GROUP_MEMORIES,
    MEMORY_CLASSES,
    ClipSource,
    Memories,
    PictureSource,
    Pixels,
    PrintSource,
    compare,
)

MOST_SHAPES = 4
THINKING_SHARE = 0.15
STORIES = (
    stories.random_coming_or_going,
    stories.random_order,
    stories.random_recolouring,
    stories.random_bouncing,
)
STORY_SECONDS = 2.6
MOST_TURNS = 10
# It has to be looked up; those that follow mostly follow from it.
FIRST_NUMBER_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one step. Shapes: ids, labels and their weights [B, T], None where nothing is said;
    positions [3, B, T]; each of `memories` [B, T], what tokens should bring to mind."""

    kind: str
    input_ids: np.ndarray | None = None
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    positions: np.ndarray | None = None
    memories: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: Pixels | None = None
    clips: Pixels | None = None


def draw_batch(seed: int, step: int, part: int, looking: int) -> Batch:
    """Part of batch `step` of the run `seed`, whose first `looking` steps say nothing.

    All parts are of one kind, so that processes that share the work wait little for each other.
    """
    kind = random.Random(f"{seed}/{step}").choices(list(KINDS), list(KINDS.values()))[0]
    if step < looking:
        kind = _looking_batch
    return kind(random.Random(f"{seed}/{step}/{part}"))


def reference_batch(seed: int) -> Batch:
    """A batch of pictures to hold the batched forward against transformers with."""
    return _picture_batch(random.Random(f"{seed}/reference"))


def stream(seed: int, steps: range, looking: int, part: int = 0) -> Iterator[Batch]:
    """The batches of `steps`, drawn ahead by a process of their own, in order."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        window: list[multiprocessing.pool.AsyncResult] = []
        for step in steps:
            window.append(pool.apply_async(draw_batch, (seed, step, part, looking)))
            if len(window) > 4:
                yield window.pop(0).get()
        for result in window:
            yield result.get()


def _looking_batch(rng: random.Random) -> Batch:
    """Pictures, print or clips, without a word about them."""
    lot = rng.random()
    if lot < 0.15:
        return _looking_at_clips(rng)
    source: PrintSource | PictureSource
    if lot < 0.3:
        source = PictureSource(rng, MOST_SHAPES)
    else:
        make = printed.random_sheet
        if lot < 0.5:
            make = printed.random_sign if lot < 0.4 else printed.random_page
        source = PrintSource(rng, make)
    for _ in range(48):
        source.draw(rng)
    return Batch("looking", pictures=source.pixels())


def _looking_at_clips(rng: random.Random) -> Batch:
    source = ClipSource(rng, STORY_SECONDS)
    for _ in range(16):
        if rng.random() < 0.3:
            source.draw(rng)
        else:
            source.draw_story(rng, rng.choice(STORIES))
    return Batch("looking", clips=source.pixels())


def _picture_batch(rng: random.Random) -> Batch:
    """A picture and several questions about it."""
    source = PictureSource(rng, MOST_SHAPES)
    samples = []
    for _ in range(32):
        turns, first = _picture_turns(rng, source.draw(rng), rng.randint(2, 3)), 0
        if rng.random() < 0.15:
            turns, first = [_chat_turn(rng), *turns], 1
        samples.append(_write(rng, turns, {first: [source.media]}))
    return _collate("picture", samples, pictures=source.pixels())


def _place_batch(rng: random.Random) -> Batch:
    """A picture and one question whose answer is numbers: short, so that many fit."""
    source = PictureSource(rng, MOST_SHAPES)
    samples = []
    for _ in range(52):
        ask = rng.choices(list(NUMBER_QUESTIONS), list(NUMBER_QUESTIONS.values()))[0]
        turn = ask(rng, source.draw(rng))
        samples.append(_write(rng, [turn], {0: [source.media]}, thinking_share=0.0))
    return _collate("place", samples, pictures=source.pixels())


def _picture_turns(rng: random.Random, scene: Scene, count: int) -> list[Turn]:
    asked = rng.choices(list(PICTURE_QUESTIONS), list(PICTURE_QUESTIONS.values()), k=count)
    turns = [turn for ask in asked if (turn := ask(rng, scene))]
    return turns or [questions.list_turn(rng, scene)]


def _outside_picture(rng: random.Random, scene: Scene) -> Turn:
    del scene
    return outside_turn(rng, with_picture=True)


def _sign_batch(rng: random.Random) -> Batch:
    """A printed word."""
    source = PrintSource(rng, printed.random_sign)
    samples = []
    for _ in range(64):
        turn = print_questions.word_turn(rng, source.draw(rng))
        samples.append(_write(rng, [turn], {0: [source.media]}))
    return _collate("word", samples, pictures=source.pixels())


def _page_batch(rng: random.Random) -> Batch:
    source = PrintSource(rng, printed.random_page)
    samples = []
    for _ in range(48):
        turn = print_questions.page_turn(rng, source.draw(rng))
        samples.append(_write(rng, [turn], {0: [source.media]}))
    return _collate("page", samples, pictures=source.pixels())


def _clip_batch(rng: random.Random) -> Batch:
    """A shape on the move."""
    source = ClipSource(rng)
    samples = []
    for _ in range(24):
        turns = _clip_turns(rng, source.draw(rng))
        if rng.random() < 0.15:
            turns.append(_chat_turn(rng))
        samples.append(_write(rng, turns, {0: [source.media]}))
    return _collate("clip", samples, clips=source.pixels())


def _clip_turns(rng: random.Random, clip: ClipScene) -> list[Turn]:
    turns = [questions.direction_turn(rng, clip)]
    if rng.random() < 0.35:
        turns.insert(rng.randint(0, 1), questions.clip_colour_turn(rng, clip))
    return turns


def _story_batch(rng: random.Random) -> Batch:
    """Clips in which something happens, of all sorts."""
    source = ClipSource(rng, STORY_SECONDS)
    samples = []
    for _ in range(22):
        make = rng.choice(STORIES)
        story = source.draw_story(rng, make)
        if make is stories.random_coming_or_going:
            times = source.frame_times_s
            turns = [story_questions.time_turn(rng, story, times) for _ in range(2)]
        elif make is stories.random_order:
            turns = [
                story_questions.first_turn(rng, story),
                story_questions.time_turn(rng, story, source.frame_times_s),
            ]
        elif make is stories.random_recolouring:
            turns = [story_questions.change_turn(rng, story)]
        else:
            turns = [story_questions.bounce_turn(rng, story)]
        samples.append(_write(rng, turns, {0: [source.media]}))
    return _collate("story", samples, clips=source.pixels(), memories=source.memories)


def _time_batch(rng: random.Random) -> Batch:
    """Clips in which shapes appear and leave, and when they do."""
    source = ClipSource(rng, STORY_SECONDS)
    samples = []
    for _ in range(28):
        story = source.draw_story(rng, stories.random_coming_or_going)
        turn = story_questions.time_turn(rng, story, source.frame_times_s)
        samples.append(_write(rng, [turn], {0: [source.media]}, thinking_share=0.0))
    return _collate("time", samples, clips=source.pixels(), memories=source.memories)


def _number_batch(rng: random.Random) -> Batch:
    """Facts that are asked for soon after they were told."""
    samples = []
    for _ in range(48):
        facts = fact_questions.random_facts(rng)
        turns = [fact.told for fact in facts]
        turns += [fact_questions.one_turn(rng, rng.choice(facts))]
        turns += [fact_questions.both_turn(rng, facts)]
        samples.append(_write(rng, turns, {}, thinking_share=0.0))
    return _collate("numbers", samples)


def _pair_batch(rng: random.Random) -> Batch:
    """Two pictures in one message."""
    source = PictureSource(rng, MOST_SHAPES)
    samples = []
    memories: list[Memories] = []
    for _ in range(30):
        first = source.draw(rng)
        turns = []
        if rng.random() < 0.7:
            second, answer = pair_questions.changed(rng, first)
            source.add(second)
            if rng.random() < 0.8:
                turns = [pair_questions.difference_turn(rng, first, second, answer)]
        else:
            second = source.draw(rng)
        memories.append(compare(first, second, source.media.rows, source.media.columns))
        asked = rng.choices((pair_questions.more_turn, pair_questions.numbered_turn), (1, 2), k=2)
        turns += [ask(rng, first, second) for ask in asked]
        samples.append(_write(rng, turns, {0: [source.media] * 2}))
    return _collate("pair", samples, pictures=source.pixels(), memories=memories)


def _either_batch(rng: random.Random) -> Batch:
    """A picture and a clip in one message, in either order."""
    pictures, clips = PictureSource(rng, MOST_SHAPES), ClipSource(rng)
    media = rng.sample((pictures.media, clips.media), 2)
    samples = []
    for _ in range(20):
        scene, clip = pictures.draw(rng), clips.draw(rng)
        turns = [pair_questions.picture_or_clip_turn(rng, scene, clip) for _ in range(3)]
        samples.append(_write(rng, turns, {0: media}))
    return _collate("either", samples, pictures=pictures.pixels(), clips=clips.pixels())


def _newest_batch(rng: random.Random) -> Batch:
    """Pictures, or a picture and a clip, one after the other: questions are about the newest."""
    pictures = PictureSource(rng, MOST_SHAPES)
    clips = ClipSource(rng) if rng.random() < 0.6 else None
    clip_first = clips is not None and rng.random() < 0.5
    samples = []
    for _ in range(20):
        turns: list[Turn] = []
        media: dict[int, list[Media]] = {}
        told = questions.name_turns(rng) if rng.random() < 0.4 else None
        if told:
            turns.append(told[0])
        for place in range(2):
            first = len(turns)
            if clips is not None and clip_first == (place == 0):
                turns += _clip_turns(rng, clips.draw(rng))
                media[first] = [clips.media]
            else:
                turns += _picture_turns(rng, pictures.draw(rng), 2)
                media[first] = [pictures.media]
        if told:
            turns.append(told[1])
        samples.append(_write(rng, turns, media))
    return _collate(
        "newest", samples, pictures=pictures.pixels(), clips=clips.pixels() if clips else None
    )


def _text_batch(rng: random.Random) -> Batch:
    """Talk without pictures."""
    samples = []
    for _ in range(40):
        turns = [_chat_turn(rng) for _ in range(rng.randint(1, 5))]
        if rng.random() < 0.5:
            told, asked = questions.name_turns(rng)
            place = rng.randint(0, len(turns))
            turns = [*turns[:place], told, *turns[place:], asked]
        samples.append(_write(rng, turns, {}))
    return _collate("text", samples)


def _chat_turn(rng: random.Random) -> Turn:
    lot = rng.random()
    if lot < 0.5:
        return outside_turn(rng)
    return questions.small_talk_turn(rng) if lot < 0.8 else questions.no_picture_turn(rng)


def _fact_batch(rng: random.Random) -> Batch:
    """Two facts somewhere in a long conversation, with pictures between, asked for at its end."""
    source = PictureSource(rng, MOST_SHAPES)
    samples, has_pictures = [], False
    for _ in range(12):
        length = rng.randint(3, MOST_TURNS)
        facts = fact_questions.random_facts(rng)
        places = sorted(rng.sample(range(length), 2))
        turns: list[Turn] = []
        media: dict[int, list[Media]] = {}
        scene = None
        for place in range(length):
            if place in places:
                turns.append(facts[places.index(place)].told)
            elif rng.random() < 0.35:
                scene, has_pictures = source.draw(rng), True
                media[place] = [source.media]
                turns += _picture_turns(rng, scene, 1)
            elif scene and rng.random() < 0.4:
                turns += _picture_turns(rng, scene, 1)
            else:
                turns.append(_chat_turn(rng) if scene is None else questions.small_talk_turn(rng))
        if rng.random() < 0.3:
            turns.append(fact_questions.one_turn(rng, rng.choice(facts)))
        turns.append(fact_questions.both_turn(rng, facts))
        samples.append(_write(rng, turns, media))
    return _collate("facts", samples, pictures=source.pixels() if has_pictures else None)


def _tool_batch(rng: random.Random) -> Batch:
    """Sums with a calculator at hand, and other talk beside them."""
    samples = []
    # The tools' description is long: many sums behind it are cheap.
    count, sums = rng.choice(((7, 3), (5, 9)))
    for _ in range(count):
        turns: list[Turn] = []
        chain = 0
        for _ in range(sums):
            if rng.random() < 0.75:
                turns += tool_questions.call_turns(rng, tool_questions.random_sum(rng))
                chain = 2
            else:
                turns.append(questions.small_talk_turn(rng))
                chain = 1
        samples.append(_write(rng, turns, {}, tool_questions.random_tools(rng), chain))
    return _collate("tools", samples)


def _write(
    rng: random.Random,
    turns: list[Turn],
    media: dict[int, list[Media]],
    tools: Sequence[dict[str, object]] = (),
    chain: int = 1,
    thinking_share: float = THINKING_SHARE,
) -> Sample:
    """The conversation as people type it; the last `chain` answers follow the last question."""
    typed = [
        dataclasses.replace(turn, question=questions.sloppy(rng, turn.question)) for turn in turns
    ]
    openings: list[Opening] = ["no thought" if rng.random() < 0.35 else "bare" for _ in typed]
    thinks = rng.random() < thinking_share
    openings[-chain:] = ["thought" if thinks else "no thought"] * chain
    return _writer().write(typed, media, openings, tools)


def _collate(
    kind: str,
    samples: list[Sample],
    pictures: Pixels | None = None,
    clips: Pixels | None = None,
    memories: Sequence[Memories] = (),
) -> Batch:
    """`memories` has for each sample what its last vision tokens or groups should bring to mind."""
    length = max(len(s.input_ids) for s in samples)
    input_ids = np.zeros((len(samples), length), np.int64)
    labels = np.full((len(samples), length), NO_LABEL, np.int64)
    weights = np.ones((len(samples), length), np.float32)
    positions = np.zeros((3, len(samples), length), np.int64)
    truths = {name: np.full_like(labels, NO_LABEL) for name in MEMORY_CLASSES}
    for row, sample in enumerate(samples):
        count = len(sample.input_ids)
        input_ids[row, :count] = sample.input_ids
        labels[row, :count] = sample.labels
        positions[:, row, :count] = np.array(sample.positions).T
        for asked in sample.asked:
            truths["asked kind"][row, asked.start : asked.stop] = asked.kind
            weights[row, asked.number.start : asked.number.stop] = FIRST_NUMBER_WEIGHT
            truths["asked colour"][row, asked.start : asked.stop] = asked.colour
            if kind == "pair":
                truths["asked picture"][row, asked.start : asked.stop] = asked.picture
        for name, classes in (memories[row] if memories else {}).items():
            tokens = sample.group_ends if name in GROUP_MEMORIES else sample.vision_tokens
            truths[name][row, tokens[-len(classes) :]] = classes
    truths = {name: truth for name, truth in truths.items() if (truth != NO_LABEL).any()}
    return Batch(kind, input_ids, labels, weights, positions, truths, pictures, clips)


@lru_cache
def _writer() -> DialogueWriter:
    return DialogueWriter()


PICTURE_QUESTIONS: dict[Callable[[random.Random, Scene], Turn | None], float] = {
    questions.colour_turn: 0.16,
    questions.count_turn: 0.16,
    questions.presence_turn: 0.16,
    questions.list_turn: 0.16,
    place_questions.box_turn: 0.17,
    place_questions.point_turn: 0.13,
    _outside_picture: 0.06,
}
NUMBER_QUESTIONS: dict[Callable[[random.Random, Scene], Turn], float] = {
    place_questions.box_turn: 0.45,
    place_questions.point_turn: 0.35,
    questions.count_turn: 0.2,
}
KINDS: dict[Callable[[random.Random], Batch], float] = {
    _picture_batch: 0.12,
    _place_batch: 0.14,
    _sign_batch: 0.06,
    _page_batch: 0.12,
    _clip_batch: 0.03,
    _story_batch: 0.12,
    _time_batch: 0.08,
    _pair_batch: 0.12,
    _either_batch: 0.04,
    _newest_batch: 0.04,
    _text_batch: 0.04,
    _number_batch: 0.02,
    _fact_batch: 0.04,
    _tool_batch: 0.03,
}
