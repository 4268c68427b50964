"""The draft head against the one that the demo model is trained with, made by tools/reference."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlx_model.draft_head import load_draft_head
from mlx_model.errors import CheckpointError
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


def test_drafts_equal_the_references(tmp_path: Path) -> None:
    folder = with_head(tmp_path).save()
    model, head = load_model(folder), load_draft_head(folder)
    golden = read_golden("untied", CASE)
    run = model.run(golden.input_ids, **golden.media)
    with np.load(GOLDENS / "draft_head" / "drafts.npz") as expected:
        found = model.logits(head.drafts(run))[0]
        assert relative_error(found, expected["logits"]) < TOLERANCE


def test_a_head_changes_nothing_that_the_model_says(tmp_path: Path) -> None:
    golden = read_golden("untied", CASE)
    with_one = load_model(with_head(tmp_path).save())(golden.input_ids, **golden.media)
    without = golden_model("untied")(golden.input_ids, **golden.media)
    np.testing.assert_array_equal(np.array(with_one), np.array(without))


def test_a_packed_head_drafts_nearly_the_same(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    plain = load_draft_head(checkpoint.save())
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
    packed = load_draft_head(checkpoint.save())
    golden = read_golden("untied", CASE)
    run = golden_model("untied").run(golden.input_ids, **golden.media)
    error = relative_error(packed.drafts(run), plain.drafts(run))
    assert 0 < error < 0.05


def test_a_checkpoint_without_a_head_says_so(tmp_path: Path) -> None:
    folder = copy_checkpoint("untied", tmp_path).save()
    with pytest.raises(CheckpointError, match=r"no draft head"):
        load_draft_head(folder)


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path)
    checkpoint.tensors["mtp.fc.weight"] = checkpoint.tensors["mtp.fc.weight"][:, :64]
    with pytest.raises(CheckpointError, match=r"draft head .* is not the one"):
        load_draft_head(checkpoint.save())
