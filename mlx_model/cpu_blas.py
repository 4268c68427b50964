"""Gives MLX's CPU backend on Linux a fast matrix product.

The Linux wheel of mlx carries the reference BLAS, which reaches about 3 GFLOP/s a core; OpenBLAS,
which the OpenCV wheel brings along anyway, reaches 100. Whoever starts a process calls
`prefer_openblas` before the first import of mlx.core. On a Mac there is nothing to do: MLX uses
Metal and Accelerate there.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

# More threads than this fight with whatever else runs: the products here are small.
_THREADS = 1


def prefer_openblas() -> bool:
    """Let mlx.core find OpenBLAS in place of its own BLAS; True if it will.

    Symbols of a library that was opened for the whole process come before those of the library
    that mlx names, but only while mlx.core is not loaded yet. Changes nothing when it returns
    False, which is never an error: everything works without, slower.
    """
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return False
    for name in _candidates():
        try:
            library = ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if hasattr(library, "cblas_sgemm") and hasattr(library, "openblas_set_num_threads"):
            library.openblas_set_num_threads(_THREADS)
            return True
    return False


def _candidates() -> Iterator[str]:
    """Files or names of OpenBLAS builds with 32-bit indices and plain symbol names."""
    spec = importlib.util.find_spec("cv2")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent.parent / "opencv_python_headless.libs"
        yield from (str(file) for file in sorted(bundled.glob("libopenblas*.so*")))
    yield "libopenblas.so.0"
