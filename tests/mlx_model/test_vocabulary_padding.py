"""A real checkpoint's head has more rows than its tokenizer has tokens; those are never drawn.

Here the demo model gets two such rows that beat every token at every step.
"""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.engine import Engine
from mlx_model.events import Finished, TextDelta
from mlx_model.limits import MachineLimits
from mlx_model.messages import ImagePart, Message, ReplyRequest, ReplySettings, TextPart

ASSETS = Path(__file__).parents[2] / "assets"
DEMO = ASSETS / "demo_model"
EMBEDDING = "model.language_model.embed_tokens"
QUESTION = (ImagePart(ASSETS / "samples" / "shapes.png"), TextPart("List the shapes."))
SETTINGS = ReplySettings(max_tokens=24, seed=3)
LIMITS = replace(MachineLimits.detect(), max_context_tokens=None)


@pytest.fixture(scope="module")
def demo() -> Engine:
    return Engine.load(DEMO, LIMITS)


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory, demo: Engine) -> Engine:
    """The demo model with two padding rows of opposite sign, so that one is always the largest."""
    folder = tmp_path_factory.mktemp("loud") / "model"
    shutil.copytree(DEMO, folder)
    tensors = mx.load(str(DEMO / "model.safetensors"))
    assert isinstance(tensors, dict)
    scales, biases = tensors[f"{EMBEDDING}.scales"], tensors[f"{EMBEDDING}.biases"]
    first = demo.processor.vocab_size_used
    assert scales.shape[0] >= first + 2
    scales[first : first + 2] = 0.0
    biases[first], biases[first + 1] = 1e4, -1e4
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "mlx"})
    return Engine.load(folder, LIMITS)


def reply(engine: Engine, settings: ReplySettings) -> tuple[str, Finished]:
    request = ReplyRequest((Message("user", QUESTION),), settings)
    events = list(engine.reply(request, threading.Event()))
    assert isinstance(events[-1], Finished)
    return "".join(e.text for e in events if isinstance(e, TextDelta)), events[-1]


def test_the_padding_rows_have_the_largest_logits(loud: Engine) -> None:
    logits = loud.model(np.array([[5, 6, 7, 8]]))[0]
    assert (np.array(logits).argmax(axis=-1) >= loud.processor.vocab_size_used).all()


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, temperature=1.0),
        replace(SETTINGS, temperature=1.0, top_k=5, min_p=0.05),
        replace(SETTINGS, temperature=0.7, top_p=0.9, presence_penalty=1.0),
        replace(SETTINGS, presence_penalty=1.0),
    ],
)
def test_the_answer_is_what_it_would_be_without_them(
    demo: Engine, loud: Engine, settings: ReplySettings
) -> None:
    text, finished = reply(loud, settings)
    expected, as_expected = reply(demo, settings)
    assert text == expected
    assert text
    assert finished.reason == as_expected.reason
    assert finished.stats.generated_tokens == as_expected.stats.generated_tokens
