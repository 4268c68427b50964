"""What the settings of a reply do in the whole engine; their rules have tests of their own."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlx_model.engine import Engine, ModelLabel
from mlx_model.events import Event, Notice, Progress, TextDelta, ThinkingDelta
from mlx_model.media import load_image
from mlx_model.messages import ReplyRequest
from mlx_model.processor import Processor, load_processor
from tests.mlx_model.test_engine import (
    CLIP,
    DEMO,
    LIMITS,
    NEVER,
    PICTURE,
    ask,
    finish,
    scripted,
    talking,
    texts,
)

LAST_WORDS = "I have to give the solution based on the thinking directly now."


@pytest.fixture(scope="module")
def processor() -> Processor:
    return load_processor(DEMO)


@pytest.fixture(scope="module")
def demo() -> Engine:
    return Engine.load(DEMO, LIMITS)


def said(engine: Engine, request: ReplyRequest) -> str:
    return texts(list(engine.reply(request, NEVER)), TextDelta)


def read(engine: Engine) -> list[int]:
    """Every token that the scripted model was given."""
    return [token for call in scripted(engine).calls for token in call.ids]


@pytest.mark.parametrize(
    "settings",
    [
        {
            "temperature": 1.5,
            "top_k": 30,
            "top_p": 0.95,
            "min_p": 0.01,
            "presence_penalty": 0.3,
            "repetition_penalty": 1.1,
            "seed": 2**63,
            "stop": ("zebra",),
        },
        {"thinking": True, "thinking_budget": 5, "temperature": 0.7, "seed": 1},
    ],
    ids=str,
)
def test_the_size_of_the_chunks_does_not_change_the_reply(
    demo: Engine, settings: dict[str, Any]
) -> None:
    replies = in_chunks(demo, ask(CLIP, "and", PICTURE, "What?", max_tokens=16, **settings))
    assert replies[0][1]
    assert replies == replies[:1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_no_seed_tells_the_size_of_the_chunks(demo: Engine, seed: int) -> None:
    settings = {"temperature": 1.3, "top_p": 0.98, "repetition_penalty": 1.1, "seed": seed}
    replies = in_chunks(demo, ask(PICTURE, "and", CLIP, "What?", max_tokens=60, **settings))
    assert replies == replies[:1] * 4


def in_chunks(demo: Engine, request: ReplyRequest) -> list[tuple[str, str]]:
    """Thinking and answer when the prompt is read 1, 7, 64 and 512 tokens at a time."""
    replies = []
    for chunk in (1, 7, 64, 512):
        limits = replace(LIMITS, prefill_chunk_tokens=chunk)
        engine = Engine(demo.model, demo.processor, limits, ModelLabel("Demo", "", True))
        events = list(engine.reply(request, NEVER))
        replies.append((texts(events, ThinkingDelta), texts(events, TextDelta)))
    return replies


def test_the_repetition_penalty_falls_on_words_of_the_prompt_and_not_on_pictures(
    processor: Processor,
) -> None:
    word = processor.tokenizer.encode("circle", add_special_tokens=False).ids[0]
    pad = processor.tokenizer.token_to_id("<|image_pad|>")
    for token, question, repeated in [
        (word, "circle?", False),
        (word, "What?", True),
        (pad, "What?", True),
    ]:
        engine = talking(processor, "")
        scripted(engine).script = [token, *processor.stop_token_ids]
        request = ask(PICTURE, question, repetition_penalty=30.0, max_tokens=2)
        finished = finish(list(engine.reply(request, NEVER)))
        read_after_the_prompt = read(engine)[finished.stats.prompt_tokens :]
        assert (read_after_the_prompt[:1] == [token]) is repeated


def test_the_presence_penalty_leaves_words_of_the_prompt_alone(processor: Processor) -> None:
    engine = talking(processor, "circle")
    assert said(engine, ask("circle?", presence_penalty=2.0)) == "circle"


@pytest.mark.parametrize("stop", ["shape", " sh", "two shapes", "🙂", "éa"])
def test_a_stop_string_ends_the_answer(processor: Processor, stop: str) -> None:
    text = "I see two shapes. é 🙂 éa"
    events = list(talking(processor, text).reply(ask("?", stop=("nothing", stop)), NEVER))
    assert texts(events, TextDelta) == text.split(stop)[0].rstrip()
    assert finish(events).reason == "stop"
    assert not any(isinstance(event, Notice) for event in events)


def test_the_demo_model_stops_at_a_stop_string(demo: Engine) -> None:
    request = ask(PICTURE, "List the shapes from left to right.")
    whole = said(demo, request)
    words = whole.split()
    for word in dict.fromkeys(words):
        stopped = replace(request, settings=replace(request.settings, stop=(word,)))
        assert said(demo, stopped) == whole[: whole.index(word)].rstrip()


def test_a_budget_of_nothing_is_not_thinking(processor: Processor) -> None:
    for thinking in (True, False, None):
        engine = talking(processor, "Red.")
        request = ask("Colour?", thinking=thinking, thinking_budget=0)
        assert said(engine, request) == "Red."
        plain = processor.prompt(request.messages, thinking=False).input_ids.tolist()
        assert read(engine)[: len(plain)] == plain


def test_the_demo_model_answers_when_its_thinking_is_ended(demo: Engine) -> None:
    """Greedy decoding with everything before a token in one call, for each token anew."""
    budget = 4
    request = ask(
        PICTURE,
        "List the shapes from left to right.",
        thinking=True,
        thinking_budget=budget,
        max_tokens=budget + 8,
    )
    events = list(demo.reply(request, NEVER))
    thought = texts(events, ThinkingDelta)
    assert thought.endswith(LAST_WORDS)
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    assert f"{budget} tokens" in notice

    tokenizer, stop_ids = demo.processor.tokenizer, demo.processor.stop_token_ids
    prompt, media = prompt_and_media(demo, request)
    ids = list(prompt)
    drawn: list[int] = []
    while len(drawn) < budget + 8:
        logits = np.array(demo.model(np.array([ids]), **media))[0, -1]
        token = int(logits[: demo.processor.vocab_size_used].argmax())
        if token in stop_ids:
            break
        drawn.append(token)
        ids.append(token)
        if len(drawn) == budget:
            ending = thought.removeprefix(tokenizer.decode(drawn)) + "\n</think>\n\n"
            ids += tokenizer.encode(ending, add_special_tokens=False).ids
    assert thought.startswith(tokenizer.decode(drawn[:budget]))
    assert texts(events, TextDelta) == tokenizer.decode(drawn[budget:]).strip()
    assert finish(events).stats.generated_tokens == len(drawn)


def prompt_and_media(engine: Engine, request: ReplyRequest) -> tuple[list[int], dict[str, Any]]:
    pixels, grids = engine.processor.images([load_image(PICTURE.path)])
    prompt = engine.processor.prompt(request.messages, thinking=True, image_grids=grids)
    return prompt.input_ids.tolist(), {"pixel_values": pixels, "image_grid_thw": grids}


class Pressing:
    """Presses Stop at the n-th event of a reply and takes the rest."""

    def __init__(self, engine: Engine, request: ReplyRequest, at: int) -> None:
        self._cancel = threading.Event()
        self._replies = engine.reply(request, self._cancel)
        self._at = at

    def __iter__(self) -> Iterator[Event]:
        for number, event in enumerate(self._replies, start=1):
            if number == self._at:
                self._cancel.set()
            yield event


def test_stop_is_heard_after_every_single_event(processor: Processor) -> None:
    """While looking, reading, thinking and answering: one more piece of work at the most."""
    script = "\nIs it red? 🙂\n</think>\n\nRed, 🙂 I say."
    request = ask(CLIP, PICTURE, "word " * 12, thinking=True)
    whole = list(talking(processor, script).reply(request, NEVER))
    phases = set()
    for number, event in enumerate(whole[:-2], start=1):
        phases.add(event.stage if isinstance(event, Progress) else type(event))
        events = list(Pressing(talking(processor, script), request, number))
        assert finish(events).reason == "cancelled", event
        assert events[:number] == whole[:number]
        assert all(isinstance(later, Progress) for later in events[number:-1])
        assert len(events) <= number + 2
    assert phases == {"looking", "reading", ThinkingDelta, TextDelta}
