"""What all tests share: a fast BLAS for MLX on Linux, before any of them imports it, and no clock
that judges how long hypothesis' examples take: a machine may be busy. Records of self-checks stay
out of the person's own folder, and models of the person's out of the tests; what one test has
read is not known to the next.
"""

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings

from mlx_model.cache_folder import VARIABLE as CACHE
from mlx_model.cache_folder import cache_folder
from mlx_model.cpu_blas import prefer_openblas
from mlx_model.library.own_models import VARIABLE as MODELS

prefer_openblas()
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for variable in (CACHE, MODELS, "HF_HUB_CACHE"):
        patch.setenv(variable, str(tmp_path_factory.mktemp("own")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _nothing_read_by_other_tests() -> None:
    shutil.rmtree(cache_folder() / "states", ignore_errors=True)
