"""The demo model's template against the published ones, and the sandbox that templates run in."""

import json
from pathlib import Path

import pytest

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import CheckpointError, PromptError
from tests.mlx_model.conversation_cases import CONVERSATIONS, REFUSED

ROOT = Path(__file__).parents[2]
GOLDENS = json.loads((ROOT / "tests/goldens/prompts/rendered.json").read_text(encoding="utf-8"))
DEMO = (ROOT / "assets/demo_model/chat_template.jinja").read_text(encoding="utf-8")
PUBLISHED = sorted((ROOT.parent / "shared" / "data").glob("*.chat_template.jinja"))
HELLO = [{"role": "user", "content": "Hello"}]

needs_published = pytest.mark.skipif(
    not PUBLISHED, reason="the published chat templates are not beside the repository"
)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_demo_template_writes_what_the_published_ones_do(name: str, thinking: bool) -> None:
    turns, tools = CONVERSATIONS[name]
    text = ChatTemplate(DEMO).render(turns, tools=tools, thinking=thinking)
    assert text == GOLDENS["small"][name][thinking]


@needs_published
@pytest.mark.parametrize("template", PUBLISHED, ids=lambda path: path.name)
def test_published_templates_render_as_in_transformers(template: Path) -> None:
    published = ChatTemplate(template.read_text(encoding="utf-8"))
    for name, (turns, tools) in CONVERSATIONS.items():
        for thinking in (False, True):
            text = published.render(turns, tools=tools, thinking=thinking)
            assert text == GOLDENS["small"][name][thinking], name


@pytest.mark.parametrize("name", REFUSED)
def test_the_demo_template_refuses_what_the_published_ones_refuse(name: str) -> None:
    with pytest.raises(PromptError, match="chat template refuses"):
        ChatTemplate(DEMO).render(REFUSED[name])


def test_a_template_that_is_none_is_a_checkpoint_error() -> None:
    with pytest.raises(CheckpointError, match="chat template"):
        ChatTemplate("{% for %}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{% set _ = messages.append(1) %}{{ messages.append.__self__ }}",
        "{{ messages.clear() }}",
        "{% include '/etc/passwd' %}",
        "{{ 'x' * 10 ** 9 }}",
        "{% set a = 10 ** 9 * 'x' %}{{ a | length }}",
        "{% set a = [1] * 10 ** 9 %}{{ a | length }}",
        "{{ 10 ** 10000000 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for a in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ undefined_name.field }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_hostile_template_is_stopped(source: str) -> None:
    with pytest.raises(PromptError):
        _ = ChatTemplate(source).render([dict(turn) for turn in HELLO])


def test_templates_get_what_transformers_gives_them() -> None:
    source = (
        "{% for m in messages %}\n"
        "    {% if m.role == 'skip' %}{% continue %}{% endif %}\n"
        "{% generation %}{{ m | tojson }}{% endgeneration %}\n"
        "{% break %}\n"
        "{% endfor %}\n"
        "{{ [1] | tojson(indent=1) }}{{ strftime_now('%Y')[:2] }}"
    )
    turns = [{"role": "skip"}, {"role": "<ü>"}, {"role": "never"}]
    assert ChatTemplate(source).render(turns) == '{"role": "<ü>"}[\n 1\n]20'
