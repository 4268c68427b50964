"""Training spells conversations itself; it must spell them as the shipped template and model do."""

import random
from pathlib import Path

import numpy as np
import pytest

from mlx_model import ImagePart, Message, TextPart, VideoPart, load_model, load_processor
from tools.train_demo import tokenizer, tool_questions
from tools.train_demo.dialogue import DialogueWriter, Media, Sample
from tools.train_demo.questions import Turn
from tools.train_demo.tokenizer import DEMO_MODEL

TURNS = (
    Turn("greeting", "Hello, I am Ingrid.", "Nice to meet you, Ingrid."),
    Turn("list", "List the shapes from left to right.", "A red circle and an orange star."),
    Turn("recall", "What is my name?", "Your name is Ingrid."),
)
PICTURE = Media(rows=3, columns=4)
CLIP = Media(rows=2, columns=3, times_s=(0.25, 1.3, 2.35))


def written(media: dict[int, Media]) -> Sample:
    """The three turns as training writes them; only the last answer has the thinking block."""
    shown = {turn: [one] for turn, one in media.items()}
    return DialogueWriter().write(TURNS, shown, ["bare", "bare", "no thought"])


def conversation(media: dict[int, Media]) -> list[Message]:
    """The same turns up to the last question, as the engine gets them."""
    messages = []
    for index, turn in enumerate(TURNS):
        parts: list[TextPart | ImagePart | VideoPart] = [TextPart(turn.question)]
        if index in media:
            clip = media[index].times_s is not None
            parts.insert(0, VideoPart("clip.mp4") if clip else ImagePart("picture.png"))  # type: ignore[arg-type]
        messages += [Message("user", tuple(parts)), Message.text("assistant", turn.answer)]
    return messages[:-1]


@pytest.mark.parametrize(
    "media", [{}, {0: PICTURE}, {1: PICTURE}, {0: CLIP}, {1: CLIP, 2: PICTURE}]
)
def test_ids_and_positions_equal_those_of_the_pipeline(media: dict[int, Media]) -> None:
    sample = written(media)
    pictures = [m for m in media.values() if m.times_s is None]
    clips = [m for m in media.values() if m.times_s is not None]
    image_grids = [(1, m.rows * 2, m.columns * 2) for m in pictures]
    video_grids = [(m.groups, m.rows * 2, m.columns * 2) for m in clips]
    prompt = load_processor(DEMO_MODEL).prompt(
        conversation(media),
        image_grids=image_grids,
        video_grids=video_grids,
        video_times=[m.times_s or () for m in clips],
    )
    count = len(prompt.input_ids)
    assert sample.input_ids[:count] == list(prompt.input_ids)
    assert sample.labels[count] == sample.input_ids[count], (
        "the answer begins where the prompt ends"
    )
    positions, next_position = load_model(DEMO_MODEL).position_ids(
        prompt.input_ids, np.array(image_grids), np.array(video_grids)
    )
    np.testing.assert_array_equal(positions.T, sample.positions[:count])
    assert next_position == sample.positions[count][0]


def test_a_calculator_is_offered_called_and_answered_as_the_template_has_it() -> None:
    rng = random.Random(1)
    asked, tools = tool_questions.random_sum(rng), tool_questions.random_tools(rng)
    call, result = tool_questions.call_turns(rng, asked)
    sample = DialogueWriter().write([call, result], {}, ["no thought"] * 2, tools)
    arguments = {"expression": asked.expression}
    messages = [
        Message.text("user", call.question),
        Message("assistant", (), tool_calls=({"name": "calculator", "arguments": arguments},)),
        Message.text("tool", str(asked.result)),
    ]
    for count in (1, 3):
        prompt = load_processor(DEMO_MODEL).prompt(messages[:count], tools=tools)
        length = len(prompt.input_ids)
        assert sample.input_ids[:length] == list(prompt.input_ids)
        assert sample.labels[length] == sample.input_ids[length], "the answer begins there"


def test_two_pictures_in_one_message_are_spelled_as_the_pipeline_does() -> None:
    sample = DialogueWriter().write(TURNS[1:2], {0: [PICTURE, PICTURE]}, ["no thought"])
    parts = (ImagePart(Path("a.png")), ImagePart(Path("b.png")), TextPart(TURNS[1].question))
    prompt = load_processor(DEMO_MODEL).prompt(
        [Message("user", parts)], image_grids=[(1, PICTURE.rows * 2, PICTURE.columns * 2)] * 2
    )
    assert sample.input_ids[: len(prompt.input_ids)] == list(prompt.input_ids)


def test_the_committed_tokenizer_is_the_one_that_the_script_builds() -> None:
    committed = load_processor(DEMO_MODEL).tokenizer
    assert tokenizer.build().to_str() == committed.to_str()
