"""How much memory a conversion takes, beside its bound and beside gathering the copy first.

    python -m tools.bench.conversion_memory [--layers 24] [--folder DIR]

A text-only checkpoint of random 16-bit weights is made first: one matrix of half a gigabyte and
many smaller ones, 3.3 GB together. Each row is a process of its own, whose highest resident memory
is told less that of an idle one with mlx imported. The bound is twice the largest tensor and
512 MB. The baseline gathers the packed tensors in memory and saves them with MLX's own function,
which takes a whole file at once: that grows with the model. Needs about 6 GB of disk.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Nothing heavy is imported here: a process inherits the record of the one that started it.

MB = 1e6
BOUND_BYTES = 512e6
SHARD_LAYERS = 4
TEXT = {
    "model_type": "qwen3_5_text",
    "vocab_size": 131072,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "full_attention_interval": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "attention_bias": False,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "mrope_section": [11, 11, 10],
    },
}


def make_checkpoint(folder: Path, layers: int) -> int:
    """Write a checkpoint of random weights in several files; returns its largest tensor's bytes."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlx_model.config import parse_config
    from mlx_model.model import Model
    from mlx_model.tensor_files import INDEX_NAME
    from mlx_model.tensor_writer import TensorLayout, TensorWriter

    folder.mkdir(parents=True)
    config = TEXT | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    files: dict[str, dict[str, TensorLayout]] = {}
    for name, array in tree_flatten(Model(parse_config(config)).parameters()):
        parts = name.split(".")
        number = 1 + int(parts[3]) // SHARD_LAYERS if parts[2] == "layers" else 0
        layout = TensorLayout("BF16", tuple(array.shape))
        files.setdefault(f"model-{number}.safetensors", {})[name] = layout
    for file, layouts in files.items():
        with TensorWriter(folder / file, layouts, {}) as writer:
            for name, layout in layouts.items():
                writer.write(name, mx.random.normal(layout.shape, scale=0.02).astype(mx.bfloat16))
    weight_map = {name: file for file, layouts in files.items() for name in layouts}
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return max(layout.size_bytes for layouts in files.values() for layout in layouts.values())


def idle(_source: Path, _target: Path) -> None:
    """Nothing but what a conversion imports."""
    import mlx.core as mx

    import mlx_model.convert

    assert mlx_model.convert
    mx.eval(mx.zeros(1))


def streamed(recipe: str, bits: int) -> Callable[[Path, Path], None]:
    """Fireside's conversion."""

    def run(source: Path, target: Path) -> None:
        from mlx_model.convert import convert

        convert(source, target, recipe, bits)

    return run


def gathered(bits: int) -> Callable[[Path, Path], None]:
    """The baseline: everything is packed, then saved at once."""

    def run(source: Path, target: Path) -> None:
        import mlx.core as mx

        from mlx_model.config import load_config
        from mlx_model.recipes import find_recipe, packing
        from mlx_model.tensor_reader import load_file

        target.mkdir()
        recipe, layers = find_recipe("uniform", bits), load_config(source).text.num_hidden_layers
        packed: dict[str, mx.array] = {}
        for file in sorted(source.glob("*.safetensors")):
            loaded = load_file(file)
            for name in sorted(loaded):
                array = loaded.pop(name)
                how = packing(recipe, name, tuple(array.shape), layers)
                made = (array,) if how is None else mx.quantize(array, how.group_size, how.bits)
                mx.eval(made)
                packed.update({f"{name}.{index}": part for index, part in enumerate(made)})
        mx.save_safetensors(str(target / "model.safetensors"), packed)

    return run


ROWS: dict[str, Callable[[Path, Path], None]] = {
    "idle": idle,
    "uniform 4": streamed("uniform", 4),
    "mixed": streamed("mixed", 4),
    "uniform 8": streamed("uniform", 8),
    "uniform 4, gathered first": gathered(4),
    "uniform 8, gathered first": gathered(8),
}


def highest_resident_bytes() -> int:
    """The most memory that this process has had resident so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def measure(row: str, source: Path) -> tuple[int, float]:
    """Run one row in a process of its own: highest resident bytes, and seconds."""
    target = source.with_name("converted")
    started_s = time.perf_counter()
    command = [sys.executable, "-m", "tools.bench.conversion_memory", "--row", row]
    done = subprocess.run(
        [*command, "--folder", str(source.parent)], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started_s
    shutil.rmtree(target, ignore_errors=True)
    return int(done.stdout), seconds


def main() -> None:
    """The command line; with --row, one row as a process of its own."""
    parser = argparse.ArgumentParser(prog="tools.bench.conversion_memory")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        source = options.folder / "source"
        if options.row == "make":
            print(make_checkpoint(source, options.layers))
            return
        ROWS[options.row](source, options.folder / "converted")
        print(highest_resident_bytes())
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "source"
        print_table(source, options.layers)


def print_table(source: Path, layers: int) -> None:
    """Make the checkpoint and measure every row."""
    command = [sys.executable, "-m", "tools.bench.conversion_memory", "--row", "make"]
    command += ["--layers", str(layers), "--folder", str(source.parent)]
    largest = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    total = sum(file.stat().st_size for file in source.iterdir())
    bound = 2 * largest + BOUND_BYTES
    print(f"Source {total / MB:,.0f} MB, largest tensor {largest / MB:,.0f} MB.\n")
    print("| | highest over idle, MB | bound, MB | s |")
    print("|---|---|---|---|")
    base, _ = measure("idle", source)
    for row in list(ROWS)[1:]:
        used, seconds = measure(row, source)
        print(
            f"| {row} | {(used - base) / MB:,.0f} | {bound / MB:,.0f} | {seconds:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
