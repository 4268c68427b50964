"""Messages and tools as the plain dictionaries that chat templates read.

Owns the shapes templates expect; knows nothing of templates, tokens or pixels. Only text, numbers
and containers of them get through, so a template never sees an object it could call.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from mlx_model.errors import PromptError
from mlx_model.messages import ImagePart, Message, Part, TextPart

_MAX_DEPTH = 100  # no tool needs more, and Python's own limit is not far
_SURROGATES = re.compile("[\ud800-\udfff]")
_OPEN, _CLOSE = "<think>", "</think>"


def plain_turn(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it.

    Thinking that stands at the head of an assistant's content is moved to a field of its own.
    Raises PromptError for tool calls whose arguments are not JSON.
    """
    turn: dict[str, Any] = {"role": message.role}
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    if len(texts) == len(message.content):
        turn["content"] = "".join(texts)
    else:
        turn["content"] = [_part(part) for part in message.content]
    if message.role == "assistant":
        turn |= _assistant_fields(message, turn["content"])
    plain: dict[str, Any] = _plain(turn)
    return plain


def plain_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's description as chat templates expect it; PromptError when it is not plain JSON."""
    plain: dict[str, Any] = _plain(tool)
    return plain


def _part(part: Part) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image" if isinstance(part, ImagePart) else "video"}


def _assistant_fields(message: Message, content: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if message.reasoning is not None:
        fields["reasoning_content"] = message.reasoning
    elif isinstance(content, str):
        # The template would do this, but to it the tags of this text are ordinary words.
        thought, answer = _told_apart(content)
        if thought is not None:
            fields["reasoning_content"] = thought
            fields["content"] = answer
    if message.tool_calls:
        fields["tool_calls"] = [_call(call) for call in message.tool_calls]
    return fields


def _told_apart(content: str) -> tuple[str | None, str]:
    """The thinking at the head of what a model wrote, if there is any, and the rest.

    The opening tag may be missing, for it stood in the prompt; then the closing one has to stand
    alone on its line, as models write it, so that an answer which speaks of tags keeps its words.
    """
    thought, tag, answer = content.partition(_CLOSE)
    if tag and thought.lstrip().startswith(_OPEN):
        return thought.lstrip().removeprefix(_OPEN), answer
    if tag and _OPEN not in thought and thought.endswith("\n") and answer.startswith("\n\n"):
        return thought, answer
    return None, content


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call whose arguments are a mapping; other programs send them as JSON in a string."""
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"])}
    name, arguments = call.get("name"), call.get("arguments", {})
    if not isinstance(name, str) or not name:
        raise PromptError('The call of a tool needs a "name" and "arguments". Add them.')
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, Mapping):
        raise PromptError(f"The arguments of the call to {name!r} are no JSON object. Send one.")
    return {**call, "arguments": dict(arguments)}


def _plain(value: Any, depth: int = 0) -> Any:
    """A copy made of plain JSON types only, without halves of surrogate pairs."""
    if depth > _MAX_DEPTH:
        raise PromptError(f"A tool or its call is nested more than {_MAX_DEPTH} deep. Simplify it.")
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise PromptError(f"A message holds something that is not text: {type(value).__name__}.")
