"""Whoever runs these tests may be logged in to the real hub; the tests are not."""

from pathlib import Path

import pytest
from huggingface_hub import constants


@pytest.fixture(autouse=True)
def _not_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
