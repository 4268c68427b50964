"""mlx-lm's kernels for the gated delta rule, without the rest of mlx-lm.

Importing mlx-lm brings transformers along, which takes seconds. The one file with the kernels needs
nothing but mlx, so it is run by itself.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

_PACKAGE = "mlx_lm"
_FILE = Path("models", "gated_delta.py")


@cache
def gated_delta() -> ModuleType:
    """The module `mlx_lm.models.gated_delta`; ImportError if this mlx-lm has none."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"{_PACKAGE} is not installed")
    file = Path(package.submodule_search_locations[0]) / _FILE
    spec = importlib.util.spec_from_file_location(f"{__name__}.{file.stem}", file)
    if spec is None or spec.loader is None or not file.exists():
        raise ImportError(f"{file} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
