"""Opening a model for a person: refused when too large, checked when new, quick when known."""

import logging
import shutil
import threading
from pathlib import Path

import pytest

from mlx_model.cache import DeltaNetCache
from mlx_model.cache_folder import VARIABLE
from mlx_model.draft_weights import load_draft_head
from mlx_model.errors import SelfCheckError, TooLargeError
from mlx_model.library.fit import RESERVE_BYTES
from mlx_model.limits import GIB, MachineLimits
from mlx_model.opening import fit_of, open_engine
from mlx_model.weights import LoadCancelledError, load_model
from tests.mlx_model.random_head import add_draft_head

DEMO = Path(__file__).parents[2] / "assets" / "demo_model"
ROOMY = MachineLimits(16 * GIB, 12 * GIB)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_first_opening_checks_and_the_next_does_not(cache: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    told = lambda *step: stages.append(step)  # noqa: E731
    assert open_engine(DEMO, on_progress=told).checked
    assert stages[0] == ("loading", 0, 0)
    assert stages[-1] == ("checking", 7, 7)
    stages.clear()
    opened = open_engine(DEMO, on_progress=told)
    assert not opened.checked
    assert opened.fit.verdict == "fits"
    assert stages == [("loading", 0, 0)]
    assert open_engine(DEMO, check_again=True).checked
    shutil.rmtree(cache)
    assert open_engine(DEMO).checked


def test_a_model_that_is_too_large_is_refused_with_figures_unless_told_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    small = MachineLimits(GIB, RESERVE_BYTES + 1000)
    with pytest.raises(TooLargeError, match=r"Demo model is too large .* needs 1\.0 GB"):
        open_engine(DEMO, small)
    with caplog.at_level(logging.WARNING, "fireside.opening"):
        opened = open_engine(DEMO, small, despite_size=True)
    assert opened.fit.verdict == "too large"
    assert "too large" in caplog.text
    assert opened.engine.max_context == 4096


def test_a_model_that_fits_tightly_gets_shorter_chats_and_says_so() -> None:
    needed = fit_of(DEMO, ROOMY).needed_bytes
    tight = MachineLimits(GIB, needed - 2048 * 1024)
    opened = open_engine(DEMO, tight)
    assert opened.fit.verdict == "tight"
    assert opened.engine.max_context == opened.fit.tokens < 4096
    assert opened.engine.note.endswith(f"chats of up to {opened.fit.tokens:,} tokens")


@pytest.mark.parametrize("head", [False, True])
def test_the_bytes_of_a_loaded_model_are_those_of_its_arrays(tmp_path: Path, head: bool) -> None:
    from mlx.utils import tree_flatten

    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder)
    if head:
        add_draft_head(folder)
    model = load_model(folder)
    model.mtp = load_draft_head(folder)
    held = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    fit = fit_of(folder, ROOMY)
    cache = model.make_cache()
    model.last_logits(_ids(), cache)
    usual = fit.needed_bytes - RESERVE_BYTES - held
    delta_nets = [layer for layer in cache.layers if isinstance(layer, DeltaNetCache)]
    state = sum(array.nbytes for net in delta_nets for array in net.held() if array is not None)
    layers = len(cache.layers) - len(delta_nets) + (model.mtp is not None)
    assert usual - state == layers * 4096 * 2 * 2 * 64 * 4


def _ids() -> object:
    import mlx.core as mx

    return mx.array([[1, 2, 3]])


def test_a_model_that_fails_its_check_is_not_opened_unless_told_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Path(shutil.copytree(DEMO, tmp_path / "model"))
    (model / "self_check.json").write_text('[{"question": "Who are you?", "says": ["a teapot"]}]')
    for _ in range(2):
        with pytest.raises(SelfCheckError, match="Who are you"):
            open_engine(model, despite_size=True)
    opened = open_engine(model, despite_check=True)
    assert opened.checked
    assert opened.engine.note.endswith("failed its self-check")
    assert "opened all the same" in caplog.text


def test_opening_can_be_given_up() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(LoadCancelledError):
        open_engine(DEMO, cancel=cancel)
