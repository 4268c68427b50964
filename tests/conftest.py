"""What all tests share: a fast BLAS for MLX on Linux, before any of them imports it, and no clock
that judges how long hypothesis' examples take: a machine may be busy. Records of self-checks stay
out of the person's own folder.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from mlx_model.cache_folder import VARIABLE
from mlx_model.cpu_blas import prefer_openblas

prefer_openblas()
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
