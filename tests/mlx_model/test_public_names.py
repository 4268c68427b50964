"""What `import mlx_model` offers, and what it does not bring along."""

import subprocess
import sys
from pathlib import Path

import pytest

import mlx_model

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", mlx_model.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(mlx_model, name) is not None


def test_other_names_are_missing_as_usual() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mlx_model.nonsense


def test_importing_the_package_brings_nothing_heavy() -> None:
    script = (
        "import sys, mlx_model, mlx_model.__main__;"
        "heavy = {'mlx', 'mlx_lm', 'numpy', 'cv2', 'PIL', 'tokenizers', 'transformers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_engine_needs_no_transformers() -> None:
    """It takes seconds to import and stalls the window meanwhile; mlx-lm brings it along."""
    script = (
        "import sys, threading; from mlx_model import *;"
        "from mlx_model.delta_kernels import gated_delta; gated_delta().gated_delta_kernel;"
        "engine = Engine.load('assets/demo_model');"
        "list(engine.reply(ReplyRequest((Message.text('user', 'Hello'),)), threading.Event()));"
        "print(sorted({'mlx_lm', 'transformers', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
