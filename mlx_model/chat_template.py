"""A checkpoint's own chat template, run in a sandbox with the settings transformers uses.

Owns what a chat template is given; knows nothing of tokens or of what the text means.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from mlx_model.errors import CheckpointError, PromptError
from mlx_model.template_sandbox import MAX_TEXT_CHARACTERS, TemplateSandbox, WorkBudget

# The published templates take some 25 steps for each that it takes to walk through a conversation
# once; a round that compares every message with every other still has room for some hundreds.
BASE_STEPS = 4_000_000
_STEPS_PER_STEP_OF_INPUT = 150
_MAX_SETTING_CHARACTERS = 100
_MAX_QUOTED_CHARACTERS = 500
_INDENTS = ("None", *map(str, range(17)))
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


class ChatTemplate:
    """A compiled template: conversations in, text out."""

    def __init__(self, source: str, base_steps: int = BASE_STEPS) -> None:
        """`base_steps` bounds the work for a short conversation; long ones may take more.

        Raises CheckpointError when `source` is not a template, or one for no chat.
        """
        self._base_steps = base_steps
        try:
            self._code = _sandbox(WorkBudget(0)).compile_source(source)
        except TemplateError as error:
            raise CheckpointError(
                f"The model's chat template cannot be read: {_words_of(error)}. "
                "Download the model again, or choose another."
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
        sandbox = _sandbox(WorkBudget(self._base_steps + _steps_for(variables)))
        template = Template.from_code(sandbox, self._code, sandbox.make_globals(None))
        pieces = []
        length = 0
        try:
            for piece in template.generate(variables, add_generation_prompt=True):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_TEXT_CHARACTERS:
                    raise PromptError(
                        "The conversation is far longer than any model can read. Start a new chat."
                    )
        except SecurityError as error:
            raise PromptError(
                f"The model's chat template was stopped: {_words_of(error)}. Choose another model."
            ) from error
        except _TEMPLATE_FAILURES as error:
            raise PromptError(
                f"The model's chat template refuses this conversation: {_words_of(error)}."
            ) from error
        return "".join(pieces)


def _sandbox(budget: WorkBudget) -> TemplateSandbox:
    return TemplateSandbox(
        budget,
        extensions=[_GenerationBlock, loopcontrols],
        filters={"tojson": _to_json},
        functions={"raise_exception": _raise_exception, "strftime_now": _strftime_now},
    )


def _steps_for(variables: Mapping[str, Any]) -> int:
    """Enough for every template that walks through the conversation a few times."""
    measure = WorkBudget(sys.maxsize)
    measure.spend_on(variables)
    return _STEPS_PER_STEP_OF_INPUT * (sys.maxsize - measure.steps)


def _words_of(error: Exception) -> str:
    words = error.message if isinstance(error, TemplateError) else None
    return (words or str(error))[:_MAX_QUOTED_CHARACTERS].rstrip(".")


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
    if len(str(separators)) > _MAX_SETTING_CHARACTERS or str(indent) not in _INDENTS:
        raise SecurityError("it asks for JSON that is mostly space")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(pattern: str) -> str:
    if len(pattern) > _MAX_SETTING_CHARACTERS:
        raise SecurityError("it asks for a date of many words")
    return datetime.now().strftime(pattern)
