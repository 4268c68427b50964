"""Models that are in their right mind pass, others are told what is wrong with them.

The demo model is damaged as real checkpoints are: converted with the norms of another convention,
cut weights, numbers that are none. Without its own questions it is judged as any model is.
"""

import json
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_model import self_check
from mlx_model.check_record import CheckRecords, Predictions
from mlx_model.companion_files import OWN_QUESTIONS, OWN_TEXT
from mlx_model.compare import chat
from mlx_model.engine import Engine
from mlx_model.errors import CheckpointError, SelfCheckError
from mlx_model.self_check import check_once, compare_predictions, differ, has_words
from mlx_model.weights import LoadCancelledError

DEMO = Path(__file__).parents[2] / "assets" / "demo_model"
NEVER = threading.Event()

Change = Callable[[str, mx.array], mx.array]


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """The demo model as anybody's: no name of its own and no questions with known answers."""
    model = Path(shutil.copytree(DEMO, tmp_path / "model"))
    (model / OWN_QUESTIONS).unlink()
    config = json.loads((model / "config.json").read_text())
    del config["fireside"]
    (model / "config.json").write_text(json.dumps(config))
    return model


def damaged(folder: Path, change: Change) -> Engine:
    engine = Engine.load(folder)
    parameters = tree_flatten(engine.model.parameters())
    engine.model.load_weights([(name, change(name, array)) for name, array in parameters])
    return engine


def check(engine: Engine, folder: Path, records: Path, again: bool = False) -> bool:
    return check_once(engine, folder, CheckRecords(records), NEVER, again=again)


def shifted_norms(by: float) -> Change:
    def change(name: str, array: mx.array) -> mx.array:
        is_norm = name.startswith("model.language_model") and name.endswith("norm.weight")
        return array + by if is_norm and "linear_attn" not in name else array

    return change


def turned_convolutions(name: str, array: mx.array) -> mx.array:
    return array[:, :, ::-1] if name.endswith("conv1d.weight") else array


def duller(name: str, array: mx.array) -> mx.array:
    """Softens every prediction without changing which is the likeliest."""
    return array * 0.4 - 0.6 if name == "model.language_model.norm.weight" else array


def none_in_the_tower(name: str, array: mx.array) -> mx.array:
    return mx.full(array.shape, math.nan) if name.endswith("visual.merger.norm.weight") else array


def none_in_the_head(name: str, array: mx.array) -> mx.array:
    return array * math.nan if name == "model.language_model.norm.weight" else array


def blind(name: str, array: mx.array) -> mx.array:
    return array * 0 if name.endswith("visual.merger.linear_fc2.weight") else array


def test_the_demo_model_passes_once_and_is_not_checked_again(tmp_path: Path) -> None:
    engine = Engine.load(DEMO)
    steps: list[tuple[int, int]] = []
    records = CheckRecords(tmp_path)
    told = lambda done, total: steps.append((done, total))  # noqa: E731
    assert check_once(engine, DEMO, records, NEVER, told)
    assert steps == [(n, 7) for n in range(8)]
    steps.clear()
    assert not check_once(engine, DEMO, records, NEVER, told)
    assert steps == []
    assert check_once(engine, DEMO, records, NEVER, told, again=True)


def test_any_good_model_passes(stranger: Path, tmp_path: Path) -> None:
    assert check(Engine.load(stranger), stranger, tmp_path)


@pytest.mark.parametrize("left_out", ["all media", "clips"])
def test_a_model_is_checked_with_what_it_can_look_at(
    stranger: Path, tmp_path: Path, left_out: str
) -> None:
    (stranger / "video_preprocessor_config.json").unlink()
    if left_out == "all media":
        config = json.loads((stranger / "config.json").read_text())
        del config["vision_config"]
        (stranger / "config.json").write_text(json.dumps(config))
        weights = mx.load(str(stranger / "model.safetensors"))
        assert isinstance(weights, dict)
        kept = {name: array for name, array in weights.items() if ".visual." not in name}
        mx.save_safetensors(str(stranger / "model.safetensors"), kept, {"format": "mlx"})
    assert check(Engine.load(stranger), stranger, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shifted_norms(-1.0), "finds plain sentences unlikely"),
        (turned_convolutions, "finds plain sentences unlikely"),
        (none_in_the_tower, "what it sees in a picture and a clip has numbers that are none"),
        (none_in_the_head, "what it predicts has numbers that are none"),
    ],
)
def test_a_damaged_model_is_refused_and_leaves_no_record(
    stranger: Path, tmp_path: Path, change: Change, words: str
) -> None:
    for _ in range(2):
        with pytest.raises(SelfCheckError, match=words) as refused:
            check(damaged(stranger, change), stranger, tmp_path)
    assert str(refused.value).startswith("model failed its self-check: ")
    assert check(Engine.load(stranger), stranger, tmp_path), "no record of a check that failed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (blind, "when it was asked"),
        # Which of the two it fails depends on how it was trained.
        (shifted_norms(1.0), "when it was asked|finds plain sentences unlikely"),
        (shifted_norms(-1.0), "finds plain sentences unlikely"),
        (turned_convolutions, "finds plain sentences unlikely"),
    ],
)
def test_the_demo_model_has_to_give_the_right_answers(
    tmp_path: Path, change: Change, words: str
) -> None:
    with pytest.raises(SelfCheckError, match=words):
        check(damaged(DEMO, change), DEMO, tmp_path)


def test_a_model_that_repeats_itself_or_says_nothing_is_refused(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(stranger)
    word = engine.processor.tokenizer.encode("circle", add_special_tokens=False).ids[-1]

    def decoding(ids: Sequence[int]) -> Callable[..., Sequence[int]]:
        return lambda *arguments: iter(ids)  # type: ignore[return-value]

    # What a damaged model says is hard to plan; what is made of it is the check's.
    for said, words in (
        ([word] * 24, "the same words over and over"),
        ([word, word + 1] * 12, "the same words over and over"),
        ([], "something that is no text"),
        ([_token_of(engine, b"\xff")], "something that is no text"),
    ):
        monkeypatch.setattr(self_check, "decode", decoding(said))
        with pytest.raises(SelfCheckError, match=words):
            check(engine, stranger, tmp_path)
    monkeypatch.setattr(self_check, "decode", decoding([word] * 2))
    assert check(engine, stranger, tmp_path)


def _token_of(engine: Engine, byte: bytes) -> int:
    stream = engine.text_stream()
    for token in range(engine.processor.vocab_size_used):
        if "\ufffd" in stream.feed(token):
            return token
    raise AssertionError(f"no token makes {byte!r} a character that is none")


def test_what_is_recorded_are_the_surprises_of_the_models_own_words(
    stranger: Path, tmp_path: Path
) -> None:
    turns = (stranger / OWN_TEXT).read_text(encoding="utf-8").strip().split("\n\n")[:7]
    engine = damaged(stranger, duller)  # the demo model itself is surprised by nothing
    assert check(engine, stranger, tmp_path)
    (record,) = (tmp_path / "self-check").iterdir()
    (said,) = json.loads(record.read_text())["said"].values()

    ids = engine.processor.prompt(chat("\n\n".join(turns))).input_ids
    rows = np.array(engine.model(ids[None])[0, :, : engine.processor.vocab_size_used])
    surprises = np.log(np.exp(rows).sum(axis=-1)) - rows[np.arange(ids.size), np.roll(ids, -1)]
    expected: list[float] = []
    place = 0
    for answer in turns[1::2]:
        words = engine.processor.tokenizer.encode(answer, add_special_tokens=False).ids
        while list(ids[place : place + len(words)]) != words:
            place += 1
        expected += surprises[place - 1 : place - 1 + len(words)].tolist()
    assert said["surprises"] == pytest.approx(expected, abs=1e-3)


def test_predictions_that_changed_are_noticed(stranger: Path, tmp_path: Path) -> None:
    assert check(Engine.load(stranger), stranger, tmp_path)
    with pytest.raises(SelfCheckError, match="no longer predicts"):
        check(damaged(stranger, duller), stranger, tmp_path, again=True)


def test_what_was_said_to_other_inputs_is_not_compared(stranger: Path, tmp_path: Path) -> None:
    """An update of the program may bring another text, picture or clip."""
    assert check(Engine.load(stranger), stranger, tmp_path)
    paragraphs = (stranger / OWN_TEXT).read_text(encoding="utf-8").split("\n\n")
    (stranger / OWN_TEXT).write_text("\n\n".join(paragraphs[:5]), encoding="utf-8")
    assert check(Engine.load(stranger), stranger, tmp_path, again=True)
    # From here on it is held against what it says to the new ones.
    with pytest.raises(SelfCheckError, match="no longer predicts"):
        check(damaged(stranger, duller), stranger, tmp_path, again=True)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"one\n\ntwo", b"\n\n\n\n\n\n"])
def test_a_text_of_its_own_that_is_none(stranger: Path, tmp_path: Path, content: bytes) -> None:
    (stranger / OWN_TEXT).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{OWN_TEXT} cannot be read"):
        check(Engine.load(stranger), stranger, tmp_path)


def test_a_text_of_its_own_may_end_with_either(stranger: Path, tmp_path: Path) -> None:
    paragraphs = (stranger / OWN_TEXT).read_text(encoding="utf-8").strip().split("\n\n")
    (stranger / OWN_TEXT).write_text("\n\n".join(paragraphs[:4]), encoding="utf-8")
    assert check(Engine.load(stranger), stranger, tmp_path)


def test_rounding_to_16_bits_is_no_change(stranger: Path, tmp_path: Path) -> None:
    assert check(Engine.load(stranger), stranger, tmp_path)

    def rounded(name: str, array: mx.array) -> mx.array:
        if array.dtype != mx.float32 or name.endswith(("A_log", "dt_bias", "norm.weight")):
            return array
        return array.astype(mx.bfloat16)

    assert check(damaged(stranger, rounded), stranger, tmp_path, again=True)


def test_another_version_of_mlx_means_another_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(DEMO)
    assert check(engine, DEMO, tmp_path)
    assert not check(engine, DEMO, tmp_path)
    for part in ("mlx_version", "program_version"):
        monkeypatch.setattr(self_check, part, lambda *arguments: "another")
        assert check(engine, DEMO, tmp_path)
        assert not check(engine, DEMO, tmp_path)


def test_a_check_can_be_cancelled(tmp_path: Path) -> None:
    engine = Engine.load(DEMO)
    for step in range(7):
        cancel = threading.Event()

        def stop(done: int, total: int, step: int = step, cancel: threading.Event = cancel) -> None:
            if done == step:
                cancel.set()

        with pytest.raises(LoadCancelledError):
            check_once(engine, DEMO, CheckRecords(tmp_path), cancel, stop)
    assert check(engine, DEMO, tmp_path), "what was cancelled was not passed"


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"says": []}]', "nonsense", '[{"question": 1}]'])
def test_damaged_questions_are_an_error_of_the_checkpoint(tmp_path: Path, text: str) -> None:
    (tmp_path / OWN_QUESTIONS).write_text(text)
    if text == "{}":
        assert self_check.own_questions(tmp_path) == []
        return
    with pytest.raises(CheckpointError, match="Download the model again"):
        self_check.own_questions(tmp_path)


def test_how_far_predictions_are_apart() -> None:
    one = Predictions((1.0, 2.0), {"1": math.log(0.5), "2": math.log(0.25)}, "a")
    assert differ(one, one) == pytest.approx(0.0, abs=1e-9)
    assert differ(one, replace(one, surprises=(1.5, 2.0))) == pytest.approx(0.25)
    other = replace(one, likeliest={"1": math.log(0.25), "2": math.log(0.5)})
    assert differ(one, other) == pytest.approx(0.25 * math.log(2))
    assert differ(one, replace(one, likeliest={"9": math.log(0.9)})) > 0.5
    assert differ(one, replace(one, surprises=(1.0,))) == math.inf


def test_the_sentence_names_the_versions_of_mlx() -> None:
    one, other = Predictions((1.0,), {}, "a"), Predictions((3.0,), {}, "a")
    with pytest.raises(SelfCheckError, match=r"MLX 0\.32\.4 then, 0\.33\.0 now"):
        compare_predictions("Qwen", one, other, "0.32.4", "0.33.0")
    compare_predictions("Qwen", one, one, "0.32.4", "0.33.0")


def test_words_have_to_be_there_in_order() -> None:
    assert has_words("A red circle and a Blue square.", ("red circle", "blue square"))
    assert not has_words("A blue square and a red circle.", ("red circle", "blue square"))
    assert not has_words("A red circle.", ("red circle", "red circle"))
