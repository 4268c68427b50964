"""Chat templates against transformers."""

import json
from pathlib import Path

import pytest

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import CheckpointError, PromptError
from tests.mlx_model.conversation_cases import CONVERSATIONS, REFUSED

ROOT = Path(__file__).parents[2]
GOLDENS = json.loads((ROOT / "tests/goldens/prompts/rendered.json").read_text(encoding="utf-8"))
MODES = {"off": False, "on": True, "default": None}


def source_of(template: str) -> str:
    """The demo model's template, or one of the published ones if it lies beside the repository."""
    if template == "demo":
        return (ROOT / "assets/demo_model/chat_template.jinja").read_text(encoding="utf-8")
    file = {"small": "qwen3.5-0.8b-2b", "large": "qwen3.5-4b-9b"}[template]
    path = ROOT.parent / "shared" / "data" / f"{file}.chat_template.jinja"
    if not path.is_file():
        pytest.skip("the published chat templates are not beside the repository")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("template", ["demo", "small", "large"])
def test_conversations_are_rendered_as_in_transformers(template: str) -> None:
    # The demo model thinks like the small ones; these think only when asked to, the large always.
    default = GOLDENS["defaults"]["small" if template == "demo" else template]
    rendered = ChatTemplate(source_of(template))
    for name, (turns, tools) in CONVERSATIONS.items():
        for mode, thinking in MODES.items():
            text = rendered.render(turns, tools=tools, thinking=thinking)
            ending = GOLDENS["endings"][default if mode == "default" else mode]
            assert text == GOLDENS["conversations"][name]["text"] + ending, (name, mode)


@pytest.mark.parametrize("template", ["demo", "small", "large"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_transformers_refuses_is_refused(name: str, template: str) -> None:
    with pytest.raises(PromptError, match="chat template"):
        ChatTemplate(source_of(template)).render(REFUSED[name])


def test_a_template_that_is_none_is_a_checkpoint_error() -> None:
    with pytest.raises(CheckpointError, match="chat template"):
        ChatTemplate("{% for %}")


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
