"""Nothing that was read once is read again, and what comes of it is what a cold reading gives."""

import gc
import shutil
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_model import looking
from mlx_model.draft_head import DraftHead
from mlx_model.engine import Engine, write_prompt
from mlx_model.events import Finished, Prepared, Progress, TextDelta
from mlx_model.looking import read_media
from mlx_model.messages import (
    ImagePart,
    Message,
    ReplyRequest,
)
from mlx_model.reading import Memory
from tests.mlx_model.counted_work import counted
from tests.mlx_model.demo_reuse import (
    CLIP,
    DEMO,
    LIMITS,
    NEVER,
    PICTURE,
    SYSTEM,
    Said,
    ask,
    assert_as_if_cold,
    cold_logits,
    fresh,
    logits_of,
    prepared,
    request_of,
    user,
)
from tests.mlx_model.goldens import relative_error


@pytest.fixture(scope="module")
def loaded() -> Engine:
    return Engine.load(DEMO, LIMITS)


@pytest.fixture
def engine(loaded: Engine) -> Engine:
    return fresh(loaded)


@pytest.fixture(params=["with drafts", "without"])
def drafting(request: pytest.FixtureRequest, loaded: Engine) -> Iterator[None]:
    """A draft head of any weights, in the place of the model's own."""
    own = loaded.model.mtp
    loaded.model.mtp = None
    if request.param == "with drafts":
        mx.random.seed(1)
        loaded.model.mtp = DraftHead(loaded.model.config.text)
    yield
    loaded.model.mtp = own


@pytest.mark.usefixtures("drafting")
def test_on_the_same_grid_warm_is_cold_bit_for_bit(engine: Engine) -> None:
    first = request_of(SYSTEM, user(PICTURE, CLIP, "What is this?"))
    second = request_of(
        SYSTEM, user(PICTURE, CLIP, "Which colour has the circle, and where is it?")
    )
    assert assert_as_if_cold(engine, first).reused_tokens == 0
    assert assert_as_if_cold(engine, second).reused_tokens > 50
    assert assert_as_if_cold(engine, first).read_tokens <= 4


QUESTIONS = (
    user(PICTURE, "What colour is the circle?"),
    user("How many shapes are there?"),
    user(CLIP, "What happens first?"),
    user("List the shapes from left to right."),
)


@pytest.mark.parametrize("idle", [True, False])
def test_a_conversation_goes_on_as_if_it_had_been_read_cold(engine: Engine, idle: bool) -> None:
    messages: list[Message] = []
    for number, question in enumerate(QUESTIONS):
        messages.append(question)
        request = request_of(*messages)
        said = Said(engine, request)
        cold = Said(fresh(engine), request)
        assert said.text == cold.text
        if number and idle:
            assert said.read <= new_tokens(engine, request) + 4
        assert not number or said.read < cold.read
        messages.append(Message.text("assistant", said.text))
        if idle:
            with counted() as work:
                done = prepared(engine.catch_up(NEVER))
            assert done.is_complete
            assert work.read() == done.read_tokens
            assert work.read() < 40
        warm, _ = logits_of(engine, engine.memory, request)
        assert relative_error(warm, cold_logits(engine, request)) < 1e-5


def new_tokens(engine: Engine, request: ReplyRequest) -> int:
    """What the last message of a prompt adds to it, rendered, with the beginning of the reply."""
    media = read_media(engine.processor, request.messages, request.settings, NEVER)
    assert media is not None
    prompt = write_prompt(engine.processor, request, media, request.settings.thinking)
    return prompt.input_ids.size - prompt.turn_starts[-2]


CALCULATOR = {"type": "function", "function": {"name": "calculator"}}


@pytest.mark.parametrize("tools", [(), (CALCULATOR,)])
def test_only_a_call_of_a_tool_that_was_offered_stays_as_it_was_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tools: tuple[dict[str, object], ...]
) -> None:
    request = request_of(SYSTEM, user("Who are you?"))
    first = engine.processor.tokenizer.encode(Said(engine, request).text).ids[0]
    monkeypatch.setattr(engine.processor, "tool_call_id", first)
    Said(engine, replace(request, tools=tools))
    assert (prepared(engine.catch_up(NEVER)).read_tokens == 0) is bool(tools)


def test_two_branches_in_turn_say_the_same_again_and_read_nothing_twice(engine: Engine) -> None:
    beginning = (SYSTEM, user(PICTURE, "What colour is the circle?"))
    answer = Message.text("assistant", ask(engine, *beginning).text)
    a = (*beginning, answer, user("How many shapes are there? Count them one by one."))
    b = (*beginning, answer, user("Is there a green square to the left of the triangle?"))
    first_a, first_b = ask(engine, *a), ask(engine, *b)
    assert first_b.read < first_a.read
    for _ in range(2):
        for branch, first in ((a, first_a), (b, first_b)):
            again = ask(engine, *branch)
            assert again.text == first.text
            assert (again.read, again.patches) == (0, 0)


def test_short_branches_of_a_long_history_are_gone_back_to(engine: Engine) -> None:
    long = (user("Count. " * 60), Message.text("assistant", "One. " * 60), user("And now?"))
    short = (long[0], Message.text("assistant", "No."), user("Why?"))
    other = (user("Hello."),)
    texts = [ask(engine, *messages).text for messages in (long, short, other)]
    again = [ask(engine, *messages) for messages in (long, short, other)]
    assert [said.text for said in again] == texts
    assert max(said.read for said in again) == 0
    assert len(engine.memory.histories.paths) > 1


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("idle", [True, False])
def test_an_answer_is_made_anew_without_reading_anything(
    engine: Engine, idle: bool, thinking: bool
) -> None:
    messages = [user(PICTURE, CLIP, "What colour is the circle?")]
    messages.append(Message.text("assistant", ask(engine, *messages).text))
    messages.append(user("How many shapes are there?"))
    request = request_of(*messages, thinking=thinking)
    first = Said(engine, request)
    if idle:
        assert prepared(engine.catch_up(NEVER)).is_complete
    again = Said(engine, request)
    assert (again.read, again.patches) == (0, 0)
    assert again.text == first.text


def test_an_edited_message_reads_from_the_answer_before_it(engine: Engine) -> None:
    messages: list[Message] = []
    for question in QUESTIONS:
        messages.append(question)
        messages.append(Message.text("assistant", ask(engine, *messages).text))
        assert prepared(engine.catch_up(NEVER)).is_complete
    for place in (6, 4, 2):
        edited = (*messages[:place], user("Is there a square, perhaps?"))
        said = ask(engine, *edited)
        assert said.read <= new_tokens(engine, request_of(*edited)) + 4
        assert said.text == ask(fresh(engine), *edited).text


def test_a_long_message_that_is_changed_near_its_end_is_not_read_as_a_whole(engine: Engine) -> None:
    words = "word " * 700
    first = ask(engine, user(words, "What now?"))
    changed = request_of(user(words[:-100], "What else?"))
    said = Said(engine, changed)
    assert said.read < first.read // 3
    assert said.text == Said(fresh(engine), changed).text


def test_a_second_picture_leaves_all_before_it(engine: Engine, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (96, 96), "blue").save(other)
    one = ask(engine, user(PICTURE, "What is this?"))
    both = request_of(user(PICTURE, ImagePart(other), "What is this?"))
    said = Said(engine, both)
    picture = one.patches // 4
    assert said.stats.reused_tokens >= picture
    assert said.patches == 36, "the new one alone"
    assert (
        relative_error(logits_of(engine, engine.memory, both)[0], cold_logits(engine, both)) < 1e-5
    )


def test_a_picture_is_encoded_once_wherever_it_is_shown(engine: Engine, tmp_path: Path) -> None:
    copy = tmp_path / "another name.png"
    shutil.copyfile(PICTURE.path, copy)
    ask(engine, user(PICTURE, "What is this?"))
    elsewhere = request_of(SYSTEM, user("Look at this:", ImagePart(copy), "What do you see?"))
    said = Said(engine, elsewhere)
    assert said.patches == 0
    assert said.text == Said(fresh(engine), elsewhere).text


def test_a_known_clip_is_not_decoded_and_a_known_picture_not_opened(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = (user(PICTURE, CLIP, "What is this?"),)
    first = ask(engine, *messages)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was opened again")

    for name in ("sample_video", "probe_image", "load_image"):
        monkeypatch.setattr(looking, name, never)
    answered = (*messages, Message.text("assistant", first.text), user("And what else?"))
    assert ask(engine, *answered).patches == 0
    assert ask(engine, SYSTEM, user("Hm:", CLIP, PICTURE, "?")).patches == 0


def test_a_file_with_other_contents_is_another_picture(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "shape.png"
    found = []
    for colour in ("red", "blue", "red"):
        Image.new("RGB", (96, 96), colour).save(path)
        request = request_of(user(ImagePart(path), "What colour is it?"))
        warm, reading = logits_of(engine, engine.memory, request)
        np.testing.assert_array_equal(warm, cold_logits(engine, request))
        found.append(reading.read_tokens)
    assert found[0] > 0
    assert found[1] > 0
    assert found[2] == 0


def test_other_settings_make_another_picture(engine: Engine) -> None:
    for most in (2048, 4, 2048):
        request = request_of(user(PICTURE, CLIP, "What is this?"), max_image_tokens=most)
        warm, _ = logits_of(engine, engine.memory, request)
        np.testing.assert_array_equal(warm, cold_logits(engine, request))


def test_each_part_of_a_clip_is_another_clip(engine: Engine) -> None:
    for start_s in (None, 1.0, 2.0, 1.0):
        request = request_of(user(replace(CLIP, start_s=start_s), "What happens?"))
        warm, _ = logits_of(engine, engine.memory, request)
        np.testing.assert_array_equal(warm, cold_logits(engine, request))


def test_what_is_said_later_changes_no_state(engine: Engine) -> None:
    request = request_of(SYSTEM, user(PICTURE, "What is this?"))
    first, _ = logits_of(engine, engine.memory, request)
    kept = {
        length: kept.state
        for branch in engine.memory.histories.branches()
        for length, kept in branch.kept.items()
    }
    assert len(kept) >= 3
    before = {
        length: [np.array(array) for pair in state.states for array in pair]  # type: ignore[attr-defined]
        for length, state in kept.items()
    }
    answer = ask(engine, *request.messages).text
    history = (*request.messages, Message.text("assistant", answer))
    for number in range(3):
        ask(engine, *history, user("Say more. " * (number + 1)))
    for length, state in kept.items():
        arrays = [array for pair in state.states for array in pair]  # type: ignore[attr-defined]
        for array, wanted in zip(arrays, before[length], strict=True):
            np.testing.assert_array_equal(array, wanted)
    again, _ = logits_of(engine, engine.memory, request)
    np.testing.assert_array_equal(again, first)


def test_a_draft_is_read_ahead_up_to_its_last_picture(engine: Engine) -> None:
    answer = ask(engine, SYSTEM, user("Hello.")).text
    history = (SYSTEM, user("Hello."), Message.text("assistant", answer))
    with counted() as work:
        done = prepared(engine.prepare(request_of(*history, user(PICTURE, CLIP, "What i")), NEVER))
    assert done.is_complete
    assert (work.read(), work.patches) == (done.read_tokens, done.encoded_patches)
    assert work.patches > 0
    with counted() as work:
        for draft in ("", "What is th", "No, somethi"):
            request = request_of(*history, user(PICTURE, CLIP, draft))
            assert prepared(engine.prepare(request, NEVER)).is_complete
    assert (work.read(), work.patches) == (0, 0), "words change nothing"
    final = request_of(*history, user(PICTURE, CLIP, "What is this?"))
    said = Said(engine, final)
    words = engine.processor.tokenizer.encode("What is this?", add_special_tokens=False).ids
    ending = engine.processor.tokenizer.encode(
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False
    ).ids
    assert said.read <= len(words) + len(ending)
    assert said.patches == 0
    assert said.text == Said(fresh(engine), final).text


def test_a_picture_that_is_taken_out_of_a_draft_leaves_the_history_read(engine: Engine) -> None:
    answer = ask(engine, SYSTEM, user("Hello.")).text
    history = (SYSTEM, user("Hello."), Message.text("assistant", answer))
    draft = request_of(*history, user(CLIP, PICTURE, "What"))
    assert prepared(engine.prepare(draft, NEVER)).is_complete
    assert prepared(engine.catch_up(NEVER)).read_tokens == 0, "it has its next form already"
    for parts in ((CLIP,), ()):
        final = request_of(*history, user(*parts, "What is a shape?"))
        said = Said(engine, final)
        words = new_tokens(engine, request_of(*history, user("What is a shape?")))
        assert said.read <= words + 4
        assert said.text == Said(fresh(engine), final).text


def test_a_draft_of_another_conversation_does_not_stand_for_the_next_form_of_this(
    engine: Engine,
) -> None:
    beginning = (SYSTEM, user(PICTURE, "What colour is the circle?"))
    answer = Message.text("assistant", ask(engine, *beginning).text)
    assert prepared(engine.prepare(request_of(user(CLIP, "Wha")), NEVER)).is_complete
    assert prepared(engine.catch_up(NEVER)).read_tokens > 0
    more = request_of(*beginning, answer, user("How many shapes are there?"))
    assert Said(engine, more).read <= new_tokens(engine, more) + 4


def test_what_is_left_of_idle_work_does_not_end_the_reply_that_came_between(
    engine: Engine,
) -> None:
    ask(engine, SYSTEM, user(PICTURE, "Hello."))
    left = engine.idle(NEVER)
    next(left)
    request = request_of(SYSTEM, user("Who are you?"))
    reply = engine.reply(request, NEVER)
    begun = [next(reply) for _ in range(3)]
    list(left)
    events = [*begun, *reply]
    assert isinstance(events[-1], Finished)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == Said(fresh(engine), request).text


def test_a_draft_that_is_changed_costs_nothing_but_the_idle_work(engine: Engine) -> None:
    request = request_of(SYSTEM, user(CLIP, PICTURE, "What is this?"))
    assert prepared(engine.prepare(request, NEVER)).is_complete
    swapped = request_of(SYSTEM, user(PICTURE, CLIP, "What is this?"))
    removed = request_of(SYSTEM, user("What is this?"))
    for changed in (swapped, removed):
        said = Said(engine, changed)
        assert said.patches == 0
        assert said.text == Said(fresh(engine), changed).text


def test_work_ahead_is_stopped_between_two_chunks_and_gone_on_with(engine: Engine) -> None:
    request = request_of(SYSTEM, user("word " * 100, PICTURE))
    whole = prepared(fresh(engine).prepare(request, NEVER)).known_tokens
    cancel = threading.Event()
    events = []
    with counted() as work:
        for event in engine.prepare(request, cancel):
            events.append(event)
            if isinstance(event, Progress) and event.stage == "reading" and event.done >= 48:
                cancel.set()
        stopped = events[-1]
        assert isinstance(stopped, Prepared)
        assert not stopped.is_complete
        assert stopped.known_tokens < 80
        left = engine.prepare(request, NEVER)
        while not isinstance(event := next(left), Progress) or event.done < 100:
            pass
        assert prepared(engine.prepare(request, NEVER)).is_complete
    assert work.read() == whole, "each token once, however often it was stopped"
    assert Said(engine, request).text == Said(fresh(engine), request).text


def test_nothing_to_catch_up_with_is_said_so(engine: Engine) -> None:
    assert prepared(engine.catch_up(NEVER)) == Prepared(0, 0, 0, 0, is_complete=True)
    ask(engine, user("Hello."))
    assert prepared(engine.catch_up(NEVER)).read_tokens > 0
    assert prepared(engine.catch_up(NEVER)) == Prepared(0, 0, 0, 0, is_complete=True)


def test_a_reply_that_is_stopped_keeps_what_was_read(engine: Engine) -> None:
    request = request_of(SYSTEM, user("word " * 60, PICTURE, "What is this?"))
    cancel = threading.Event()
    for event in engine.reply(request, cancel):
        if isinstance(event, TextDelta):
            cancel.set()
    again = Said(engine, request)
    assert again.read == 0
    assert again.text == Said(fresh(engine), request).text


def test_a_reply_that_fails_keeps_what_was_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(SYSTEM, user(PICTURE, "word " * 60))
    layer = engine.model.model.language_model.layers[-1]
    real = type(layer).__call__
    calls = []

    def fails(self: object, *rest: object) -> mx.array:
        calls.append(self is layer)
        if sum(calls) == 4:
            raise RuntimeError("planted")
        result: mx.array = real(self, *rest)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(type(layer), "__call__", fails)
        with pytest.raises(RuntimeError, match="planted"):
            list(engine.reply(request, NEVER))
    again = Said(engine, request)
    assert again.patches == 0
    assert again.stats.reused_tokens > 0
    warm, _ = logits_of(engine, engine.memory, request)
    np.testing.assert_array_equal(warm, cold_logits(engine, request))


def test_a_reply_left_unfinished_ends_when_the_next_one_begins(engine: Engine) -> None:
    request = request_of(SYSTEM, user(PICTURE, "What is this?"))
    left = engine.reply(request, NEVER)
    while not isinstance(next(left), TextDelta):
        pass
    said = ask(engine, SYSTEM, user("Hello."))
    assert said.text == ask(fresh(engine), SYSTEM, user("Hello.")).text
    assert list(left) == []
    assert Said(engine, request).text == Said(fresh(engine), request).text


def test_the_budget_is_kept_and_the_answers_stay_right(loaded: Engine) -> None:
    one = Memory(loaded.model, LIMITS)
    logits_of(loaded, one, request_of(user("Hello.")))
    state_bytes = next(
        kept.nbytes for branch in one.histories.branches() for kept in branch.kept.values()
    )
    for states in (0, 4):
        limits = replace(LIMITS, state_bytes=states * state_bytes, feature_bytes=0)
        engine = fresh(loaded, limits)
        messages: list[Message] = []
        for question in QUESTIONS[:3]:
            messages.append(question)
            said = ask(engine, *messages)
            assert said.text == ask(loaded, *messages).text
            assert engine.memory.histories.nbytes <= limits.state_bytes
            messages.append(Message.text("assistant", said.text))
            prepared(engine.catch_up(NEVER))
            assert engine.memory.histories.nbytes <= limits.state_bytes
        assert ask(engine, user("Hello.")).text == ask(loaded, user("Hello.")).text


def test_forgetting_leaves_nothing_in_memory(loaded: Engine) -> None:
    engine = fresh(loaded)
    mx.clear_cache()
    before = mx.get_active_memory()
    ask(engine, SYSTEM, user(PICTURE, CLIP, "What is this?"))
    ask(engine, user("Hello."))
    assert mx.get_active_memory() > before
    engine.forget()
    assert mx.get_active_memory() <= before
    assert ask(engine, user("Hello.")).stats.reused_tokens == 0


def test_an_engine_that_is_let_go_of_takes_its_memory_with_it(loaded: Engine) -> None:
    """At once, and on its own thread: whatever waits for the garbage collector may be freed on
    another."""
    engine = fresh(loaded)
    ask(engine, SYSTEM, user(PICTURE, "What is this?"))
    ask(engine, SYSTEM, user(PICTURE, "And this?"))
    branches = [weakref.ref(branch) for branch in engine.memory.histories.branches()]
    assert len(branches) > 2
    gc.collect()
    gc.disable()
    try:
        del engine
        assert [branch() for branch in branches] == [None] * len(branches)
    finally:
        gc.enable()
