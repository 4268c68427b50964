"""Whole replies: the real processor with a model that is told what to say, then the demo model."""

import itertools
import json
import shutil
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.engine import Engine, ModelLabel, read_label
from mlx_model.errors import CheckpointError, MediaError, PromptError
from mlx_model.events import Event, Finished, Notice, Progress, TextDelta, ThinkingDelta
from mlx_model.limits import GIB, MachineLimits
from mlx_model.media import load_image, sample_video
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)
from mlx_model.processor import Processor, load_processor
from tests.mlx_model.scripted_model import ScriptedModel

ASSETS = Path(__file__).parents[2] / "assets"
DEMO = ASSETS / "demo_model"
PICTURE = ImagePart(ASSETS / "samples" / "shapes.png")
CLIP = VideoPart(ASSETS / "samples" / "clip.mp4")
LIMITS = MachineLimits(8 * GIB, 4 * GIB, prefill_chunk_tokens=16, vision_piece_work=40)

NEVER = threading.Event()


class TalkingModel(ScriptedModel):
    """A scripted model that also takes pictures; `position_ids` tells it the prompt's length."""

    def __init__(self, script: list[int], max_context: int = 4096) -> None:
        super().__init__(script, prompt_tokens=0, vocabulary=1280)
        self.config = SimpleNamespace(
            max_context=max_context, text=SimpleNamespace(num_attention_heads=4)
        )
        self.pieces: list[int] = []
        self.on_piece: Any = lambda number: None

    def position_ids(self, ids: Any, images: Any, videos: Any) -> tuple[np.ndarray, int]:
        self.prompt_tokens = len(ids)
        self.grids = (len(images), len(videos)) if images is not None and videos is not None else ()
        return np.arange(3)[:, None] * 1000 + np.arange(len(ids)), len(ids)

    def media_work(self, grid_thw: np.ndarray) -> int:
        return int(grid_thw.prod())

    def encode_media_in_pieces(
        self, rows: Any, grid_thw: np.ndarray, piece_work: int
    ) -> Generator[int, None, mx.array]:
        """A patch is one operation; four of them, flattened, are a token."""
        tokens = []
        for start in range(0, int(grid_thw.prod()), piece_work):
            values = rows(slice(start, start + piece_work))
            self.pieces.append(len(values))
            self.on_piece(len(self.pieces))
            tokens.append(mx.array(values).reshape(len(values) // 4, -1))
            yield len(values)
        return mx.concatenate(tokens)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return load_processor(DEMO)


@pytest.fixture(scope="module")
def demo() -> Engine:
    return Engine.load(DEMO, LIMITS)


def talking(
    processor: Processor, text: str, limits: MachineLimits = LIMITS, max_context: int = 4096
) -> Engine:
    """An engine that says `text` and stops; control tokens in it are control tokens."""
    stop = processor.tokenizer.token_to_id("<|im_end|>")
    script = [*processor.tokenizer.encode(text, add_special_tokens=False).ids, stop]
    model: Any = TalkingModel(script, max_context)
    return Engine(model, processor, limits, ModelLabel("Scripted", "", False))


def scripted(engine: Engine) -> TalkingModel:
    model: Any = engine.model
    assert isinstance(model, TalkingModel)
    return model


def ask(*parts: Part | str, **settings: Any) -> ReplyRequest:
    content = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    return ReplyRequest((Message("user", content),), ReplySettings(**settings))


def texts(events: list[Event], kind: type[TextDelta] | type[ThinkingDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def finish(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    assert not any(isinstance(event, Finished) for event in events[:-1])
    return last


def test_a_reply_looks_then_reads_then_answers(processor: Processor) -> None:
    engine = talking(processor, "Two shapes.")
    events = list(engine.reply(ask(PICTURE, CLIP, "What is this?"), NEVER))
    kinds = [
        event.stage if isinstance(event, Progress) else type(event).__name__ for event in events
    ]
    order = ["looking", "reading", "TextDelta", "Finished"]
    assert sorted(kinds, key=order.index) == kinds
    assert set(kinds) == set(order)
    for stage in ("looking", "reading"):
        steps = [event for event in events if isinstance(event, Progress) and event.stage == stage]
        assert steps[0].done == 0
        assert all(a.done < b.done for a, b in itertools.pairwise(steps))
        assert steps[-1].done == steps[-1].total
        assert len({step.total for step in steps}) == 1
        assert len(steps) > 2
    assert texts(events, TextDelta) == "Two shapes."
    assert finish(events).reason == "stop"


def test_the_statistics_add_up(processor: Processor) -> None:
    engine = talking(processor, "Two shapes.")
    events = list(engine.reply(ask(PICTURE, CLIP, "What is this?"), NEVER))
    model = scripted(engine)
    stats = finish(events).stats
    assert stats.prompt_tokens == model.prompt_tokens == stats.read_tokens
    assert stats.reused_tokens == stats.accepted_drafts == 0
    assert stats.encoded_patches == sum(model.pieces)
    assert stats.generated_tokens == len(model.script) - 1
    assert stats.time_to_first_token_s > 0
    assert stats.prefill_tokens_per_s > 0
    assert stats.decode_tokens_per_s > 0
    assert stats.peak_memory_bytes > 0


def test_every_media_token_of_the_prompt_gets_its_embedding(processor: Processor) -> None:
    engine = talking(processor, "Yes.")
    list(engine.reply(ask(PICTURE, "and", CLIP, "and", PICTURE, "?"), NEVER))
    model = scripted(engine)
    tokenizer = processor.tokenizer
    pads = {tokenizer.token_to_id("<|image_pad|>"), tokenizer.token_to_id("<|video_pad|>")}
    rows: list[list[float]] = []
    for call in model.calls[:-1]:
        assert len(call.media or []) == sum(token in pads for token in call.ids)
        rows += call.media or []
    picture = processor.image_tokens(*load_image(PICTURE.path).shape[1::-1])
    assert sum(model.pieces) == 4 * (len(rows) - picture)  # looked at once
    assert rows[:picture] == rows[-picture:]  # the same picture, at both ends
    assert rows[:picture] != rows[picture : 2 * picture]
    assert model.grids == (2, 1)


def test_every_token_of_the_prompt_gets_its_position(processor: Processor) -> None:
    engine = talking(processor, "Yes.")
    list(engine.reply(ask("word " * 40), NEVER))
    calls = [call for call in scripted(engine).calls if call.positions is not None]
    read = np.concatenate([call.positions for call in calls], axis=1)
    places = np.arange(scripted(engine).prompt_tokens)
    assert read.tolist() == [(1000 * axis + places).tolist() for axis in range(3)]


def test_padding_of_the_vocabulary_is_never_said(processor: Processor) -> None:
    engine = talking(processor, "")
    padding = processor.vocab_size_used
    model = scripted(engine)
    model.script = [padding, padding + 1, model.vocabulary - 1]
    for temperature in (0.0, 1.0):
        model.calls.clear()
        list(engine.reply(ask("?", max_tokens=4, temperature=temperature, seed=1), NEVER))
        assert max(token for call in model.calls for token in call.ids) < padding


def test_the_prompt_is_the_processors(processor: Processor) -> None:
    engine = talking(processor, "Yes.")
    tools = ({"name": "add", "description": "Adds numbers."},)
    request = replace(ask("1 + 1?", thinking=True), tools=tools)
    list(engine.reply(request, NEVER))
    expected = processor.prompt(request.messages, thinking=True, tools=tools).input_ids.tolist()
    read = [token for call in scripted(engine).calls for token in call.ids]
    assert read[: len(expected)] == expected


def test_thinking_comes_apart_from_the_answer(processor: Processor) -> None:
    engine = talking(processor, "\nIs it red?\n\nYes.\n</think>\n\nRed.\n")
    events = list(engine.reply(ask("Colour?", thinking=True), NEVER))
    assert texts(events, ThinkingDelta) == "Is it red?\n\nYes."
    assert texts(events, TextDelta) == "Red."
    assert not any(isinstance(event, Notice) for event in events)


def test_a_model_that_thinks_by_itself_is_heard_thinking(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    template = folder / "chat_template.jinja"
    source = template.read_text(encoding="utf-8")
    other_habit = source.replace(
        "enable_thinking is not defined or", "enable_thinking is defined and"
    )
    assert other_habit != source
    template.write_text(other_habit, encoding="utf-8")
    engine = talking(load_processor(folder), "Is it red?\n</think>\n\nRed.")
    events = list(engine.reply(ask("Colour?", thinking=None), NEVER))
    assert texts(events, ThinkingDelta) == "Is it red?"
    assert texts(events, TextDelta) == "Red."


def test_thinking_without_end_is_said_so(processor: Processor) -> None:
    engine = talking(processor, "Is it red? Or blue? Or green?")
    events = list(engine.reply(ask("Colour?", thinking=True, max_tokens=6), NEVER))
    assert texts(events, TextDelta) == ""
    assert texts(events, ThinkingDelta) != ""
    assert isinstance(events[-2], Notice)
    assert "no answer" in events[-2].text
    assert finish(events).reason == "length"


@pytest.mark.parametrize(
    ("script", "thinking", "words"),
    [
        ("Is it red?\n</think>\n\n", True, "after thinking, without an answer"),
        ("Is it red?", True, "after thinking, without an answer"),
        ("<think>\nIs it red?\n</think>", False, "without a word"),
        ("\n", False, "without a word"),
    ],
)
def test_a_reply_without_an_answer_is_said_so(
    processor: Processor, script: str, thinking: bool, words: str
) -> None:
    events = list(talking(processor, script).reply(ask("Colour?", thinking=thinking), NEVER))
    assert texts(events, TextDelta) == ""
    assert isinstance(events[-2], Notice)
    assert words in events[-2].text
    assert finish(events).reason == "stop"


def test_many_byte_characters_arrive_whole(processor: Processor) -> None:
    text = "日本 🙂 naïve"
    events = list(talking(processor, text).reply(ask("Say it."), NEVER))
    assert texts(events, TextDelta) == text
    assert all("\ufffd" not in event.text for event in events if isinstance(event, TextDelta))
    for count in range(1, len(scripted(talking(processor, text)).script)):
        cut = list(talking(processor, text).reply(ask("Say it.", max_tokens=count), NEVER))
        assert text.startswith(texts(cut, TextDelta))


def test_a_prompt_that_does_not_fit_is_not_begun(processor: Processor) -> None:
    engine = talking(processor, "Yes.", replace(LIMITS, max_context_tokens=24))
    events = list(engine.reply(ask(PICTURE, "What is this?"), NEVER))
    notice, finished = events
    assert isinstance(notice, Notice)
    assert "24" in notice.text
    assert isinstance(finished, Finished)
    assert finished.reason == "context_full"
    assert finished.stats.prompt_tokens > 24
    assert str(finished.stats.prompt_tokens) in notice.text
    assert finished.stats.read_tokens == 0
    assert scripted(engine).calls == []
    assert scripted(engine).pieces == []


def test_the_context_ends_a_reply(processor: Processor) -> None:
    free = talking(processor, "One two three four five six.")
    prompt_tokens = finish(list(free.reply(ask("Count."), NEVER))).stats.prompt_tokens
    own = talking(processor, "One two three four five six.", max_context=prompt_tokens + 3)
    given = talking(
        processor,
        "One two three four five six.",
        replace(LIMITS, max_context_tokens=prompt_tokens + 3),
    )
    for engine in (own, given):
        finished = finish(list(engine.reply(ask("Count."), NEVER)))
        assert finished.reason == "context_full"
        assert finished.stats.generated_tokens == 3


def test_cancel_before_the_beginning(processor: Processor) -> None:
    cancel = threading.Event()
    cancel.set()
    engine = talking(processor, "Yes.")
    assert [type(event) for event in engine.reply(ask(PICTURE, "?"), cancel)] == [Finished]
    assert scripted(engine).calls == []
    assert scripted(engine).pieces == []


def test_cancel_while_looking(processor: Processor) -> None:
    cancel = threading.Event()
    engine = talking(processor, "Yes.")
    scripted(engine).on_piece = lambda number: cancel.set() if number == 2 else None
    finished = finish(list(engine.reply(ask(CLIP, PICTURE, "?"), cancel)))
    assert finished.reason == "cancelled"
    assert len(scripted(engine).pieces) == 2
    assert finished.stats.encoded_patches == 0  # the clip is cut into more pieces than two
    assert scripted(engine).calls == []


def test_cancel_while_reading(processor: Processor) -> None:
    cancel = threading.Event()
    engine = talking(processor, "Yes.")
    scripted(engine).on_call = lambda number: cancel.set() if number == 2 else None
    finished = finish(list(engine.reply(ask("word " * 60), cancel)))
    assert finished.reason == "cancelled"
    assert len(scripted(engine).calls) == 2
    assert finished.stats.read_tokens == 32 < finished.stats.prompt_tokens
    assert finished.stats.generated_tokens == 0


def test_cancel_while_answering(processor: Processor) -> None:
    cancel = threading.Event()
    engine = talking(processor, "One two three four five six seven eight nine ten.")
    events = []
    for event in engine.reply(ask("Count."), cancel):
        events.append(event)
        if texts(events, TextDelta).endswith("three"):
            cancel.set()
    assert finish(events).reason == "cancelled"
    assert texts(events, TextDelta) == "One two three"
    assert finish(events).stats.generated_tokens < 10


def test_a_reply_that_is_dropped_half_way_leaves_the_engine_usable(processor: Processor) -> None:
    engine = talking(processor, "Yes, this is it.")
    replies = engine.reply(ask("?"), NEVER)
    while not isinstance(next(replies), TextDelta):
        pass
    assert isinstance(replies, Iterator)
    del replies
    assert texts(list(engine.reply(ask("?"), NEVER)), TextDelta) == "Yes, this is it."


def test_errors_of_files_and_conversations_pass_through(
    processor: Processor, tmp_path: Path
) -> None:
    engine = talking(processor, "Yes.")
    with pytest.raises(MediaError, match=r"gone\.png"):
        list(engine.reply(ask(ImagePart(tmp_path / "gone.png"), "?"), NEVER))
    with pytest.raises(PromptError):
        list(engine.reply(ReplyRequest(()), NEVER))
    assert finish(list(engine.reply(ask("?"), NEVER))).reason == "stop"


def test_the_demo_model_says_what_it_is(demo: Engine) -> None:
    assert (demo.name, demo.note, demo.is_demo) == ("Demo model", "coloured shapes only", True)


@pytest.mark.parametrize(
    ("folder", "config", "label"),
    [
        ("My model", {}, ModelLabel("My model", "", False)),
        ("My model", {"fireside": {"name": "Toy"}}, ModelLabel("Toy", "", True)),
        (
            "models--Org--Some-Model-2B/snapshots/0123abcd",
            {},
            ModelLabel("Some-Model-2B", "", False),
        ),
    ],
)
def test_labels(tmp_path: Path, folder: str, config: dict[str, Any], label: ModelLabel) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_label(path) == label


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.$"):
        Engine.load(tmp_path, LIMITS)
    copy = tmp_path / "copy"
    shutil.copytree(DEMO, copy)
    for weights in copy.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(CheckpointError, match=r"\.$"):
        Engine.load(copy, LIMITS)


def test_loading_bounds_the_memory_that_mlx_keeps() -> None:
    Engine.load(DEMO, replace(LIMITS, buffer_cache_bytes=123 << 20))
    assert mx.set_cache_limit(LIMITS.buffer_cache_bytes) == 123 << 20
    assert mx.set_memory_limit(LIMITS.working_set_bytes) == LIMITS.working_set_bytes


def test_a_reply_leaves_no_thread_behind(demo: Engine) -> None:
    before = threading.active_count()
    for _ in demo.reply(ask(PICTURE, "What colour is the circle?", max_tokens=4), NEVER):
        assert threading.active_count() == before


def test_the_demo_model_says_what_a_plain_forward_pass_says(demo: Engine) -> None:
    """Greedy decoding with the whole prompt and all media in one call, again for each token."""
    request = ask(PICTURE, CLIP, PICTURE, "List the shapes from left to right.", max_tokens=12)
    text = texts(list(demo.reply(request, NEVER)), TextDelta)
    assert text

    prepared = _whole_prompt(demo, request)
    ids = list(prepared.pop("input_ids"))
    start = len(ids)
    while len(ids) < start + 12:
        logits = demo.model(np.array([ids]), **prepared)
        token = int(np.array(logits)[0, -1, : demo.processor.vocab_size_used].argmax())
        if token in demo.processor.stop_token_ids:
            break
        ids.append(token)
    assert text == demo.processor.tokenizer.decode(ids[start:]).strip()


def _whole_prompt(engine: Engine, request: ReplyRequest) -> dict[str, Any]:
    processor = engine.processor
    picture = load_image(PICTURE.path)
    pixels, grids = processor.images([picture, picture])
    clip = sample_video(CLIP.path, max_frames=16)
    clip_pixels, clip_grid, times = processor.video(clip.frames, clip.times_s)
    prompt = processor.prompt(
        request.messages, image_grids=grids, video_grids=clip_grid, video_times=[times]
    )
    return {
        "input_ids": prompt.input_ids,
        "pixel_values": pixels,
        "image_grid_thw": grids,
        "pixel_values_videos": clip_pixels,
        "video_grid_thw": clip_grid,
    }


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.2, "top_k": 20, "seed": 4}])
def test_the_size_of_the_pieces_does_not_change_the_reply(
    demo: Engine, settings: dict[str, Any]
) -> None:
    request = ask(CLIP, PICTURE, "What is this?", max_tokens=16, **settings)
    replies = set()
    for chunk, piece in [(1, 1), (7, 10**6), (64, 10**8), (512, 10**12)]:
        limits = replace(LIMITS, prefill_chunk_tokens=chunk, vision_piece_work=piece)
        label = ModelLabel(demo.name, demo.note, demo.is_demo)
        engine = Engine(demo.model, demo.processor, limits, label)
        replies.add(texts(list(engine.reply(request, NEVER)), TextDelta))
    assert len(replies) == 1


def test_the_seed_decides_what_a_lively_reply_says(demo: Engine) -> None:
    def said(seed: int) -> str:
        request = ask("Who are you?", max_tokens=16, temperature=5.0, seed=seed)
        return texts(list(demo.reply(request, NEVER)), TextDelta)

    assert said(1) == said(1)
    assert len({said(seed) for seed in range(6)}) > 1
