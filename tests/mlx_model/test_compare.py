"""What is told about two checkpoints is what a plain calculation on their logits says."""

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_model import compare as compare_module
from mlx_model.checkpoint_commands import GENERAL_TEXT
from mlx_model.companion_files import OWN_TEXT
from mlx_model.compare import chat, compare
from mlx_model.errors import FiresideError
from mlx_model.messages import Message
from mlx_model.processor import load_processor
from mlx_model.weights import load_model

DEMO_MODEL = Path(__file__).parents[2] / "assets" / "demo_model"
TEXT = "Hello\n\nHello. Show me a picture.\n\n\nMy name is Ada.\n\nNice to meet you, Ada."
EMBEDDINGS = "model.language_model.embed_tokens"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The demo model with some noise on its weights."""
    folder = tmp_path / "other"
    shutil.copytree(DEMO_MODEL, folder)
    tensors = load_file(folder / "model.safetensors")
    noise = np.random.default_rng(3)
    for name, array in tensors.items():
        if name.endswith((".scales", "norm.weight")):
            tensors[name] = (array * noise.normal(1, 0.02, array.shape)).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", {"norm_convention": "zero_centred"})
    return folder


def log_probabilities(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of each token of TEXT but the first, at once and in 64 bits; and the tokens."""
    processor = load_processor(folder)
    ids = processor.prompt(chat(TEXT)).input_ids
    logits = np.array(load_model(folder)(ids[None])[0]).astype(np.float64)
    logits = logits[:-1, : processor.vocab_size_used]
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), ids[1:]


@pytest.mark.parametrize("chunk_tokens", [64, 7])
def test_figures_are_those_of_a_plain_calculation(
    other: Path, monkeypatch: pytest.MonkeyPatch, chunk_tokens: int
) -> None:
    monkeypatch.setattr(compare_module, "_CHUNK_TOKENS", chunk_tokens)
    a, targets = log_probabilities(DEMO_MODEL)
    b, _ = log_probabilities(other)
    found = compare(DEMO_MODEL, other, TEXT)
    divergences = (np.exp(a) * (a - b)).sum(axis=-1)
    assert divergences.mean() > 1e-3
    np.testing.assert_allclose(found.divergence_nats, divergences, rtol=0.02, atol=2e-5)
    assert found.divergence_nats.min() >= 0
    assert found.same_likeliest == (a.argmax(axis=-1) == b.argmax(axis=-1)).mean()
    for side, perplexity in ((a, found.perplexity_a), (b, found.perplexity_b)):
        surprise = -side[np.arange(targets.size), targets].mean()
        assert perplexity == pytest.approx(np.exp(surprise), rel=1e-3)


def test_a_model_does_not_differ_from_itself(other: Path) -> None:
    found = compare(other, other, TEXT)
    assert not found.divergence_nats.any()
    assert found.same_likeliest == 1
    assert found.perplexity_a == found.perplexity_b


def test_padding_of_the_vocabulary_counts_for_nothing(tmp_path: Path) -> None:
    padded = tmp_path / "padded"
    shutil.copytree(DEMO_MODEL, padded)
    tensors = load_file(padded / "model.safetensors")
    used = load_processor(DEMO_MODEL).vocab_size_used
    biases = tensors[f"{EMBEDDINGS}.biases"].copy()
    assert len(biases) > used
    biases[used:] += 100
    tensors[f"{EMBEDDINGS}.biases"] = biases
    save_file(tensors, padded / "model.safetensors", {"norm_convention": "zero_centred"})
    assert not compare(DEMO_MODEL, padded, TEXT).divergence_nats.any()


def test_paragraphs_are_turns() -> None:
    turns = chat("\n\nOne\r\n\r\nTwo\ntwo\n\n \n\nThree\n")
    assert turns == [
        Message.text("user", "One"),
        Message.text("assistant", "Two\ntwo"),
        Message.text("user", "Three"),
    ]
    with pytest.raises(FiresideError, match="empty"):
        chat(" \n\n\t\n")


def test_the_two_models_are_never_loaded_together(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[Any]] = []

    def watched(folder: Path) -> Any:
        assert [model() for model in models] == [None] * len(models)
        model = load_model(folder)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(compare_module, "load_model", watched)
    before = mx.get_active_memory()
    compare(DEMO_MODEL, other, TEXT)
    assert len(models) == 2
    assert mx.get_active_memory() - before < 1_000_000


def test_progress_covers_both_models(other: Path) -> None:
    told: list[tuple[int, int]] = []
    found = compare(DEMO_MODEL, other, TEXT, lambda done, total: told.append((done, total)))
    tokens = found.divergence_nats.size
    assert told == sorted(told)
    assert told[-1] == (2 * tokens, 2 * tokens)
    assert (tokens, 2 * tokens) in told


def test_a_text_is_cut_where_the_context_of_either_ends(other: Path) -> None:
    config = json.loads((other / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = 20
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    whole = compare(DEMO_MODEL, DEMO_MODEL, TEXT)
    for a, b in ((DEMO_MODEL, other), (other, DEMO_MODEL)):
        assert compare(a, b, TEXT).divergence_nats.size == 19 < whole.divergence_nats.size


def test_models_of_different_vocabularies_are_refused(other: Path) -> None:
    file = other / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    vocabulary = data["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(FiresideError, match="do not share a vocabulary"):
        compare(DEMO_MODEL, other, TEXT)


def test_a_full_disk_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(compare_module, "load_model", None)
    with pytest.raises(FiresideError, match="Free some space"):
        compare(DEMO_MODEL, DEMO_MODEL, TEXT)


def test_a_disk_that_fills_up_meanwhile_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")  # takes nothing, and says so when what was written reaches it
    if not full.exists():
        pytest.skip("this system has no disk that is always full")
    monkeypatch.setattr(compare_module.tempfile, "TemporaryFile", lambda: full.open("r+b", 0))
    with pytest.raises(FiresideError, match=r"could not be kept in .* \(No space left on device\)"):
        compare(DEMO_MODEL, DEMO_MODEL, TEXT)


def test_the_texts_that_ship_are_chats() -> None:
    for file in (GENERAL_TEXT, DEMO_MODEL / OWN_TEXT):
        turns = chat(file.read_text(encoding="utf-8"))
        assert len(turns) > 10
        assert turns[-1].role == "assistant"
