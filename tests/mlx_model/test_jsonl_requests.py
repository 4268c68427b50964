"""Lines become commands, or a sentence that says what is wrong with them."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_model.events import FinishReason
from mlx_model.jsonl_requests import Ask, Cancel, Prepare, Refused, parse_line
from mlx_model.messages import (
    ImagePart,
    Message,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)

README = Path(__file__).parents[2] / "README.md"
HELLO = [{"role": "user", "content": "Hello"}]


def parse(data: Any) -> Ask | Prepare | Cancel | Refused:
    return parse_line(json.dumps(data).encode())


def test_the_shortest_request_has_the_promised_defaults() -> None:
    command = parse({"id": 1, "messages": HELLO})
    assert command == Ask(1, ReplyRequest((Message.text("user", "Hello"),), ReplySettings()))
    assert isinstance(command, Ask)
    chosen = command.request.settings
    assert (chosen.max_tokens, chosen.thinking, chosen.temperature) == (1024, False, 0)


def test_the_readmes_lines_are_understood_and_its_names_are_those_of_the_protocol() -> None:
    text = README.read_text(encoding="utf-8")
    _, lines, words = re.split(r"```jsonl\n(.*?)```", text, maxsplit=1, flags=re.DOTALL)
    commands = [parse_line(line.encode()) for line in lines.splitlines()]
    assert [type(command) for command in commands] == [Ask, Ask, Ask, Cancel, Prepare]
    for field in fields(ReplySettings):
        assert f"`{field.name}`" in words or f'"{field.name}"' in lines, field.name
    for reason in get_args(FinishReason):
        assert f'"{reason}"' in words


def test_reading_ahead_takes_what_a_request_takes() -> None:
    fields_ = {"messages": HELLO, "max_image_tokens": 64, "tools": [{"type": "function"}]}
    ahead, asked = parse({"id": 1, "prepare": fields_}), parse({"id": 1, **fields_})
    assert isinstance(ahead, Prepare)
    assert isinstance(asked, Ask)
    assert ahead.request == asked.request


def test_every_setting_arrives() -> None:
    every = {
        "max_tokens": 7,
        "thinking": True,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "min_p": 0.1,
        "presence_penalty": 1.5,
        "repetition_penalty": 1.1,
        "stop": ["\n\n", "ü 🙂"],
        "thinking_budget": 0,
        "seed": 3,
        "drafts": 2,
        "max_image_tokens": 64,
        "video_fps": 1,
        "max_frames": 8,
    }
    assert set(every) == set(ReplySettings.__dataclass_fields__)
    command = parse({"id": "a", "messages": HELLO, **every})
    assert isinstance(command, Ask)
    assert command.request.settings == ReplySettings(**{**every, "stop": ("\n\n", "ü 🙂")})
    for unset in ({"seed": None}, {"thinking_budget": None}, {"stop": []}):
        command = parse({"id": 1, "messages": HELLO, **unset})
        assert isinstance(command, Ask)
        assert command.request.settings == ReplySettings()
    left_to_the_model = parse({"id": 1, "messages": HELLO, "thinking": None})
    assert isinstance(left_to_the_model, Ask)
    assert left_to_the_model.request.settings == ReplySettings(thinking=None)


def test_parts_keep_their_order_and_their_times() -> None:
    content = [
        {"type": "image", "path": "a b/ü.png"},
        {"type": "text", "text": "and"},
        {"type": "video", "path": "c.mp4", "start_s": 1, "end_s": 2.5, "fps": 4},
        {"type": "video", "path": "d.mp4", "end_s": None},
    ]
    command = parse({"id": 1, "messages": [{"role": "user", "content": content}]})
    assert isinstance(command, Ask)
    assert command.request.messages[0].content == (
        ImagePart(Path("a b/ü.png")),
        TextPart("and"),
        VideoPart(Path("c.mp4"), 1.0, 2.5, 4.0),
        VideoPart(Path("d.mp4")),
    )


def test_roles_reasoning_and_tools_arrive() -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "", "reasoning": "Use the tool.", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
    ]
    tools = [{"name": "add"}]
    command = parse({"id": 1, "messages": messages, "tools": tools})
    assert isinstance(command, Ask)
    assert [message.role for message in command.request.messages] == [m["role"] for m in messages]
    assert command.request.messages[2].reasoning == "Use the tool."
    assert command.request.messages[2].tool_calls == (call,)
    assert command.request.tools == ({"name": "add"},)


def test_cancel_names_the_reply() -> None:
    assert parse({"id": 2, "cancel": 1}) == Cancel(2, 1)
    assert parse({"id": "x", "cancel": "y"}) == Cancel("x", "y")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"hello",
        b"{",
        b'{"id": 1} {"id": 2}',
        b'{"id": NaN}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_what_is_not_json_has_no_id(line: bytes) -> None:
    command = parse_line(line)
    assert isinstance(command, Refused)
    assert command.id is None
    assert "not JSON" in command.message


@pytest.mark.parametrize(
    "data", [[], 5, None, "id", {}, {"id": None}, {"id": 1.5}, {"id": True}, {"id": [1]}]
)
def test_without_a_usable_id_the_error_has_none(data: Any) -> None:
    command = parse(data)
    assert isinstance(command, Refused)
    assert command.id is None


def ask_with(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "messages": HELLO, **fields}


def say(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "messages": [{"role": "user", "content": list(content), **fields}]}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"id": 1}, "messages"),
        (ask_with(temprature=1), "temprature"),
        (ask_with(prepare={"messages": HELLO}), "messages"),
        ({"id": 1, "prepare": HELLO}, "prepare"),
        ({"id": 1, "prepare": {}}, "messages"),
        ({"id": 1, "prepare": {"messages": HELLO, "cancel": 2}}, "cancel"),
        ({"id": 1, "prepare": {"messages": HELLO, "max_image_tokens": 0}}, "max_image_tokens"),
        ({"id": 1, "cancel": 2, "messages": HELLO}, "messages"),
        ({"id": 1, "cancel": None}, "cancel"),
        (ask_with(max_tokens=0), "max_tokens"),
        (ask_with(max_tokens=True), "max_tokens"),
        (ask_with(max_tokens="9"), "max_tokens"),
        (ask_with(max_tokens=1.5), "max_tokens"),
        (ask_with(thinking=1), "thinking"),
        (ask_with(temperature=-0.1), "temperature"),
        (ask_with(temperature="hot"), "temperature"),
        (ask_with(temperature=10**400), "temperature"),
        (ask_with(top_p=1.1), "top_p"),
        (ask_with(top_k=-1), "top_k"),
        (ask_with(top_k=2.0), "top_k"),
        (ask_with(min_p=-0.1), "min_p"),
        (ask_with(presence_penalty=2.1), "presence_penalty"),
        (ask_with(repetition_penalty=0), "repetition_penalty"),
        (ask_with(repetition_penalty=-1.1), "repetition_penalty"),
        (ask_with(repetition_penalty=None), "repetition_penalty"),
        (ask_with(stop="\n"), "stop"),
        (ask_with(stop=None), "stop"),
        (ask_with(stop=[""]), "stop"),
        (ask_with(stop=["ok", 5]), "stop"),
        (ask_with(stop=["\ud800"]), "stop"),
        (ask_with(thinking_budget=-1), "thinking_budget"),
        (ask_with(thinking_budget=1.5), "thinking_budget"),
        (ask_with(thinking_budget=True), "thinking_budget"),
        (ask_with(seed=-1), "seed"),
        (ask_with(seed=2**64), "seed"),
        (ask_with(video_fps=0), "video_fps"),
        (ask_with(tools={}), "tools"),
        ({"id": 1, "messages": {}}, "messages"),
        ({"id": 1, "messages": []}, "at least one message"),
        ({"id": 1, "prepare": {"messages": []}}, "at least one message"),
        ({"id": 1, "messages": [*HELLO, {"role": "user", "content": [1]}]}, "message 2"),
        (say({"type": "image", "path": 1}), "message 1"),
        ({"id": 1, "messages": ["Hello"]}, "messages"),
        ({"id": 1, "messages": [{"role": "robot", "content": ""}]}, "role"),
        ({"id": 1, "messages": [{"role": ["user"], "content": ""}]}, "role"),
        ({"id": 1, "messages": [{"role": "user"}]}, "content"),
        (say({"type": "text", "text": "Hi"}, name="Ann"), "name"),
        (say({"type": "audio", "path": "a.wav"}), "type"),
        (say({"type": "text"}), "text"),
        (say({"type": "image"}), "path"),
        (say({"type": "image", "path": ""}), "path"),
        (say({"type": "image", "path": "a\0b"}), "path"),
        (say({"type": "image", "path": "a.png", "start_s": 1}), "start_s"),
        (say({"type": "video", "path": "a.mp4", "start_s": -1}), "start_s"),
        (say({"type": "video", "path": "a.mp4", "fps": 0}), "fps"),
        (say({"type": "text", "text": "\ud800"}), "text"),
        (say("Hi"), "content"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(data: dict[str, Any], named: str) -> None:
    command = parse(data)
    assert isinstance(command, Refused)
    assert command.id == 1
    assert named in command.message
    assert command.message.endswith(".")
    assert "\n" not in command.message
    assert json.dumps(command.message, ensure_ascii=False).encode()


SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3)
JSON = st.recursive(
    SCALARS | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "path", "x"]), inner)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(["id", "messages", "cancel", "prepare", "seed", "tools", "max_tokens"])
LINES = st.binary(max_size=30) | st.dictionaries(FIELDS, JSON).map(
    lambda data: json.dumps(data).encode()
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
def test_no_line_is_too_strange(line: bytes) -> None:
    assert isinstance(parse_line(line), Ask | Prepare | Cancel | Refused)
