"""Makes tests/goldens/prompts: conversations as transformers renders and encodes them.

Run from the repository root, in an environment with transformers 5.2 to 5.9 (no torch needed):
    python tools/reference/make_prompt_goldens.py TEMPLATES [--vocabulary FILE] [--check]
TEMPLATES is a folder with the chat templates of the published checkpoints under the names in
TEMPLATE_FILES, FILE the published vocabulary in tiktoken's format; neither is part of this
repository. With --check nothing is written: whatever version is installed has to agree with the
goldens that are there. From 5.10 on, the processor keeps the template's own pair of vision tokens
around the groups of a clip; that one difference is expected then and nothing else
(mlx_model/prompt.py says why the earlier form is followed).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import transformers
from packaging.version import Version
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mlx_model.conversation_cases import CONVERSATIONS, REFUSED, media_of  # noqa: E402
from tests.mlx_model.published_vocabulary import (  # noqa: E402
    CONTROL_TOKENS,
    ids_digest,
    read_vocabulary,
)

FILE = ROOT / "tests" / "goldens" / "prompts" / "rendered.json"
DEMO_TOKENIZER = ROOT / "assets" / "demo_model" / "tokenizer.json"
TEMPLATE_FILES = {
    "small": "qwen3.5-0.8b-2b.chat_template.jinja",
    "large": "qwen3.5-4b-9b.chat_template.jinja",
}
MODES = {"off": False, "on": True, "default": None}
ENDINGS = {"off": "<think>\n\n</think>\n\n", "on": "<think>\n"}
# What the published templates do when nothing is said about thinking.
DEFAULTS = {"small": "off", "large": "on"}
CLIP = "<|video_pad|>"
WRAPPED_CLIP = f"<|vision_start|>{CLIP}<|vision_end|>"
KEEPS_OUTER_PAIR = Version(transformers.__version__) >= Version("5.10")


class PixelStandIn:
    """In the place of a pixel processor: hands out grids and times that are known beforehand."""

    merge_size = 2
    temporal_patch_size = 2

    def __init__(self, **outputs: Any) -> None:
        self.outputs = outputs

    def __call__(self, *pixels: Any, **settings: Any) -> dict[str, Any]:
        return dict(self.outputs)

    def fetch_images(self, images: Any) -> Any:
        return images


class TextProcessor(Qwen3VLProcessor):
    """The reference's processor, whose own pixel processors would need torch."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return type(argument)


def token_ids(tokenizer: PreTrainedTokenizerFast, text: str, turns: list[Any]) -> list[int]:
    """The rendered conversation as the reference's processor encodes it."""
    if KEEPS_OUTER_PAIR:
        text = text.replace(WRAPPED_CLIP, CLIP)
    pictures, clips = media_of(turns)
    metadata = [SimpleNamespace(fps=clip.fps, frames_indices=list(clip.frames)) for clip in clips]
    processor = TextProcessor(
        PixelStandIn(image_grid_thw=np.array(pictures)),
        tokenizer,
        PixelStandIn(
            video_grid_thw=np.array([clip.grid for clip in clips]), video_metadata=metadata
        ),
    )
    blank = np.zeros((4, 4, 3), dtype=np.uint8)
    encoded = processor(
        text=[text],
        images=[blank] * len(pictures) or None,
        videos=[np.stack([blank] * len(clip.frames)) for clip in clips] or None,
    )
    return list(encoded["input_ids"][0])


def rendered(template: str, turns: list[Any], tools: list[Any], thinking: bool | None) -> str:
    settings = {} if thinking is None else {"enable_thinking": thinking}
    texts, _ = render_jinja_template(
        [turns], tools=tools or None, chat_template=template, add_generation_prompt=True, **settings
    )
    return texts[0]


def published_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    vocabulary, merges = read_vocabulary(file)
    tokenizer = Qwen3_5Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_tokens(list(CONTROL_TOKENS), special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("</think>") == 248069
    return tokenizer


def cases(
    templates: dict[str, str], tokenizer: PreTrainedTokenizerFast, published: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each conversation up to where the thinking would begin, after checking what follows it."""
    for name, (turns, tools) in CONVERSATIONS.items():
        texts = {
            (size, mode): rendered(template, turns, tools, thinking)
            for size, template in templates.items()
            for mode, thinking in MODES.items()
        }
        common = texts["small", "off"].removesuffix(ENDINGS["off"])
        for (size, mode), text in texts.items():
            assert text == common + ENDINGS[DEFAULTS[size] if mode == "default" else mode], name
        case = {"text": common}
        for key, encoder in (("ids", tokenizer), ("published", published)):
            if encoder is None:
                continue
            ids = {mode: token_ids(encoder, common + end, turns) for mode, end in ENDINGS.items()}
            shared = ids["off"][: -len(ending_ids(encoder, "off"))]
            for mode in ENDINGS:
                assert ids[mode] == shared + ending_ids(encoder, mode), name
            case[key] = shared if key == "ids" else ids_digest(shared)
        yield name, case


def ending_ids(tokenizer: PreTrainedTokenizerFast, mode: str) -> list[int]:
    return tokenizer.encode(ENDINGS[mode], add_special_tokens=False)


def check_refusals(templates: dict[str, str]) -> None:
    for size, template in templates.items():
        for name, turns in REFUSED.items():
            try:
                rendered(template, turns, [], False)
            except Exception as error:  # noqa: BLE001  whatever the template raises
                print(f"{size}, {name}: {error}")
            else:
                raise AssertionError(f"the {size} template accepts {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("templates", type=Path)
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if KEEPS_OUTER_PAIR and not options.check:
        parser.error("this version writes clips in another form; use 5.2 to 5.9, or --check")
    templates = {
        size: (options.templates / name).read_text(encoding="utf-8")
        for size, name in TEMPLATE_FILES.items()
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DEMO_TOKENIZER))
    published = published_tokenizer(options.vocabulary) if options.vocabulary else None
    check_refusals(templates)
    conversations = dict(cases(templates, tokenizer, published))
    if options.check:
        goldens = json.loads(FILE.read_text(encoding="utf-8"))
        assert goldens["conversations"].keys() == conversations.keys()
        for name, case in conversations.items():
            golden = goldens["conversations"][name]
            assert case == {key: golden[key] for key in case}, name
        print(f"{len(conversations)} conversations agree with {transformers.__version__}")
        return
    heads = {"transformers": transformers.__version__, "endings": ENDINGS, "defaults": DEFAULTS}
    heads["ending_ids"] = {mode: ending_ids(tokenizer, mode) for mode in ENDINGS}
    write(heads, conversations)


def write(heads: dict[str, Any], conversations: dict[str, Any]) -> None:
    """One line a conversation, so that a changed one shows in a diff."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    cases = ",\n".join(f"  {line(name)}: {line(case)}" for name, case in conversations.items())
    head = "".join(f" {line(name)}: {line(value)},\n" for name, value in heads.items())
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(
        f'{{\n{head} "conversations": {{\n{cases}\n }}\n}}\n', encoding="utf-8", newline="\n"
    )
    print(FILE.relative_to(ROOT), FILE.stat().st_size, len(conversations))


if __name__ == "__main__":
    main()
