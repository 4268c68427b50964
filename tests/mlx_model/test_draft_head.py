"""The draft head against the one that the demo model is trained with, made by tools/reference."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlx_model.draft_head import DraftPlace
from mlx_model.draft_weights import load_draft_head
from mlx_model.errors import CheckpointError
from mlx_model.model import Model
from mlx_model.weights import load_model
from tests.mlx_model.goldens import (
    GOLDENS,
    TOLERANCE,
    Checkpoint,
    copy_checkpoint,
    golden_model,
    read_golden,
    relative_error,
)

CASE = "image"


def with_head(folder: Path) -> Checkpoint:
    checkpoint = copy_checkpoint("untied", folder)
    checkpoint.tensors |= load_file(GOLDENS / "draft_head" / "head.safetensors")
    return checkpoint


def loaded(folder: Path) -> Model:
    """The model with its draft head, as the engine has it."""
    model = load_model(folder)
    model.mtp = load_draft_head(folder)
    return model


def first_drafts(model: Model, chunk: int) -> dict[int, mx.array]:
    """Logits of the draft after each chunk of a prompt with a picture, by the reference's rows."""
    golden = read_golden("untied", CASE)
    media = model.encode_media(golden.pixel_values, golden.image_grid_thw)
    is_media = golden.input_ids[0] == model.config.image_token_id
    cache, tokens = model.make_cache(), golden.input_ids.shape[1]
    drafts: dict[int, mx.array] = {}
    for start in range(0, tokens, chunk):
        stop = min(start + chunk, tokens)
        if start and not is_media[start]:  # a reply is text
            token = mx.array(golden.input_ids[:, start : start + 1])
            place = DraftPlace(start, cache.last_position)
            drafted = model.draft(token, cache.last_hidden, place, cache)
            drafts[start - 1] = model.logits(drafted)[0, 0]
        seen, ends = is_media[:start].sum(), is_media[:stop].sum()
        model.last_logits(
            golden.input_ids[:, start:stop],
            cache,
            media[seen:ends] if ends > seen else None,
            golden.position_ids[:, start:stop],
        )
    return drafts


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_drafts_equal_the_references(tmp_path: Path, chunk: int) -> None:
    model = loaded(with_head(tmp_path).save())
    with np.load(GOLDENS / "draft_head" / "drafts.npz") as file:
        expected = file["logits"]
    found = first_drafts(model, chunk)
    assert len(found) > 10 // chunk
    for place, logits in found.items():
        assert relative_error(logits, expected[place]) < TOLERANCE


def test_a_head_changes_nothing_that_the_model_says(tmp_path: Path) -> None:
    golden = read_golden("untied", CASE)
    with_one = loaded(with_head(tmp_path).save())(golden.input_ids, **golden.media)
    without = golden_model("untied")(golden.input_ids, **golden.media)
    np.testing.assert_array_equal(np.array(with_one), np.array(without))


def test_a_packed_head_drafts_nearly_the_same(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    plain = loaded(checkpoint.save())
    for name in [name for name in checkpoint.tensors if name.startswith("mtp.")]:
        matrix = checkpoint.tensors[name]
        if matrix.ndim == 2 and matrix.shape[1] % 32 == 0:
            del checkpoint.tensors[name]
            layer = name.removesuffix(".weight")
            for role, packed in zip(
                ("weight", "scales", "biases"),
                mx.quantize(mx.array(matrix), group_size=32, bits=8),
                strict=True,
            ):
                checkpoint.tensors[f"{layer}.{role}"] = np.array(packed)
    checkpoint.config["quantization"] = {"group_size": 32, "bits": 8}
    (tmp_path / "packed").mkdir()
    checkpoint.folder = tmp_path / "packed"
    packed = golden_model("untied")
    expected = first_drafts(plain, 3)
    packed.mtp = load_draft_head(checkpoint.save())
    found = first_drafts(packed, 3)
    packed.mtp = None
    errors = [relative_error(found[place], expected[place]) for place in found]
    assert 0 < max(errors) < 0.05


def test_a_checkpoint_without_a_head_has_none(tmp_path: Path) -> None:
    assert load_draft_head(copy_checkpoint("untied", tmp_path).save()) is None


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    checkpoint.tensors["mtp.fc.weight"] = checkpoint.tensors["mtp.fc.weight"][:, :64]
    with pytest.raises(CheckpointError, match=r"draft head .* is not the one"):
        load_draft_head(checkpoint.save())


def test_a_damaged_head_is_refused(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    checkpoint.tensors["mtp.norm.weight"][3] = np.nan
    with pytest.raises(CheckpointError, match=r"damaged: mtp\.norm\.weight"):
        load_draft_head(checkpoint.save())


def test_half_a_head_is_refused(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    del checkpoint.tensors["mtp.fc.weight"]
    with pytest.raises(CheckpointError, match=r"draft head .* is not the one"):
        load_draft_head(checkpoint.save())
