"""What a folder or file holds that is no checkpoint of ours: adapters, GGUF, pickled weights.

Judges by names alone and opens nothing: pickled weights can run programs when they are read.
"""

from pathlib import Path

from mlx_model.errors import CheckpointError

# Names in a folder -> what they are and what to do, the most telling first.
_KINDS = (
    (
        ("adapter_config.json", "adapter_model.*", "adapters.safetensors"),
        "is part of a LoRA adapter, which is no model by itself",
        "Choose the model that it was merged into.",
    ),
    (
        ("*.gguf",),
        "is in the GGUF format, which is not supported",
        "Choose the same model in safetensors files.",
    ),
    (
        ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle"),
        "is in a format that can run programs when it is read, and is never opened",
        "Choose the same model in safetensors files.",
    ),
)


def refuse_foreign(path: Path) -> None:
    """CheckpointError if `path` is a file of another kind, or a folder with one in it."""
    for patterns, what, remedy in _KINDS:
        for pattern in patterns:
            found = [path] if path.is_file() and path.match(pattern) else sorted(path.glob(pattern))
            if found:
                raise CheckpointError(f"The file {found[0]} {what}. {remedy}")
