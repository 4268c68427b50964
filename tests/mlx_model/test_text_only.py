"""Checkpoints of the language model alone, as transformers saves them and as others cut them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.errors import CheckpointError
from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import (
    GOLDENS,
    MIXTURES,
    TOLERANCE,
    VARIANTS,
    Checkpoint,
    copy_checkpoint,
    read_golden,
    relative_error,
)

every_variant = pytest.mark.parametrize("variant", VARIANTS + MIXTURES)
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")


def text_only(variant: str, folder: Path) -> Checkpoint:
    """The golden weights under the config and the names that transformers gives them alone."""
    checkpoint = copy_checkpoint(variant, folder)
    saved = json.loads((GOLDENS / variant / "text_only.json").read_text(encoding="utf-8"))
    checkpoint.config = saved["config"]
    checkpoint.tensors = {
        name: _tensor(name.replace("model.", "model.language_model.", 1), checkpoint.tensors)
        for name in saved["tensors"]
    }
    return checkpoint


def _tensor(name: str, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """The tensor `name`, cut out of the fused ones if it is one expert's."""
    expert = _EXPERT.fullmatch(name)
    if expert is None or name in tensors:
        return tensors[name]
    place, number, matrix = expert[1], int(expert[2]), expert[3]
    if matrix == "down":
        return tensors[f"{place}.down_proj"][number].copy()
    gate, up = np.split(tensors[f"{place}.gate_up_proj"][number], 2)
    return (gate if matrix == "gate" else up).copy()


def check_answers(model: Model, variant: str) -> None:
    """A prompt and the tokens after it give what the whole model gives, which the file says."""
    for case in ("text_65", "text_decode"):
        golden = read_golden(variant, case)
        cache = model.make_cache()
        rows = [model(golden.prompt, cache=cache)[0]]
        for token in golden.input_ids[0, golden.prompt_tokens :]:
            rows.append(model.last_logits(mx.array([[int(token)]]), cache))
        assert relative_error(mx.concatenate(rows), golden.logits) < TOLERANCE


@every_variant
def test_the_flat_form_that_transformers_saves(variant: str, tmp_path: Path) -> None:
    checkpoint = text_only(variant, tmp_path)
    assert "text_config" not in checkpoint.config
    assert ("lm_head.weight" in checkpoint.tensors) == variant.endswith("untied")
    check_answers(load_model(checkpoint.save()), variant)


@every_variant
@pytest.mark.parametrize("prefix", ["model.", "model.language_model."])
def test_a_published_config_without_its_vision_part(
    variant: str, prefix: str, tmp_path: Path
) -> None:
    checkpoint = text_only(variant, tmp_path)
    whole = json.loads((GOLDENS / variant / "config.json").read_text(encoding="utf-8"))
    checkpoint.config = {key: value for key, value in whole.items() if key != "vision_config"}
    checkpoint.tensors = {
        name.replace("model.", prefix, 1): tensor for name, tensor in checkpoint.tensors.items()
    }
    check_answers(load_model(checkpoint.save()), variant)


@every_variant
def test_pictures_are_refused(variant: str, tmp_path: Path) -> None:
    model = load_model(text_only(variant, tmp_path).save())
    with pytest.raises(ValueError, match="no vision tower"):
        model.encode_media(np.zeros((4, 96), np.float32), np.array([[1, 2, 2]]))


@every_variant
def test_the_tokens_of_pictures_are_ordinary_there(variant: str, tmp_path: Path) -> None:
    """Ids that mean a picture to the whole model are rows of the embedding like any other."""
    model = load_model(text_only(variant, tmp_path).save())
    ids = np.array([[3, 104, 105, 106, 7]])
    positions, following = model.position_ids(ids)
    assert positions.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert following == 5
    cache = model.make_cache()
    rows = [model.last_logits(ids[:, t : t + 1], cache) for t in range(5)]
    assert relative_error(mx.concatenate(rows), model(ids)[0]) < TOLERANCE


def test_an_untied_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    checkpoint = text_only("untied", tmp_path)
    del checkpoint.tensors["lm_head.weight"]
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        load_model(checkpoint.save())


def test_a_whole_checkpoint_is_not_taken_for_a_text_one(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    del checkpoint.config["vision_config"]
    with pytest.raises(CheckpointError, match=r"unknown: model\.visual"):
        load_model(checkpoint.save())
