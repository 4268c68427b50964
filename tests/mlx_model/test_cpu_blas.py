"""The fast BLAS is found first, gives right products and never stands in the way."""

import subprocess
import sys

import pytest

CHECK = """
import ctypes, sys
from mlx_model.cpu_blas import prefer_openblas
found = prefer_openblas()
import mlx.core as mx, numpy as np
assert not prefer_openblas(), "too late once mlx is loaded"
if found:
    everywhere = ctypes.CDLL(None)
    assert hasattr(everywhere, "openblas_get_config"), "not opened for the whole process"
a = np.random.default_rng(0).standard_normal((70, 90)).astype(np.float32)
np.testing.assert_allclose(mx.array(a) @ mx.array(a).T, a @ a.T, rtol=1e-4, atol=1e-4)
system = a[:, :70] @ a[:, :70].T + 70 * np.eye(70, dtype=np.float32)
lower = np.tril(system)
inverse = np.array(mx.linalg.tri_inv(mx.array(lower), stream=mx.cpu))
np.testing.assert_allclose(inverse @ lower, np.eye(70), atol=1e-5)
import cv2
print("found" if found else "absent")
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="Metal and Accelerate serve on a Mac")
def test_the_bundled_openblas_takes_over() -> None:
    assert run(CHECK) == "found"


def test_without_opencv_everything_works_as_before() -> None:
    hide = "import sys; sys.modules['cv2'] = None\n"
    code = CHECK.replace("import cv2\n", "").replace(
        "import ctypes, sys",
        "import ctypes, sys, importlib.util\nimportlib.util.find_spec = lambda name: None",
    )
    assert run(hide + code) in ("absent", "found")
