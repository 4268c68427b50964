"""Logits held against a reference's: near enough passes, anything else is told."""

from pathlib import Path

import numpy as np
import pytest

from mlx_model.errors import FiresideError
from tools.real.comparison import compare_logits, divergence, relative_error, same_likeliest

LOGITS = np.random.default_rng(3).normal(0, 4, (20, 50)).astype(np.float32)


def kept(folder: Path, name: str, logits: np.ndarray) -> Path:
    file = folder / f"{name}.npz"
    np.savez(file, **{"text.logits": logits, "picture.logits": logits})
    return file


def test_near_enough_passes_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, ours = kept(tmp_path, "reference", LOGITS), kept(tmp_path, "ours", LOGITS + 1e-4)
    packed = kept(tmp_path, "packed", LOGITS[::-1])
    compare_logits(reference, ours, packed, "float32")
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        f"{case}, {weights}" for case in ("text", "picture") for weights in ("published", "4 bits")
    ]
    assert "same likeliest token 100.0 %" in told[0]


@pytest.mark.parametrize("wrong", [LOGITS * 1.01, LOGITS[:, ::-1], LOGITS * np.nan])
def test_too_far_is_an_error(tmp_path: Path, wrong: np.ndarray) -> None:
    reference, ours = kept(tmp_path, "reference", LOGITS), kept(tmp_path, "ours", wrong)
    with pytest.raises(FiresideError, match="text and picture"):
        compare_logits(reference, ours, reference, "float32")
    compare_logits(reference, reference, ours, "float32")


def test_the_measures() -> None:
    two = np.log(np.array([[0.5, 0.5]], np.float32))
    other = np.log(np.array([[0.25, 0.75]], np.float32))
    assert divergence(two, other) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(two, two) == pytest.approx(0)
    assert relative_error(LOGITS * 1.5, LOGITS) == pytest.approx(0.5)
    assert same_likeliest(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[::-1]) == 0
