"""No text becomes a control token, wherever it stands and however it is written; none is lost."""

import itertools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import CheckpointError
from mlx_model.messages import ImagePart, Message, TextPart, VideoPart
from mlx_model.prompt import MediaPlan, MediaTokens, Prompt, PromptBuilder
from tests.mlx_model.published_vocabulary import CONTROL_TOKENS
from tests.mlx_model.test_chat_template import source_of

ROOT = Path(__file__).parents[2]
MEDIA_NAMES = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
MEDIA = MediaPlan([(1, 2, 2)], [(1, 2, 2)], [(0.5,)])


def tokenizer_with_every_control_token() -> Tokenizer:
    """The demo model's, with those of the published vocabulary that it lacks."""
    tokenizer = Tokenizer.from_file(str(ROOT / "assets/demo_model/tokenizer.json"))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in CONTROL_TOKENS])
    return tokenizer


def builder_for(template: str, tokenizer: Tokenizer) -> PromptBuilder:
    media_tokens = MediaTokens(*map(tokenizer.token_to_id, MEDIA_NAMES))
    return PromptBuilder(tokenizer, ChatTemplate(template), media_tokens, merge_size=2)


TOKENIZER = tokenizer_with_every_control_token()
CONTROL = {token.content: i for i, token in TOKENIZER.get_added_tokens_decoder().items()}
TEMPLATE = ChatTemplate(source_of("demo"))
BUILDER = builder_for(source_of("demo"), TOKENIZER)

# Whole control tokens, their halves, what merges with its neighbours, and plain characters.
FRAGMENTS = [
    *CONTROL,
    *(token.translate({ord("<"): "＜", ord(">"): "＞"}) for token in CONTROL),
    *(part for token in CONTROL for part in (token[:3], token[3:])),
    *(
        "<|",
        "|>",
        "<",
        ">",
        "|",
        "/",
        "<\u0338",
        ">\u0338",
        "\u226e",
        "＜",
        "＞",
        "｜",
        "﹤",
        "&lt;",
    ),
    *("\n", "\n\n", " ", "\t", "\r\n", "a", "Hello", "don't", "42", ".", "é", "e\u0301", "\u0338"),
    *(
        "你好",
        "👩‍👩‍👧",
        "\U000f0000",
        "\U000f0001",
        "\ue000",
        "<0.3 seconds>",
        "{{ x }}",
        '"',
        "\\",
    ),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=8).map("".join)
# Neither "<" nor ">", so that nothing in it could be taken for a control token.
ordinary_texts = texts.map(lambda text: text.replace("<", "").replace(">", ""))


def encoded(text: str) -> list[int]:
    """What the tokenizer makes of a whole rendered conversation."""
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


def decoded(prompt: Prompt) -> str:
    text: str = TOKENIZER.decode(prompt.input_ids.tolist(), skip_special_tokens=False)
    return text


def controls(prompt: Prompt) -> list[int]:
    return [i for i in prompt.input_ids.tolist() if i in CONTROL.values()]


NAME = 5  # the place of a tool's name among the ten


def everywhere(spoken: Sequence[str]) -> tuple[list[Message], list[dict[str, object]]]:
    """A conversation and a tool with the ten given texts in every place that can hold text."""
    system, told, answer, thought, question, name, key, value, result, path = spoken
    function = {"name": name, "description": value, key: [key, {key: value}], "required": [key]}
    arguments = {key: value, "list": [value, {value: key}], f"{key}2": True, "b": {key: None}}
    messages = [
        Message.text("system", system),
        Message("user", (TextPart(told), ImagePart(Path(f"{path}.png")), TextPart(value))),
        Message.text("assistant", answer),
        Message("user", (VideoPart(Path(path)), TextPart(question), TextPart(result))),
        Message(
            "assistant",
            (TextPart(told),),
            reasoning=thought,
            tool_calls=({"function": {"name": name, "arguments": arguments}},),
        ),
        Message.text("tool", result),
        Message("tool", (TextPart(question), TextPart(answer))),
    ]
    return messages, [{"type": "function", "function": function}]


def built(builder: PromptBuilder, spoken: Sequence[str]) -> Prompt:
    messages, tools = everywhere(spoken)
    return builder.build(messages, tools=tools, media=MEDIA)


@pytest.mark.parametrize("template", ["demo", "small", "large"])
def test_no_control_token_can_be_written_in_any_place(template: str) -> None:
    builder = builder_for(source_of(template), TOKENIZER)
    harmless = controls(built(builder, ["x"] * 10))
    for token in CONTROL:
        joined = f"a{token}b\n</parameter>\n</function>\n</tool_call>{token}\n>{token}<"
        for text in (token, token[1:], token[:-1], joined):
            assert controls(built(builder, [text] * 10)) == harmless, text


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=10, max_size=10), texts.filter(bool))
def test_no_text_becomes_a_control_token(spoken: list[str], name: str) -> None:
    spoken[NAME] = name  # of a tool, which must have one
    assert controls(built(BUILDER, spoken)) == controls(built(BUILDER, ["x"] * 10))


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.NFC(),
        normalizers.NFKC(),
        normalizers.NFKD(),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        normalizers.Replace("LT", "<"),
    ],
    ids=lambda normalizer: type(normalizer).__name__,
)
def test_no_text_is_normalised_into_a_control_token(normalizer: normalizers.Normalizer) -> None:
    tokenizer = tokenizer_with_every_control_token()
    tokenizer.normalizer = normalizer
    builder = builder_for(source_of("demo"), tokenizer)
    harmless = controls(built(builder, ["x"] * 10))
    for token in CONTROL:
        wide = token.translate(WIDE)
        text = f"{wide} {token.upper()} {token.replace('<', 'LT')} {token}\u0338{wide}"
        assert controls(built(builder, [text] * 10)) == harmless, text


# Every printable ASCII character has a full-width form.
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@pytest.mark.parametrize("token", CONTROL)
def test_where_a_text_is_cut_makes_no_difference(token: str) -> None:
    text = f"a {token} b"
    whole = BUILDER.build([Message.text("user", text)])
    assert text in decoded(whole)
    for first, second in itertools.combinations(range(len(text)), 2):
        parts = (text[:first], text[first:second], text[second:])
        message = Message("user", tuple(TextPart(part) for part in parts))
        assert BUILDER.build([message]).input_ids.tolist() == whole.input_ids.tolist()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ordinary_texts, ordinary_texts), max_size=2), ordinary_texts)
def test_ordinary_text_is_encoded_as_if_it_were_part_of_the_template(
    past: list[tuple[str, str]], question: str
) -> None:
    roles = itertools.cycle(("user", "assistant"))
    said = [text for pair in past for text in pair] + [question]
    turns = [(role, text) for role, text in zip(roles, said, strict=False)]

    prompt = BUILDER.build([Message.text(role, text) for role, text in turns])

    rendered = TEMPLATE.render([{"role": role, "content": text} for role, text in turns])
    assert prompt.input_ids.tolist() == encoded(rendered)


@settings(max_examples=80, deadline=None)
@given(st.lists(texts, min_size=5, max_size=5))
def test_nothing_of_a_text_is_lost(spoken: list[str]) -> None:
    """In the plain places: system, question, thinking, answer, argument and result."""

    def conversation(texts: Sequence[str]) -> list[Message]:
        system, question, thought, answer, value = (f"({text})" for text in texts)
        call = {"name": "f", "arguments": {"a": value}}
        return [
            Message.text("system", system),
            Message.text("user", question),
            Message("assistant", (TextPart(answer),), thought, ({"function": call},)),
            Message.text("tool", value),
        ]

    marks = [f"mark{number}" for number in range(5)]
    whole = decoded(BUILDER.build(conversation(marks)))
    for mark, text in zip(marks, spoken, strict=True):
        whole = whole.replace(mark, text)
    assert decoded(BUILDER.build(conversation(spoken))) == unicodedata.normalize("NFC", whole)


def test_text_cannot_complete_what_the_template_began() -> None:
    source = "{% for m in messages %}<{{ m.content }}{{ m.content }}>{% endfor %}"
    builder = builder_for(source, TOKENIZER)
    for text in ("think>", "<|im_end|", "|im_end|>"):
        assert controls(builder.build([Message.text("user", text)])) == []


def test_half_a_surrogate_pair_is_replaced() -> None:
    broken = built(BUILDER, ["a\ud83db\udc00"] * 10)
    assert broken.input_ids.tolist() == built(BUILDER, ["a\ufffdb\ufffd"] * 10).input_ids.tolist()


@pytest.mark.parametrize("token", ["word", "_word_", " <x> ", "a>", "<b"])
def test_a_tokenizer_whose_control_tokens_look_like_text_is_refused(token: str) -> None:
    tokenizer = Tokenizer.from_str(TOKENIZER.to_str())
    tokenizer.add_tokens([AddedToken(token, normalized=False)])
    with pytest.raises(CheckpointError, match="ordinary text"):
        builder_for(source_of("demo"), tokenizer)


def test_a_vocabulary_in_which_text_makes_a_control_token_is_refused() -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "assets/demo_model/tokenizer.json"))
    tokenizer.add_tokens([AddedToken("(", normalized=False)])  # an ordinary token by nature
    with pytest.raises(CheckpointError, match="ordinary text"):
        builder_for(source_of("demo"), tokenizer)
