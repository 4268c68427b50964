"""A checkpoint's own chat template, run in jinja2's sandbox with the settings transformers uses.

Owns the environment and its limits; knows nothing of tokens or of what the text means.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_model.errors import CheckpointError, PromptError

# Far above any conversation that fits a context of 262,144 tokens; a template that writes more is
# broken or hostile.
MAX_RENDERED_CHARACTERS = 32_000_000
_MAX_EXPONENT = 64
# What a template can run into, besides its own raise_exception.
_TEMPLATE_FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)


class _GenerationBlock(Extension):
    """Accepts `{% generation %}`, which marks the assistant's words for training, as plain text."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with the two operators that can fill the memory kept within bounds."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and _product_length(left, right) > MAX_RENDERED_CHARACTERS:
            raise SecurityError("it repeats a text too often")
        if operator == "**" and isinstance(right, int | float) and right > _MAX_EXPONENT:
            raise SecurityError("it computes too large a number")
        return super().call_binop(context, operator, left, right)


class ChatTemplate:
    """A compiled template: conversations in, text out."""

    def __init__(self, source: str) -> None:
        """Raises CheckpointError when `source` is not a template."""
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise CheckpointError(
                f"The model's chat template cannot be read: {error}. Download the model again."
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool | None = False,
    ) -> str:
        """The conversation as text, ending where the assistant's reply begins.

        `thinking` None says nothing about it, so that the template follows its model's habit.
        Raises PromptError with the template's own words when it refuses the conversation.
        """
        variables: dict[str, Any] = {"messages": messages, "tools": list(tools) or None}
        if thinking is not None:
            variables["enable_thinking"] = thinking
        pieces = []
        length = 0
        try:
            for piece in self._template.generate(variables, add_generation_prompt=True):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_RENDERED_CHARACTERS:
                    raise PromptError(
                        "The conversation is far longer than any model can read. Start a new chat."
                    )
        except _TEMPLATE_FAILURES as error:
            raise PromptError(
                f"The model's chat template refuses this conversation: {error}"
            ) from error
        return "".join(pieces)


def _product_length(left: Any, right: Any) -> int:
    """How long left * right would be when one of them is a text or a list, else 0."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which models were not trained with.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
