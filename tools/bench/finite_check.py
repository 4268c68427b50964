"""What it costs to look whether weights are finite while they are loaded, beside not looking.

    python -m tools.bench.finite_check [--gigabytes 1] [--folder DIR]

A packed checkpoint's tensors are made first, random: 4-bit matrices with 16-bit scales and biases,
and a sixth as much in 16 bits. Each way of looking then loads the file three times, the fastest
counts; the file is in the system's cache, so that the disk hides nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from mlx_model.device_math import on_metal
from mlx_model.weights import is_finite

SIDE = 4096
RUNS = 3


def make_file(file: Path, gigabytes: float) -> None:
    """Random tensors in the proportions of a quantised vision-language model."""
    plain = mx.random.normal((SIDE, SIDE)).astype(mx.bfloat16)
    packed = dict(zip(("weight", "scales", "biases"), mx.quantize(plain, 64, 4), strict=True))
    layer_bytes = sum(array.nbytes for array in packed.values())
    tensors: dict[str, mx.array] = {}
    for number in range(round(gigabytes * 1e9 * 5 / 6 / layer_bytes)):
        tensors |= {f"layers.{number}.{name}": array for name, array in packed.items()}
    for number in range(round(gigabytes * 1e9 / 6 / plain.nbytes)):
        tensors[f"plain.{number}"] = plain
    mx.save_safetensors(str(file), tensors)


def look_at_nothing(array: mx.array) -> bool:
    mx.eval(array)
    return True


def look_at_each_value(array: mx.array) -> bool:
    """The obvious way, in floating point."""
    fine = mx.array(True) if array.dtype == mx.uint32 else mx.isfinite(array).all()
    mx.eval(array, fine)
    return bool(fine.item())


def seconds(file: Path, look: Callable[[mx.array], bool]) -> float:
    """The fastest load of the file, as the engine's own does it."""
    dtype, fastest = mx.bfloat16 if on_metal() else mx.float32, float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        for name in list(loaded):
            array = loaded.pop(name)
            assert look(array if array.dtype == mx.uint32 else array.astype(dtype))
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = Path(folder) / "model.safetensors"
        make_file(file, options.gigabytes)
        size = file.stat().st_size / 1e9
        print(f"{size:.2f} GB, {'Metal' if on_metal() else 'CPU backend'}, fastest of {RUNS}")
        seconds(file, look_at_nothing)  # what comes first fills the caches for the others
        base = 0.0
        for name, look in (
            ("not looking", look_at_nothing),
            ("is_finite (integer maxima)", is_finite),
            ("mx.isfinite(x).all()", look_at_each_value),
        ):
            taken = seconds(file, look)
            base = base or taken
            print(f"{name:<28} {taken:6.2f} s   {taken - base:+6.2f} s   {size / taken:5.1f} GB/s")


if __name__ == "__main__":
    main()
