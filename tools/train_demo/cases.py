"""Held-out conversations, an ability at a time, that end in a question whose answer can be judged.

Pictures, clips and pages are written as files, as a person would have them. The scenes are drawn
from seeds that training never uses. `shuffled` cases show the same with all pixels in disorder.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mlx_model import ImagePart, Message, TextPart, VideoPart
from mlx_model.messages import Part
from tools.train_demo import (
    fact_questions,
    outside_questions,
    pair_questions,
    place_questions,
    print_questions,
    printed,
    printed_pdf,
    questions,
    scenes,
    stories,
    story_questions,
    tool_questions,
)
from tools.train_demo.judges import Judge, agrees, at_time, box_of, exactly, point_on
from tools.train_demo.questions import Turn
from tools.train_demo.scenes import ClipScene, Scene
from tools.train_demo.stories import Story

SIZES = ((128, 128), (200, 150), (320, 240), (480, 320), (240, 320), (400, 400), (300, 200))
CLIP_SIZES = ((128, 128), (160, 120), (200, 150), (120, 160))
SIGN_SIZES = ((200, 100), (320, 120), (240, 180), (400, 130), (150, 150), (300, 90))
# A6 upright and across, a card, a square note: in points.
PAGE_SIZES = ((298, 420), (420, 298), (240, 150), (200, 200))
PDF_SCALE = 1.5
RATES = (10.0, 12.0, 15.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation that ends in a question; `judge` takes the thought and the answer to it.

    `then` goes on after a right answer: what is to be asked next, with its own judge.
    """

    messages: tuple[Message, ...]
    answer: str
    judge: Judge
    thinking: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    then: "Case | None" = None


CaseMaker = Callable[[random.Random, Path, bool], Case]


def cases(ability: str, numbers: range, folder: Path, shuffled: bool = False) -> Iterator[Case]:
    """Held-out cases by number; pictures and clips are written into `folder`."""
    for number in numbers:
        rng = random.Random(f"held out/{ability}/{number}")
        yield ABILITIES[ability](rng, folder / f"{ability}-{number}", shuffled)


def _asked(parts: list[Part], turn: Turn, judge: Judge | None = None, **more: Any) -> Case:
    message = Message("user", (*parts, TextPart(turn.question)))
    return Case((message,), turn.answer, judge or exactly(turn.answer), **more)


def _history(turns: list[tuple[list[Part], Turn]]) -> list[Message]:
    messages = []
    for parts, turn in turns:
        messages.append(Message("user", (*parts, TextPart(turn.question))))
        messages.append(Message.text("assistant", turn.answer))
    return messages


def _about_picture(ask: Callable[[random.Random, Scene], Turn | None]) -> CaseMaker:
    def make(rng: random.Random, path: Path, shuffled: bool) -> Case:
        scene, turn = _scene_and_turn(rng, ask)
        return _asked([_picture(rng, scene, path, shuffled)], turn)

    return make


def _thinking_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    asks = (
        questions.colour_turn,
        questions.count_turn,
        questions.presence_turn,
        questions.list_turn,
    )
    scene, turn = _scene_and_turn(rng, rng.choice(asks))
    parts = [_picture(rng, scene, path, shuffled)]
    return _asked(parts, turn, agrees(turn.question), thinking=True)


def _box_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    scene, turn = _scene_and_turn(rng, place_questions.box_turn)
    shape = _labelled(scene, turn)
    return _asked([_picture(rng, scene, path, shuffled)], turn, box_of(scene, shape))


def _point_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    scene, turn = _scene_and_turn(rng, place_questions.point_turn)
    shape = _labelled(scene, turn)
    return _asked([_picture(rng, scene, path, shuffled)], turn, point_on(scene, shape))


def _word_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    page = printed.random_sign(rng, *rng.choice(SIGN_SIZES))
    picture = printed.render(page, with_jpeg=False)
    part = _image_file(rng, picture, path, page.jpeg_quality, shuffled)
    return _asked([part], print_questions.word_turn(rng, page))


def _page_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    page = printed.random_page(rng, *rng.choice(PAGE_SIZES))
    pdf = path.with_suffix(".pdf")
    printed_pdf.write_pdf(page, pdf)
    part = _image_file(rng, printed_pdf.render_pdf(pdf, PDF_SCALE), path, None, shuffled)
    return _asked([part], print_questions.page_turn(rng, page))


def _direction_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    clip = _random_clip(rng)
    part = _clip_file(rng, clip, path, shuffled)
    return _asked([part], questions.direction_turn(rng, clip))


def _story(rng: random.Random, make: Callable[..., Story], shortest_s: float) -> Story:
    size, rate = rng.choice(CLIP_SIZES), rng.choice(RATES)
    return make(rng, *size, rng.uniform(shortest_s, stories.LONGEST_S), rate)


def _time_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    story = _story(rng, stories.random_coming_or_going, 3.0)
    turn = story_questions.time_turn(rng, story, [])
    actors = [actor for actor in story.actors if turn.answer.startswith(f"The {actor.shape.kind} ")]
    event = next(e for e in actors[0].events if f" {e.kind} " in turn.answer)
    judge = at_time(f"The {actors[0].shape.kind} {event.kind}", event.time_s)
    return _asked([_clip_file(rng, story, path, shuffled)], turn, judge)


def _happening_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    kinds = (
        (stories.random_order, story_questions.first_turn),
        (stories.random_bouncing, story_questions.bounce_turn),
        (stories.random_recolouring, story_questions.change_turn),
    )
    make, ask = rng.choice(kinds)
    story = _story(rng, make, 3.0)
    return _asked([_clip_file(rng, story, path, shuffled)], ask(rng, story))


def _pair_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    first = _scene(rng)
    second, answer = pair_questions.changed(rng, first)
    lot = rng.random()
    if lot < 1 / 3:
        turn = pair_questions.difference_turn(rng, first, second, answer)
    else:
        second = _scene(rng)
        ask = pair_questions.more_turn if lot < 2 / 3 else pair_questions.numbered_turn
        turn = ask(rng, first, second)
    parts = [
        _picture(rng, scene, path.with_name(f"{path.name}-{number}"), shuffled)
        for number, scene in enumerate((first, second), 1)
    ]
    return _asked(parts, turn)


def _either_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    scene, clip = _scene(rng), _random_clip(rng)
    parts: list[Part] = [
        _picture(rng, scene, path, shuffled),
        _clip_file(rng, clip, path, shuffled),
    ]
    rng.shuffle(parts)
    return _asked(parts, pair_questions.picture_or_clip_turn(rng, scene, clip))


def _recall_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    told, asked = questions.name_turns(rng)
    between = [questions.small_talk_turn(rng) for _ in range(2)]
    messages = _history([([], turn) for turn in (told, *between)])
    question = Message.text("user", asked.question)
    return Case((*messages, question), asked.answer, exactly(asked.answer))


def _two_facts_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    """Ten turns, in two of which a fact is told; some of the others show a picture."""
    facts = fact_questions.random_facts(rng)
    places = sorted(rng.sample(range(10), 2))
    turns: list[tuple[list[Part], Turn]] = []
    for place in range(10):
        if place in places:
            turns.append(([], facts[places.index(place)].told))
        elif rng.random() < 0.3:
            scene, turn = _scene_and_turn(rng, questions.list_turn)
            file = path.with_name(f"{path.name}-{place}")
            turns.append(([_picture(rng, scene, file, shuffled)], turn))
        else:
            turns.append(([], questions.small_talk_turn(rng)))
    asked = fact_questions.both_turn(rng, facts)
    question = Message.text("user", asked.question)
    return Case((*_history(turns), question), asked.answer, exactly(asked.answer))


def _small_talk_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    return _asked([], questions.small_talk_turn(rng))


def _tool_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    """The call, and what is made of its result."""
    asked, tools = tool_questions.random_sum(rng), tool_questions.random_tools(rng)
    call, result = tool_questions.call_turns(rng, asked)
    question = Message.text("user", call.question)
    arguments = {"expression": asked.expression}
    called = Message("assistant", (), tool_calls=({"name": "calculator", "arguments": arguments},))
    came = Message.text("tool", str(asked.result))
    messages = (question, called, came)
    then = Case(messages, result.answer, exactly(result.answer), tools=tools)
    return Case((question,), call.answer, exactly(call.answer), tools=tools, then=then)


def _outside_case(rng: random.Random, path: Path, shuffled: bool) -> Case:
    number = int(path.name.rsplit("-", 1)[1])
    held_out = outside_questions.held_out_questions()
    answer = outside_questions.OUTSIDE_ANSWER
    question = Message.text("user", held_out[number % len(held_out)])
    return Case((question,), answer, exactly(answer))


def _scene(rng: random.Random) -> Scene:
    return scenes.random_scene(rng, *rng.choice(SIZES), rng.randint(1, 4))


def _scene_and_turn(
    rng: random.Random, ask: Callable[[random.Random, Scene], Turn | None]
) -> tuple[Scene, Turn]:
    while True:
        scene = _scene(rng)
        turn = ask(rng, scene)
        if turn:
            return scene, turn


def _labelled(scene: Scene, turn: Turn) -> scenes.Shape:
    return next(s for s in scene.shapes if f'"label": "{s.name}"' in turn.answer)


def _random_clip(rng: random.Random) -> ClipScene:
    while True:
        clip = scenes.random_clip(rng, *rng.choice(CLIP_SIZES))
        if clip.frames_per_s in RATES:
            return clip


def _picture(rng: random.Random, scene: Scene, path: Path, shuffled: bool) -> ImagePart:
    # The file itself brings the JPEG losses, as a picture from outside would.
    picture = scenes.render(scene, with_jpeg=False)
    return _image_file(rng, picture, path, scene.jpeg_quality, shuffled)


def _image_file(
    rng: random.Random, picture: Image.Image, path: Path, quality: int | None, shuffled: bool
) -> ImagePart:
    if shuffled:
        picture = Image.fromarray(_shuffled(rng, np.asarray(picture)))
    if quality is None:
        path = path.with_name(f"{path.name}.png")
        picture.save(path)
    else:
        path = path.with_name(f"{path.name}.jpg")
        picture.save(path, quality=quality)
    return ImagePart(path)


def _clip_file(
    rng: random.Random, clip: ClipScene | Story, path: Path, shuffled: bool
) -> VideoPart:
    scene_at = stories.scene_at if isinstance(clip, Story) else scenes.scene_at
    drawn: dict[Scene, np.ndarray] = {}
    frames = []
    for index in range(clip.frame_count):
        scene = scene_at(clip, index)  # type: ignore[operator]
        if scene not in drawn:
            drawn[scene] = np.asarray(scenes.render(scene))
        frames.append(drawn[scene])
    if shuffled:
        frames = list(_shuffled(rng, np.stack(frames)))
    path = path.with_name(f"{path.name}.mp4")
    size = (clip.scene.width, clip.scene.height)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), clip.frames_per_s, size)
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()
    return VideoPart(path)


def _shuffled(rng: random.Random, pixels: np.ndarray) -> np.ndarray:
    """All pixels of a picture, or of all frames of a clip, in another order."""
    colours = pixels.reshape(-1, 3)
    order = np.random.default_rng(rng.randrange(2**32)).permutation(len(colours))
    return colours[order].reshape(pixels.shape)


ABILITIES: dict[str, CaseMaker] = {
    "colour": _about_picture(questions.colour_turn),
    "count": _about_picture(questions.count_turn),
    "presence": _about_picture(questions.presence_turn),
    "list": _about_picture(questions.list_turn),
    "direction": _direction_case,
    "recall": _recall_case,
    "small talk": _small_talk_case,
    "word": _word_case,
    "page": _page_case,
    "box": _box_case,
    "point": _point_case,
    "time": _time_case,
    "happenings": _happening_case,
    "two pictures": _pair_case,
    "picture and clip": _either_case,
    "two facts": _two_facts_case,
    "thinking": _thinking_case,
    "calculator": _tool_case,
    "outside": _outside_case,
}
