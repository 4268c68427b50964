"""Conversations for the prompt tests and for the tool that asks the reference about them.

In the form that chat templates read; `message_of` turns one into this library's own.
"""

from pathlib import Path
from typing import Any

from mlx_model.messages import ImagePart, Message, Part, TextPart, VideoPart

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


def _user(content: Any) -> Turn:
    return {"role": "user", "content": content}


def _assistant(content: Any, **fields: Any) -> Turn:
    return {"role": "assistant", "content": content, **fields}


def _tool(content: Any) -> Turn:
    return {"role": "tool", "content": content}


def _call(name: str, **arguments: Any) -> Turn:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


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

# Refused by the templates.
REFUSED: dict[str, list[Turn]] = {
    "no messages": [],
    "no question": [_SYSTEM],
    "only an answer": [_assistant("a")],
    "late system": [_user("a"), _SYSTEM],
    "picture in system": [{"role": "system", "content": [_IMAGE]}, _user("a")],
    "clip in system": [{"role": "system", "content": [_VIDEO]}, _user("a")],
}


def message_of(turn: Turn) -> Message:
    """One turn as this library's own message; pictures and clips get paths that do not exist."""
    content = turn["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
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


def media_counts(turns: list[Turn]) -> tuple[int, int]:
    """Pictures and clips in a conversation."""
    kinds = [
        part["type"]
        for turn in turns
        if not isinstance(turn["content"], str)
        for part in turn["content"]
    ]
    return kinds.count("image"), kinds.count("video")
