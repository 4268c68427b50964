"""Finding a checkpoint's tensors, checking that they are exactly the model's, and loading them.

Everything is checked from the files' headers before a weight is read. Two layouts are known:
the published one, and the same with some matrices quantised by mlx_model.convert. The published
names and norm convention (zero-centred) are the only ones; files say so in their metadata.
"""

import json
import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_model.config import ModelConfig, QuantizationConfig, load_config
from mlx_model.errors import CheckpointError
from mlx_model.layers import on_metal
from mlx_model.model import Model

INDEX_NAME = "model.safetensors.index.json"
NORM_CONVENTION = "zero_centred"

BYTES_PER_ELEMENT = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4}

_HEADER_LIMIT_BYTES = 100_000_000
# fp32 whatever the model computes in: they set decays, which compound over the whole sequence.
_FP32_ENDINGS = ("A_log", "dt_bias", "norm.weight", "layernorm.weight")
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a file's header describes it; `dtype` in safetensors' words."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


class LoadCancelledError(Exception):
    """Loading was stopped on request; nobody needs to be told."""


def load_model(
    path: str | Path, dtype: mx.Dtype | None = None, cancel: threading.Event | None = None
) -> Model:
    """Load a checkpoint folder, strictly: a missing, extra or misshapen tensor is an error.

    Computes in `dtype`, which is fp32 on the CPU backend and bf16 on Metal unless given. `mtp.*`
    is allowed and left on disk. `cancel` may be set from any thread and is looked at before each
    tensor is read; LoadCancelledError then.
    """
    folder = Path(path)
    config = load_config(folder)
    tensors = find_tensors(folder)
    model = checked_model(config, tensors, folder)
    names = parameter_names(config, tensors)
    if dtype is None:
        dtype = mx.bfloat16 if on_metal() else mx.float32
    model.load_weights(
        [(name, _cast(name, array, dtype)) for name, array in _read(names, tensors)], strict=True
    )
    model.eval()
    for array in dict(tree_flatten(model.parameters())).values():
        if cancel is not None and cancel.is_set():
            raise LoadCancelledError
        mx.eval(array)
    return model


def checked_model(config: ModelConfig, tensors: Mapping[str, TensorInfo], folder: Path) -> Model:
    """A model without weights that the tensors of `folder` fit exactly, or CheckpointError."""
    model = Model(config)
    if config.quantization is not None:
        _quantise_layers(model, config.quantization, tensors)
    _check(model, parameter_names(config, tensors), tensors, folder)
    return model


def find_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Name -> description of every tensor of a checkpoint, from one file or the index's shards."""
    index = folder / INDEX_NAME
    if index.exists():
        files = _indexed_files(index)
    else:
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            raise CheckpointError(
                f"There are no weights in {folder} (model.safetensors). Download the model again."
            )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        tensors.update(read_header(file))
    return tensors


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Describe the tensors of one safetensors file, without reading them.

    CheckpointError if the file is cut short, holds types or norms that the port does not know.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT_BYTES:
                raise ValueError("the header is too long")
            header: dict[str, Any] = json.loads(stream.read(length))
            size = file.stat().st_size
        metadata = header.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        infos = {
            name: TensorInfo(file, entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
        }
        complete = 8 + length + end == size
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise _unreadable(file) from error
    if not complete:
        raise CheckpointError(f"The weights file {file} is incomplete. Download the model again.")
    _check_header(file, metadata, infos)
    return infos


def parameter_names(config: ModelConfig, tensors: Iterable[str]) -> dict[str, str]:
    """Parameter of the model -> tensor of the checkpoint, leaving out what is never loaded.

    Text-only checkpoints name the language model `model.`; a tied one may repeat the embedding
    as `lm_head.weight`, which the reference ignores as well.
    """
    names: dict[str, str] = {}
    for name in tensors:
        if name.startswith("mtp.") or (
            config.text.tie_word_embeddings and name == "lm_head.weight"
        ):
            continue
        inside = name.startswith("model.")
        flat = config.vision is None and inside and not name.startswith("model.language_model.")
        names[f"model.language_model.{name[6:]}" if flat else name] = name
    return names


def _indexed_files(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({index.parent / Path(name).name for name in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The file {index} cannot be read. Download the model again."
        ) from error
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise CheckpointError(
            f"The model in {index.parent} is incomplete: {_listed(missing)} not there. "
            "Download the model again."
        )
    return files


def _check_header(file: Path, metadata: object, infos: Mapping[str, TensorInfo]) -> None:
    unknown = [name for name, info in infos.items() if info.dtype not in BYTES_PER_ELEMENT]
    if unknown:
        raise CheckpointError(
            f"The weights file {file} holds number types that are not supported: "
            f"{_listed(unknown)}. Choose another version of the model."
        )
    norms = metadata.get("norm_convention") if isinstance(metadata, Mapping) else None
    # Other MLX converters shift the norms and turn the convolutions in one go, without a word
    # about it; the convolution's shape is the only reliable trace.
    turned = any(
        name.endswith("conv1d.weight") and info.shape[-1:] == (1,) for name, info in infos.items()
    )
    if norms not in (None, NORM_CONVENTION) or turned:
        raise CheckpointError(
            f"The weights file {file} was converted for another program. "
            "Choose the published model, or one converted by Fireside."
        )


def _quantise_layers(
    model: Model, quantization: QuantizationConfig, tensors: Mapping[str, TensorInfo]
) -> None:
    """Swap in quantised layers wherever the checkpoint has scales, packed as its config says."""
    names = parameter_names(model.config, tensors)

    def packing(path: str, layer: nn.Module) -> bool | dict[str, int]:
        scales = names.get(f"{path}.scales")
        if scales is None or not hasattr(layer, "to_quantized"):
            return False
        packed = quantization.packing(scales.removesuffix(".scales"))
        # What groups cannot fill stays as it is, and then does not fit its tensors.
        fits = layer.weight.shape[-1] % packed.group_size == 0
        return fits and {"bits": packed.bits, "group_size": packed.group_size}

    nn.quantize(model, class_predicate=packing)


def _check(
    model: Model, names: Mapping[str, str], tensors: Mapping[str, TensorInfo], folder: Path
) -> None:
    parameters = dict(tree_flatten(model.parameters()))
    expected = {name: tuple(array.shape) for name, array in parameters.items()}
    missing = sorted(expected.keys() - names.keys())
    extra = sorted(names[name] for name in names.keys() - expected.keys())
    misshapen = sorted(
        f"{names[name]} is {list(tensors[names[name]].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in names and tensors[names[name]].shape != shape
    )
    faults = [
        f"{what}: {_listed(found)}"
        for what, found in (
            ("missing", missing),
            ("unknown", extra),
            ("of another shape", misshapen),
        )
        if found
    ]
    if faults:
        raise CheckpointError(
            f"The weights in {folder} are not those that its config.json describes "
            f"({'; '.join(faults)}). Download the model again."
        )


def _read(
    names: Mapping[str, str], tensors: Mapping[str, TensorInfo]
) -> Iterable[tuple[str, mx.array]]:
    files = {file: load_file(file) for file in {tensors[name].file for name in names.values()}}
    for parameter, name in names.items():
        yield parameter, files[tensors[name].file][name]


def load_file(file: Path) -> dict[str, mx.array]:
    """The tensors of one safetensors file, read when they are first used."""
    try:
        loaded = mx.load(str(file))
    except RuntimeError as error:
        raise _unreadable(file) from error
    assert isinstance(loaded, dict)
    return loaded


def _unreadable(file: Path) -> CheckpointError:
    return CheckpointError(f"The weights file {file} cannot be read. Download the model again.")


def _cast(name: str, array: mx.array, dtype: mx.Dtype) -> mx.array:
    if array.dtype == mx.uint32:
        return array
    fp32 = name.startswith("model.language_model.") and name.endswith(_FP32_ENDINGS)
    return array.astype(mx.float32 if fp32 else dtype)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
