"""One line of the JSONL protocol to one command, strictly: what is not understood is an error.

Owns the names and ranges of the protocol's fields; knows no engine, no thread and no stream.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast, get_args

from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    Role,
    TextPart,
    VideoPart,
)

RequestId = int | str


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a reply."""

    id: RequestId
    request: ReplyRequest


@dataclass(frozen=True, slots=True)
class Prepare:
    """Read ahead what such a request will ask, but for the words of its last message."""

    id: RequestId
    request: ReplyRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the reply, or the reading ahead, with the id `target`."""

    id: RequestId
    target: RequestId


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that asks for nothing possible; `message` is a sentence that says why."""

    id: RequestId | None
    message: str


Command = Ask | Prepare | Cancel | Refused


class _RefusedError(Exception):
    """Carries the sentence from where a field is wrong to where the line is answered."""


def parse_line(line: bytes) -> Command:
    """Read one line; never raises."""
    try:
        data = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return Refused(None, "This line is not JSON in UTF-8; send one JSON object a line.")
    if not isinstance(data, dict):
        return Refused(None, "This line is JSON but not an object; send one JSON object a line.")
    request_id = data.get("id")
    if not _is_id(request_id):
        return Refused(None, 'Every request needs an "id" that is a whole number or a text.')
    try:
        return _command(request_id, {name: data[name] for name in data if name != "id"})
    except _RefusedError as error:
        return Refused(request_id, str(error))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_id(value: Any) -> TypeGuard[RequestId]:
    return isinstance(value, int | str) and not isinstance(value, bool) and _is_unicode(value)


def _is_unicode(value: Any) -> bool:
    """False for a text with half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _command(request_id: RequestId, fields: dict[str, Any]) -> Command:
    if "cancel" in fields:
        _refuse_others(fields, {"cancel"}, "A cancel request")
        if not _is_id(fields["cancel"]):
            raise _RefusedError('"cancel" must be the id of the reply to stop.')
        return Cancel(request_id, fields["cancel"])
    if "prepare" in fields:
        _refuse_others(fields, {"prepare"}, "A prepare request")
        if not isinstance(fields["prepare"], dict):
            raise _RefusedError('"prepare" must be an object with "messages".')
        return Prepare(request_id, _reply_request(fields["prepare"], '"prepare"'))
    if "messages" not in fields:
        raise _RefusedError('A request needs "messages", "prepare" or "cancel".')
    return Ask(request_id, _reply_request(fields, "The request"))


def _reply_request(fields: Mapping[str, Any], where: str) -> ReplyRequest:
    _refuse_others(fields, {"messages", "tools", *_SETTINGS}, where)
    settings = {
        name: check(name, fields[name]) for name, check in _SETTINGS.items() if name in fields
    }
    messages = _objects("messages", fields.get("messages"))
    if not messages:
        raise _RefusedError(f'{where} needs at least one message in "messages".')
    tools = _objects("tools", fields.get("tools", []))
    return ReplyRequest(
        tuple(_message(message, place) for place, message in enumerate(messages, start=1)),
        ReplySettings(**settings),
        tuple(tools),
    )


def _message(fields: Mapping[str, Any], place: int) -> Message:
    where = f"Message {place}"
    _refuse_others(fields, {"role", "content", "reasoning", "tool_calls"}, where)
    role = fields.get("role")
    if role not in get_args(Role):
        raise _RefusedError(f'{where} needs a "role": system, user, assistant or tool.')
    content = fields.get("content")
    if isinstance(content, str):
        parts: tuple[Part, ...] = (TextPart(_text("content", content, where)),)
    elif isinstance(content, list):
        parts = tuple(_part(part, where) for part in _objects("content", content, where))
    else:
        raise _RefusedError(f'{where} needs a "content" that is a text or a list of parts.')
    reasoning = fields.get("reasoning")
    return Message(
        cast(Role, role),
        parts,
        None if reasoning is None else _text("reasoning", reasoning, where),
        tuple(_objects("tool_calls", fields.get("tool_calls", []), where)),
    )


def _part(fields: Mapping[str, Any], where: str) -> Part:
    kind = fields.get("type")
    if kind == "text":
        _refuse_others(fields, {"type", "text"}, f"A text of {where.lower()}")
        return TextPart(_text("text", fields.get("text"), where))
    if kind == "image":
        _refuse_others(fields, {"type", "path"}, f"A picture of {where.lower()}")
        return ImagePart(_path(fields, where))
    if kind == "video":
        _refuse_others(fields, {"type", "path", *_VIDEO}, f"A clip of {where.lower()}")
        given = {
            name: check(name, fields[name]) for name, check in _VIDEO.items() if name in fields
        }
        return VideoPart(_path(fields, where), **given)
    raise _RefusedError(f'{where} has a part whose "type" is not text, image or video.')


def _path(fields: Mapping[str, Any], where: str) -> Path:
    path = _text("path", fields.get("path"), where)
    if not path or "\0" in path:
        raise _RefusedError(f"{_named('path', where)} must name a file.")
    return Path(path)


def _refuse_others(fields: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in fields:
        if name not in known:
            shown = json.dumps(name[:80])
            raise _RefusedError(f"{where} takes no field {shown}. Leave it out.")


def _named(name: str, where: str) -> str:
    return f'"{name}" of {where.lower()}' if where else f'"{name}"'


def _objects(name: str, value: Any, where: str = "") -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _RefusedError(f"{_named(name, where)} must be a list of objects.")
    return value


def _text(name: str, value: Any, where: str = "") -> str:
    if not isinstance(value, str):
        raise _RefusedError(f"{_named(name, where)} must be a text.")
    if not _is_unicode(value):
        raise _RefusedError(f"{_named(name, where)} holds half a character (a lone surrogate).")
    return value


Check = Callable[[str, Any], Any]


def _whole(low: int, high: int | None = None) -> Check:
    def check(name: str, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < low
            or (high is not None and value > high)
        ):
            upwards = "upwards" if high is None else f"to {high}"
            raise _RefusedError(f'"{name}" must be a whole number from {low} {upwards}.')
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise _RefusedError(f'"{name}" must be a number from {low:g} to {high:g}.')
        return float(value)

    return check


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _RefusedError(f'"{name}" must be a number of seconds, 0 or more.')
    return float(value)


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _RefusedError(f'"{name}" must be true or false.')
    return value


def _stops(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(stop, str) and stop for stop in value):
        raise _RefusedError(f'"{name}" must be a list of texts, none of them empty.')
    return tuple(_text(name, stop) for stop in value)


def _or_null(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


_SETTINGS: dict[str, Check] = {
    "max_tokens": _whole(1),
    "thinking": _or_null(_yes_or_no),
    "temperature": _number(0, 100),
    "top_p": _number(0, 1),
    "top_k": _whole(0),
    "min_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "repetition_penalty": _number(0.1, 10),
    "stop": _stops,
    "thinking_budget": _or_null(_whole(0)),
    "drafts": _or_null(_whole(0, 7)),
    "seed": _or_null(_whole(0, 2**64 - 1)),
    "max_image_tokens": _whole(1),
    "video_fps": _number(0.01, 1000),
    "max_frames": _whole(1),
}
_VIDEO: dict[str, Check] = {
    "start_s": _or_null(_seconds),
    "end_s": _or_null(_seconds),
    "fps": _or_null(_number(0.01, 1000)),
}
