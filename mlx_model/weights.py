"""Checking that a checkpoint's tensors are exactly the model's, and loading them.

Names, shapes and types are checked from the files' headers before a weight is read; while the
weights are read, each is checked to be finite.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_model.config import ModelConfig, QuantizationConfig, load_config
from mlx_model.device_math import on_metal
from mlx_model.errors import CheckpointError
from mlx_model.layouts import Source, canonical_name, parameter_sources
from mlx_model.model import Model
from mlx_model.tensor_files import TensorInfo, find_tensors, listed, unreadable
from mlx_model.tensor_reader import load_file

# fp32 whatever the model computes in: they set decays, which compound over the whole sequence.
_FP32_ENDINGS = ("A_log", "dt_bias", "norm.weight", "layernorm.weight")

# The bits of infinity; those of NaN are more. Integers of the same size, signed and unsigned.
_INFINITY = {
    mx.bfloat16: (0x7F80, mx.int16, mx.uint16),
    mx.float16: (0x7C00, mx.int16, mx.uint16),
    mx.float32: (0x7F800000, mx.int32, mx.uint32),
}


class LoadCancelledError(Exception):
    """Loading was stopped on request; nobody needs to be told."""


def load_model(
    path: str | Path, dtype: mx.Dtype | None = None, cancel: threading.Event | None = None
) -> Model:
    """Load a checkpoint folder, strictly: a missing, extra or misshapen tensor is an error.

    Computes in `dtype`, which is fp32 on the CPU backend and bf16 on Metal unless given. `mtp.*`
    is allowed and left to `load_draft_head`. `cancel` may be set from any thread and is looked at
    before each tensor is read; LoadCancelledError then.
    """
    folder = Path(path)
    config = load_config(folder)
    tensors = find_tensors(folder)
    model = checked_model(config, tensors, folder)
    sources = parameter_sources(config, tensors)
    if dtype is None:
        dtype = mx.bfloat16 if on_metal() else mx.float32
    model.load_weights(list(_read(sources, tensors, dtype).items()), strict=True)
    model.eval()
    for name, array in dict(tree_flatten(model.parameters())).items():
        if cancel is not None and cancel.is_set():
            raise LoadCancelledError
        check_parameter(array, sources[name], tensors)
    return model


def checked_model(config: ModelConfig, tensors: Mapping[str, TensorInfo], folder: Path) -> Model:
    """A model without weights that the tensors of `folder` fit exactly, or CheckpointError."""
    model = Model(config)
    sources = parameter_sources(config, tensors)
    if config.quantization is not None:
        _quantise_layers(model, config.quantization, sources)
    _check(model, sources, tensors, folder)
    return model


def check_values(array: mx.array, name: str, file: Path) -> None:
    """Evaluate what was made of the tensor `name`; CheckpointError unless it is sound."""
    try:
        finite = is_finite(array)
    except RuntimeError as error:
        raise unreadable(file) from error
    if not finite:
        raise CheckpointError(
            f"The weights file {file} is damaged: {name} holds values that are no finite numbers. "
            "Download the model again."
        )


def check_parameter(array: mx.array, source: Source, tensors: Mapping[str, TensorInfo]) -> None:
    """The same for a parameter, which experts may be stacked into; names the one at fault."""
    first, *others = source.tensors
    try:
        check_values(array, first, tensors[first].file)
    except CheckpointError:
        for place, name in enumerate(source.tensors if others else ()):
            check_values(array[place], name, tensors[name].file)
        raise


def is_finite(array: mx.array) -> bool:
    """Whether no value is infinite or NaN; evaluates the array. Packed integers always are.

    Two integer maxima, over the bits as signed and as unsigned numbers, see positive and negative
    ones: many times faster than floating-point tests on the CPU, and without a copy.
    """
    if array.dtype not in _INFINITY or array.size == 0:
        mx.eval(array)
        return True
    infinity, signed, unsigned = _INFINITY[array.dtype]
    minus_infinity = infinity + (1 << (8 * array.itemsize - 1))
    largest = mx.max(array.view(signed)), mx.max(array.view(unsigned))
    mx.eval(array, largest)
    return int(np.array(largest[0])) < infinity and int(np.array(largest[1])) < minus_infinity


def _quantise_layers(
    model: Model, quantization: QuantizationConfig, sources: Mapping[str, Source]
) -> None:
    """Swap in quantised layers wherever the checkpoint has scales, packed as its config says.

    Some configs name layers in another layout than the checkpoint names its tensors.
    """
    stated = {canonical_name(f"{layer}.weight"): layer for layer in quantization.layers}

    def packing(path: str, layer: nn.Module) -> bool | dict[str, int]:
        scales = sources.get(f"{path}.scales")
        if scales is None or not hasattr(layer, "to_quantized"):
            return False
        layer_name = scales.tensors[0].removesuffix(".scales")
        canonical = canonical_name(f"{layer_name}.weight")
        packed = quantization.packing(stated.get(canonical, layer_name))
        # What groups cannot fill stays as it is, and then does not fit its tensors.
        fits = layer.weight.shape[-1] % packed.group_size == 0
        return fits and {"bits": packed.bits, "group_size": packed.group_size}

    nn.quantize(model, class_predicate=packing)


def _check(
    model: Model, sources: Mapping[str, Source], tensors: Mapping[str, TensorInfo], folder: Path
) -> None:
    expected = dict(tree_flatten(model.parameters()))
    missing = {name for name in expected if name not in sources}
    extra, misshapen, mistyped = set[str](), set[str](), set[str]()
    at_fault: set[Path] = set()
    for name, source in sources.items():
        absent = source.missing(tensors)
        missing.update(absent)
        known = len(extra) + len(misshapen) + len(mistyped)
        if name not in expected:
            extra.update(tensor for tensor in source.tensors if tensor in tensors)
        elif not absent:
            first, shape = source.tensors[0], expected[name].shape
            found = source.shape(tensors)
            if found != shape:
                misshapen.add(f"{first} is {list(found)}, not {list(shape)}")
            packed = expected[name].dtype == mx.uint32
            if any((tensors[tensor].dtype == "U32") != packed for tensor in source.tensors):
                mistyped.add(first)
        if len(extra) + len(misshapen) + len(mistyped) > known:
            at_fault.update(tensors[tensor].file for tensor in source.tensors if tensor in tensors)
    faults = [
        f"{what}: {listed(sorted(found))}"
        for what, found in (
            ("missing", missing),
            ("unknown", extra),
            ("of another shape", misshapen),
            ("of another number type", mistyped),
        )
        if found
    ]
    if faults:
        # What is missing may have been in any of them.
        files = {info.file for info in tensors.values()} if missing else at_fault
        place = files.pop() if len(files) == 1 else folder
        raise CheckpointError(
            f"The weights in {place} are not those that config.json describes "
            f"({'; '.join(faults)}). Download the model again."
        )


def _read(
    sources: Mapping[str, Source], tensors: Mapping[str, TensorInfo], dtype: mx.Dtype
) -> dict[str, mx.array]:
    """The parameters as arrays that are read when they are evaluated."""
    used = {name for source in sources.values() for name in source.tensors}
    files = {file: load_file(file) for file in {tensors[name].file for name in used}}
    arrays = {name: files[tensors[name].file][name] for name in used}
    return {
        parameter: as_computed(parameter, source.array(arrays), dtype)
        for parameter, source in sources.items()
    }


def as_computed(parameter: str, array: mx.array, dtype: mx.Dtype) -> mx.array:
    """A parameter in the type that a model which computes in `dtype` keeps it in."""
    if array.dtype == mx.uint32:
        return array
    fp32 = parameter.startswith("model.language_model.") and parameter.endswith(_FP32_ENDINGS)
    return array.astype(mx.float32 if fp32 else dtype)
