"""Conversations for the prompt tests and for the tool that asks the reference about them.

In the form that chat templates read; `message_of` turns one into this library's own. In none of
them does the spoken text hold a control token: there the reference and this library differ.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_model.messages import ImagePart, Message, Part, TextPart, VideoPart
from mlx_model.prompt import MediaPlan

Turn = dict[str, Any]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'Weather in a place, in °C & "plain" words (<b>not</b> HTML).',
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {}}}
ODD_TOOL = {
    "type": "function",
    "function": {
        "name": "größe_\u0338",
        "description": "",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "ünit": {"enum": ["mm", None, 1, 1.0, -0.0, False], "default": None},
                "deep": {"items": {"items": [{"type": ["null", "number"]}, []]}, "minimum": 1e-7},
            },
            "additionalProperties": False,
        },
    },
}


def _user(content: Any) -> Turn:
    return {"role": "user", "content": content}


def _assistant(content: Any, **fields: Any) -> Turn:
    return {"role": "assistant", "content": content, **fields}


def _tool(content: Any) -> Turn:
    return {"role": "tool", "content": content}


def _call(function: str, **arguments: Any) -> Turn:
    return {"type": "function", "function": {"name": function, "arguments": arguments}}


def _text(text: str) -> Turn:
    return {"type": "text", "text": text}


_TEXT = {"type": "text", "text": "What is this?"}
_IMAGE = {"type": "image"}
_VIDEO = {"type": "video"}
_SYSTEM = {"role": "system", "content": "You answer briefly."}
_WEATHER_CALL = _assistant("", tool_calls=[_call("get_weather", place="Oslo", days=2)])

# name: (turns, tools)
CONVERSATIONS: dict[str, tuple[list[Turn], list[Turn]]] = {
    "plain": ([_user("Hello")], []),
    "system": ([_SYSTEM, _user("Hello")], []),
    "empty system": ([{"role": "system", "content": ""}, _user("Hello")], []),
    "system of spaces": ([{"role": "system", "content": " \n "}, _user("Hello")], []),
    "system in parts": (
        [{"role": "system", "content": [{"type": "text", "text": " a"}, _TEXT]}, _user("b")],
        [],
    ),
    "empty question": ([_user("")], []),
    "question of spaces": ([_user("  \n\t ")], []),
    "edges trimmed": ([_user("\n\n  Hello \n")], []),
    "inner space kept": ([_user("a\n\n\n  b\t c")], []),
    "unicode": ([_user("Grüße, 你好, שלום, 👩‍👩‍👧 e\u0301 ﬁ")], []),
    "three turns": (
        [_user("My name is Ada."), _assistant("Hello, Ada."), _user("What is my name?")],
        [],
    ),
    "spaces around an answer": ([_user("a"), _assistant("\n b \n"), _user("c")], []),
    "empty answer": ([_user("a"), _assistant(""), _user("b")], []),
    "two questions in a row": ([_user("a"), _user("b")], []),
    "two answers in a row": ([_user("a"), _assistant("b"), _assistant("c"), _user("d")], []),
    "ends with an answer": ([_user("a"), _assistant("b")], []),
    "thought dropped": (
        [_user("a"), _assistant("b", reasoning_content="hmm"), _user("c")],
        [],
    ),
    "thought kept": ([_user("a"), _assistant("b", reasoning_content="\n hmm \n")], []),
    "empty thought kept": ([_user("a"), _assistant("b", reasoning_content="")], []),
    "thought inside content": (
        [_user("a"), _assistant("<think>\nhmm\n</think>\n\nb"), _user("c")],
        [],
    ),
    "thought inside last content": ([_user("a"), _assistant("<think>\nhmm\n</think>\n\nb")], []),
    "system and thoughts": (
        [
            _SYSTEM,
            _user("a"),
            _assistant("b", reasoning_content="one"),
            _user("c"),
            _assistant("d", reasoning_content="two"),
            _user("e"),
        ],
        [],
    ),
    "picture first": ([_user([_IMAGE, _TEXT])], []),
    "picture last": ([_user([_TEXT, _IMAGE])], []),
    "picture alone": ([_user([_IMAGE])], []),
    "two pictures": ([_user([_IMAGE, _IMAGE, _TEXT])], []),
    "picture between texts": ([_user([_TEXT, _IMAGE, {"type": "text", "text": " and?"}])], []),
    "clip": ([_user([_VIDEO, _TEXT])], []),
    "clip after text": ([_user([{"type": "text", "text": "Look:"}, _VIDEO, _TEXT])], []),
    "picture and clip": ([_user([_IMAGE, _VIDEO, _TEXT])], []),
    "two clips around a picture": ([_user([_VIDEO, _IMAGE, _VIDEO])], []),
    "pictures in two turns": (
        [_user([_IMAGE, _TEXT]), _assistant("A cat."), _user([_TEXT, _IMAGE])],
        [],
    ),
    "text after a picture turn": (
        [_user([_IMAGE, _TEXT]), _assistant("A cat."), _user("What colour?")],
        [],
    ),
    "empty parts": ([_user([{"type": "text", "text": ""}, _TEXT])], []),
    "tools": ([_user("Weather in Oslo?")], [WEATHER]),
    "tools and system": ([_SYSTEM, _user("Weather in Oslo?")], [WEATHER, CLOCK]),
    "tools and empty system": ([{"role": "system", "content": ""}, _user("a")], [CLOCK]),
    "tool call": ([_user("Weather?"), _WEATHER_CALL, _tool("8 °C")], [WEATHER]),
    "tool call with words": (
        [
            _user("Weather?"),
            _assistant("I look it up.", tool_calls=[_call("get_weather", place="Oslo")]),
            _tool(" 8 °C\n"),
        ],
        [WEATHER],
    ),
    "tool call with thought": (
        [
            _user("Weather?"),
            _assistant("", reasoning_content="Ask.", tool_calls=[_call("clock")]),
            _tool("noon"),
        ],
        [CLOCK],
    ),
    "two questions before a call": (
        [_user("Weather?"), _user("In Oslo."), _WEATHER_CALL, _tool("8 °C")],
        [WEATHER],
    ),
    "two calls at once": (
        [
            _user("Weather?"),
            _assistant("", tool_calls=[_call("get_weather", place="Oslo"), _call("clock")]),
            _tool("8 °C"),
            _tool("noon"),
        ],
        [WEATHER, CLOCK],
    ),
    "tool chain": (
        [
            _user("Weather?"),
            _assistant("", reasoning_content="First.", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("", reasoning_content="Then.", tool_calls=[_call("get_weather", place="X")]),
            _tool("8 °C"),
        ],
        [WEATHER, CLOCK],
    ),
    "question after a tool chain": (
        [
            _user("Weather?"),
            _assistant("", reasoning_content="First.", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("It is noon.", reasoning_content="Done."),
            _user("Thanks. And in Rome?"),
        ],
        [WEATHER, CLOCK],
    ),
    "values of every kind": (
        [
            _user("a"),
            _assistant(
                "",
                tool_calls=[
                    _call(
                        "f",
                        number=1,
                        part=1.0,
                        yes=True,
                        no=False,
                        nothing=None,
                        items=[1, "x", None, True],
                        table={"a": {"b": [False]}},
                        text="two\nlines",
                        empty="",
                        big=10**20,
                    )
                ],
            ),
            _tool("done"),
        ],
        [CLOCK],
    ),
    "call without function wrapper": (
        [_user("a"), _assistant("", tool_calls=[{"name": "clock", "arguments": {}}]), _tool("1")],
        [CLOCK],
    ),
    "call without arguments": (
        [_user("a"), _assistant("", tool_calls=[{"name": "clock"}]), _tool("1")],
        [CLOCK],
    ),
    "tool result with a picture": ([_user("a"), _WEATHER_CALL, _tool([_IMAGE, _TEXT])], [WEATHER]),
    "template syntax in text": ([_user("{{ 7 * 7 }} {% raw %} {# x #}")], []),
    "code": ([_user("```python\nif a < b > c:\n    print('<b>')\n```")], []),
}

# Thinking in history, in each of the shapes that programs store it in.
CONVERSATIONS |= {
    "thought with blank lines and indentation": (
        [_user("a"), _assistant("b", reasoning_content="\n\n  one\n\n    two \n\n")],
        [],
    ),
    "thought of spaces": ([_user("a"), _assistant("b", reasoning_content=" \n\t ")], []),
    "thought without an answer": ([_user("a"), _assistant("", reasoning_content="hmm")], []),
    "thought in a field that is null": ([_user("a"), _assistant("b", reasoning_content=None)], []),
    "thought inside content on one line": ([_user("a"), _assistant("<think>hmm</think>b")], []),
    "thought inside content without its opening": (
        [_user("a"), _assistant("hmm\nhm\n</think>\n\nb")],
        [],
    ),
    "thought inside content without its opening, dropped": (
        [_user("a"), _assistant("hmm\nhm\n</think>\n\nb"), _user("c")],
        [],
    ),
    "empty thought inside content": (
        [_user("a"), _assistant("<think>\n\n</think>\n\nb")],
        [],
    ),
    "empty thought inside content, dropped": (
        [_user("a"), _assistant("\n<think>\n\n</think>\n\nb"), _user("c")],
        [],
    ),
    "thought inside content before a call": (
        [
            _user("a"),
            _assistant("<think>\nhmm\n</think>\n\n", tool_calls=[_call("clock")]),
            _tool("noon"),
        ],
        [CLOCK],
    ),
    "thoughts of both kinds": (
        [
            _user("a"),
            _assistant("<think>\none\n</think>\n\nb"),
            _user("c"),
            _assistant("d", reasoning_content="two"),
            _user("e"),
            _assistant("", reasoning_content="three", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("f"),
        ],
        [],
    ),
}

# Tools: chains, several at once, odd results and arguments.
CONVERSATIONS |= {
    "odd tool": ([_user("a")], [ODD_TOOL, WEATHER]),
    "tools, system in parts": (
        [{"role": "system", "content": [_text(" a\n"), _text("b ")]}, _user("c")],
        [CLOCK],
    ),
    "chain of three": (
        [
            _SYSTEM,
            _user("Weather?"),
            _assistant("I ask.", reasoning_content="One.", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("", tool_calls=[_call("get_weather", place="A"), _call("clock")]),
            _tool("8 °C"),
            _tool("one"),
            _assistant(" Now. ", reasoning_content="", tool_calls=[_call("clock")]),
            _tool("two"),
        ],
        [WEATHER, CLOCK],
    ),
    "question after a chain of calls alone": (
        [
            _user("Weather?"),
            _assistant("", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("", reasoning_content="More.", tool_calls=[_call("clock")]),
            _tool("one"),
            _user("Stop."),
        ],
        [CLOCK],
    ),
    "chain, question, chain": (
        [
            _user("a"),
            _assistant("", reasoning_content="One.", tool_calls=[_call("clock")]),
            _tool("noon"),
            _assistant("It is noon.", reasoning_content="Two."),
            _user("b"),
            _assistant("", reasoning_content="Three.", tool_calls=[_call("clock")]),
            _tool("one"),
        ],
        [CLOCK],
    ),
    "tool results of nothing": (
        [
            _user("a"),
            _assistant("", tool_calls=[_call("clock"), _call("clock"), _call("clock")]),
            _tool(""),
            _tool(" \n "),
            _tool([]),
        ],
        [CLOCK],
    ),
    "tool result in JSON": (
        [_user("a"), _WEATHER_CALL, _tool('{"t": 8.0, "ok": true, "x": [null, "\\n"]}\n')],
        [WEATHER],
    ),
    "tool result in parts with pictures and a clip": (
        [
            _user("a"),
            _WEATHER_CALL,
            _tool([_text("Look: "), _IMAGE, _VIDEO]),
            _tool([_IMAGE]),
            _assistant("Rain."),
            _user([_IMAGE, _text("And here?")]),
        ],
        [WEATHER],
    ),
    "tool result that nobody asked for": ([_user("a"), _tool("b")], []),
    "tool result first": ([_tool("a"), _user("b")], []),
    "tool result between questions": ([_user("a"), _tool("b"), _user("c"), _tool("d")], []),
    "odd arguments": (
        [
            _user("a"),
            _assistant(
                "",
                tool_calls=[
                    _call(
                        "größe_\u0338",
                        **{
                            "minus": -0.0,
                            "tiny": 1e-7,
                            "huge": 1e20,
                            "long": -(2**70),
                            "lists": [[], [[]], [1, [2.0, [None]]]],
                            "none of it": {},
                            "\u0338key": "\u0338value",
                            "spaces": "  two \n\n",
                            "quotes": '"\\" \'',
                            "keys": {"b": 1, "a": {"ü": "ö", "": -1.5}},
                            "": "no name",
                        },
                    )
                ],
            ),
            _tool("done"),
        ],
        [ODD_TOOL],
    ),
    "arguments in an old turn": (
        [
            _user("a"),
            _assistant("", tool_calls=[_call("f", yes=True, part=2.0, nothing=None, list=[True])]),
            _tool("done"),
            _assistant("b"),
            _user("c"),
        ],
        [],
    ),
    "call without content": (
        [_user("a"), _assistant(None, tool_calls=[_call("clock")]), _tool("noon")],
        [CLOCK],
    ),
    "no calls in the list": ([_user("a"), _assistant("b", tool_calls=[])], [CLOCK]),
    "words of spaces before a call": (
        [_user("a"), _assistant(" \n ", tool_calls=[_call("clock")]), _tool("noon")],
        [CLOCK],
    ),
}

# Pictures and clips in every place.
CONVERSATIONS |= {
    "picture in the last of three turns": (
        [_user("a"), _assistant("b"), _user("c"), _assistant("d"), _user([_IMAGE])],
        [],
    ),
    "pictures in every turn": (
        [
            _user([_IMAGE, _IMAGE]),
            _assistant("Cats."),
            _user([_text("a"), _IMAGE, _text("b"), _IMAGE]),
            _assistant("Dogs."),
            _user([_IMAGE, _TEXT]),
        ],
        [],
    ),
    "picture in an answer": (
        [_user("Draw a cat."), _assistant([_text("Here: "), _IMAGE]), _user("Bigger.")],
        [],
    ),
    "picture in the last answer": ([_user("Draw."), _assistant([_IMAGE], tool_calls=[])], []),
    "picture with a system and tools": ([_SYSTEM, _user([_IMAGE, _TEXT])], [CLOCK]),
    "picture with a thought": (
        [_user([_IMAGE, _TEXT]), _assistant("A cat.", reasoning_content="Fur."), _user("Sure?")],
        [],
    ),
    "picture beside spaces": ([_user([_text(" \n"), _IMAGE, _text("\n ")])], []),
    "picture beside nothing": ([_user([_text(""), _IMAGE, _text("")])], []),
    "picture after an opening bracket": ([_user([_text("a <"), _IMAGE, _text("> b")])], []),
    "picture before a combining mark": ([_user([_IMAGE, _text("\u0338 \u0301")])], []),
    "clip first and last": ([_user([_VIDEO, _TEXT, _VIDEO])], []),
    "clips side by side": ([_user([_VIDEO, _VIDEO, _VIDEO])], []),
    "clip alone": ([_user([_VIDEO])], []),
    "clip after an opening bracket": ([_user([_text("a <"), _VIDEO, _text(">")])], []),
    "clip after a digit": ([_user([_text("12"), _VIDEO, _text("34")])], []),
    "clips in two turns": (
        [_user([_VIDEO, _TEXT]), _assistant("A dance."), _user([_TEXT, _VIDEO])],
        [],
    ),
    "clip in an answer": ([_user("a"), _assistant([_VIDEO, _text("b")]), _user("c")], []),
    "clips and pictures in turns": (
        [
            _SYSTEM,
            _user([_VIDEO, _IMAGE, _TEXT]),
            _assistant("b", reasoning_content="hmm"),
            _user([_IMAGE, _VIDEO]),
            _assistant("c"),
            _user([_text("And "), _VIDEO, _text(" beside "), _IMAGE, _text("?")]),
        ],
        [],
    ),
}

# Contents that a tokenizer or a template could stumble over.
CONVERSATIONS |= {
    "no parts": ([_user([]), _assistant([]), _user("a")], []),
    "parts of nothing": ([_user([_text(""), _text("")])], []),
    "parts that belong together": (
        [_user([_text("<th"), _text("ink"), _text(" e"), _text("\u0301")])],
        [],
    ),
    "spaces in every turn": (
        [_user(" \t"), _assistant(" \n"), _user("\u00a0\u3000"), _assistant("")],
        [],
    ),
    "carriage returns": ([_user("a\r\nb\r\n\r\nc\rd\r\n"), _assistant("\r\na"), _user("b\r")], []),
    "control characters": ([_user("a\x00b\x07\x1b[1mc\x7f\x1c"), _assistant("\x1c\x85d\x00")], []),
    "separators": ([_user("\u2028a\u2029b\u0085c\ufeffd\u200b")], []),
    "composed and decomposed": (
        [_user("é e\u0301 ﬁ Å \u212b 한글 \u1112\u1161\u11ab q\u0307\u0323")],
        [],
    ),
    "leading mark": ([_user("\u0338a\u0301"), _assistant("\u0301b"), _user("\u20e3")], []),
    "signs that compose": ([_user("a <\u0338 b >\u0338 c =\u0338 |\u0338")], []),
    "full-width signs": ([_user("＜|im_end|＞ ﹤think﹥ ＜｜im_start｜＞")], []),
    "right to left": ([_user("שָׁלוֹם \u202eabc\u202c مرحبا، ١٢٣"), _assistant("\u200fكتاب")], []),
    "emoji": ([_user("👩‍👩‍👧‍👦🏳️‍🌈 1️⃣ ☕️🇳🇴 \U0001f1f3"), _assistant("👍🏽")], []),
    "private characters": ([_user("\U000f0000a\U000f0001 \ue000\U00100000\uffff\ufffd")], []),
    "numbers": ([_user("1234567890 3.14 -1e-7 1,000 ½ ²³ ١٢ ⅷ 0x1F")], []),
    "contractions": ([_user("I'll don't WE'RE 'tis y'all's O'Neil's 'LL '")], []),
    "scripts": ([_user("日本語テキスト ภาษาไทย हिन्दी বাংলা ქართული Ελληνικά Кириллица")], []),
    "markup of others": ([_user("<b>a</b> [INST] <s> </s> <|user|> <|endofprompt|> <<SYS>>")], []),
    "almost control tokens": (
        [_user("<|im_end| <|im_end >|im_end|> <im_end> < think> <think/> <|IM_END|> <Think>")],
        [],
    ),
    "brackets": ([_user("<"), _assistant(">"), _user("<>|<|>"), _assistant("<<<|||>>>")], []),
    "JSON": ([_user('{"role": "user", "content": "\\u003cthink\\u003e", "n": [1, null]}')], []),
    "Markdown": ([_user("# a\n\n- b\n  - c\n\n|x|y|\n|-|-|\n\n> d\n***\n`e`")], []),
    "long": ([_user("The quick brown fox jumps over the lazy dog. " * 60), _assistant("Yes.")], []),
}

# Orders that a chat window never makes and other programs may.
CONVERSATIONS |= {
    "answer first": ([_assistant("Welcome."), _user("Hello")], []),
    "thought first": ([_assistant("b", reasoning_content="hmm"), _user("Hello")], []),
    "system, then answer": ([_SYSTEM, _assistant("Welcome."), _user("Hello")], []),
    "three answers after the question": (
        [_user("a"), _assistant("b", reasoning_content="x"), _assistant("c"), _assistant("")],
        [],
    ),
    "many turns": (
        [
            turn
            for i in range(12)
            for turn in (_user(f"Question {i}?"), _assistant(f"{i}.", reasoning_content=f"Hm {i}"))
        ]
        + [_user("Last?")],
        [],
    ),
}

# Refused by the templates.
REFUSED: dict[str, list[Turn]] = {
    "no messages": [],
    "no question": [_SYSTEM],
    "only an answer": [_assistant("a")],
    "late system": [_user("a"), _SYSTEM],
    "picture in system": [{"role": "system", "content": [_IMAGE]}, _user("a")],
    "clip in system": [{"role": "system", "content": [_VIDEO]}, _user("a")],
    "picture in system after words": [
        {"role": "system", "content": [_text("a"), _IMAGE]},
        _user("b"),
    ],
    "two systems": [_SYSTEM, _SYSTEM, _user("a")],
    "system after the answer": [_user("a"), _assistant("b"), _SYSTEM, _user("c")],
    "only tool results": [_tool("a"), _tool("b")],
    "answers and tool results": [_SYSTEM, _assistant("a", tool_calls=[_call("clock")]), _tool("b")],
    "developer": [{"role": "developer", "content": "a"}, _user("b")],
    "role of nobody": [_user("a"), {"role": "", "content": "b"}],
    "sound": [_user([{"type": "audio"}])],
    "number for content": [_user("a"), _assistant(7)],
    "mapping for content": [_user({"text": "a"})],
    "call without a name": [_user("a"), _assistant("", tool_calls=[{"arguments": {}}])],
    "call with arguments in a list": [
        _user("a"),
        _assistant("", tool_calls=[{"name": "f", "arguments": [1]}]),
    ],
}


@dataclass(frozen=True, slots=True)
class ClipCase:
    """A clip as the reference wants it (frame numbers and rate) and as this library does.

    Grids are (t, h, w) in patches; the times are seconds, worked out by hand.
    """

    grid: tuple[int, int, int]
    frames: tuple[int, ...]
    fps: float
    times_s: tuple[float, ...]


# The n-th picture and the n-th clip of every conversation; then they start over.
PICTURE_GRIDS = ((1, 4, 6), (1, 2, 2), (1, 8, 4))
CLIPS = (
    # Halves that .1f rounds down and up, and an odd number of frames: the last one counts twice.
    ClipCase((2, 4, 4), (0, 1, 2, 3), 2.0, (0.25, 1.25)),
    ClipCase((3, 2, 4), (0, 7, 13, 20, 26), 25.0, (0.14, 0.66, 1.04)),
    ClipCase((1, 4, 2), (0,), 30.0, (0.0,)),
)


def message_of(turn: Turn) -> Message:
    """One turn as this library's own message; pictures and clips get paths that do not exist."""
    content = turn["content"]
    parts = [_text(content)] if isinstance(content, str) else content or []
    return Message(
        role=turn["role"],
        content=tuple(_part_of(part) for part in parts),
        reasoning=turn.get("reasoning_content"),
        tool_calls=tuple(turn.get("tool_calls", ())),
    )


def _part_of(part: Turn) -> Part:
    if part["type"] == "text":
        return TextPart(part["text"])
    return ImagePart(Path("a.png")) if part["type"] == "image" else VideoPart(Path("a.mp4"))


def media_of(turns: list[Turn]) -> tuple[list[tuple[int, int, int]], list[ClipCase]]:
    """Grids of the pictures and the clips in a conversation, in order of appearance."""
    kinds = [
        part["type"]
        for turn in turns
        if isinstance(turn["content"], list)
        for part in turn["content"]
    ]
    pictures = [PICTURE_GRIDS[i % len(PICTURE_GRIDS)] for i in range(kinds.count("image"))]
    return pictures, [CLIPS[i % len(CLIPS)] for i in range(kinds.count("video"))]


def plan_of(turns: list[Turn]) -> MediaPlan:
    """The same as `PromptBuilder` takes it."""
    pictures, clips = media_of(turns)
    return MediaPlan(pictures, [clip.grid for clip in clips], [clip.times_s for clip in clips])
