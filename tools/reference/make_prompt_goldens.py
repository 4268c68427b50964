"""Makes tests/goldens/prompts: conversations as transformers renders them with published templates.

Run from the repository root, in an environment with transformers:
    python tools/reference/make_prompt_goldens.py FOLDER_WITH_TEMPLATES
The folder holds the chat templates of the published checkpoints under the names in TEMPLATES; they
are not part of this repository.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mlx_model.conversation_cases import CONVERSATIONS, REFUSED  # noqa: E402

FILE = ROOT / "tests" / "goldens" / "prompts" / "rendered.json"
TEMPLATES = {
    "small": "qwen3.5-0.8b-2b.chat_template.jinja",
    "large": "qwen3.5-4b-9b.chat_template.jinja",
}


def rendered(template: str, turns: list[Any], tools: list[Any], thinking: bool) -> str:
    texts, _ = render_jinja_template(
        [turns],
        tools=tools or None,
        chat_template=template,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )
    return texts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("templates", type=Path)
    folder = parser.parse_args().templates
    goldens: dict[str, Any] = {"transformers": transformers.__version__}
    for size, name in TEMPLATES.items():
        template = (folder / name).read_text(encoding="utf-8")
        goldens[size] = {
            case: [rendered(template, turns, tools, thinking) for thinking in (False, True)]
            for case, (turns, tools) in CONVERSATIONS.items()
        }
        for case, turns in REFUSED.items():
            try:
                rendered(template, turns, [], False)
            except Exception as error:  # noqa: BLE001  whatever the template raises
                print(f"{size}, {case}: {error}")
            else:
                raise AssertionError(f"the {size} template accepts {case}")
    # Both templates write the same once thinking is switched on or off by name.
    assert goldens.pop("large") == goldens["small"]
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(goldens, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(FILE.relative_to(ROOT), FILE.stat().st_size)


if __name__ == "__main__":
    main()
