"""The weights files of a checkpoint folder: which there are, and which tensors their headers list.

Reads safetensors and nothing else: pickled weights can run code and are never opened. Knows no
model; which tensors a model needs is for `layouts` and `weights`.
"""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_model.errors import CheckpointError, IncompleteError
from mlx_model.foreign_files import refuse_foreign
from mlx_model.json_file import read_json

INDEX_NAME = "model.safetensors.index.json"

BYTES_PER_ELEMENT = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4}

_HEADER_LIMIT_BYTES = 100_000_000
_NAMES_SHOWN = 8
# What reading a file that is not what its name says can end in.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    struct.error,
)
# What git leaves in the place of a large file that it has not fetched.
_PLACEHOLDER = b"version https://git-lfs"
_SHARD = re.compile(r"-(\d{1,5})-of-(\d{1,5})\.safetensors$")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a file's header describes it; `dtype` in safetensors' words.

    `norms` is what the file's metadata says about norm weights, None if nothing.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    norms: str | None = None


def find_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Name -> description of every tensor of a checkpoint, from one file or the index's shards."""
    index = folder / INDEX_NAME
    files = _indexed_files(index) if index.exists() else _unindexed_files(folder)
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        found = read_header(file)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise CheckpointError(
                f"The files {tensors[twice[0]].file.name} and {file.name} in {folder} hold the "
                f"same tensors ({listed(twice)}). Remove the one that does not belong there."
            )
        tensors.update(found)
    return tensors


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Describe the tensors of one safetensors file, without reading them.

    CheckpointError if the file is cut short or holds number types that the port does not know.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_PLACEHOLDER))
            if start == _PLACEHOLDER:
                raise IncompleteError(
                    f"The weights file {file} is only git's placeholder for the real one. Fetch "
                    "that with `git lfs pull`, or download the model again."
                )
            stream.seek(0)
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT_BYTES:
                raise ValueError("the header is too long")
            header: dict[str, Any] = json.loads(stream.read(length))
            size = file.stat().st_size
        metadata = header.pop("__metadata__", {})
        stated = metadata.get("norm_convention") if isinstance(metadata, Mapping) else None
        norms = None if stated is None else str(stated)
        infos = {
            name: TensorInfo(file, str(entry["dtype"]), _shape(entry["shape"]), norms)
            for name, entry in header.items()
        }
        places = {name: entry["data_offsets"] for name, entry in header.items()}
        end = _end(list(places.values()))
    except _UNREADABLE as error:
        raise unreadable(file) from error
    if 8 + length + end != size:
        raise IncompleteError(f"The weights file {file} is incomplete. Download the model again.")
    _refuse_number_types(file, infos)
    for name, (start, stop) in places.items():
        info = infos[name]
        if stop - start != math.prod(info.shape) * BYTES_PER_ELEMENT[info.dtype]:
            raise unreadable(file)
    return infos


def listed(names: Sequence[str]) -> str:
    """The names in one line, cut after a few."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _indexed_files(index: Path) -> list[Path]:
    try:
        weight_map = read_json(index)["weight_map"]
        files = sorted({index.parent / Path(name).name for name in weight_map.values()})
    except _UNREADABLE as error:
        raise CheckpointError(
            f"The file {index} cannot be read. Download the model again."
        ) from error
    foreign = [file.name for file in files if file.suffix != ".safetensors"]
    if foreign:
        raise CheckpointError(
            f"The file {index} lists files that are not safetensors: {listed(foreign)}. "
            "Choose a version of the model in safetensors files."
        )
    _refuse_missing(index.parent, [file.name for file in files if not file.exists()])
    return files


def _unindexed_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        refuse_foreign(folder)
        raise IncompleteError(
            f"There are no weights in {folder} (model.safetensors). Download the model again."
        )
    missing = []
    for file in files:
        shard = _SHARD.search(file.name)
        if shard is not None:
            start, width = file.name[: shard.start()], len(shard[1])
            names = (f"{start}-{n:0{width}d}-of-{shard[2]}" for n in range(1, int(shard[2]) + 1))
            missing += [
                f"{name}.safetensors"
                for name in names
                if not (folder / f"{name}.safetensors").exists()
            ]
    _refuse_missing(folder, sorted(set(missing)))
    return files


def _refuse_missing(folder: Path, names: Sequence[str]) -> None:
    if names:
        raise IncompleteError(
            f"The model in {folder} is incomplete: {listed(names)} not there. "
            "Download the model again."
        )


def _shape(sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape; ValueError if it is none."""
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError("a shape of something else than numbers")
    return tuple(sizes)


def _end(places: Sequence[tuple[int, int]]) -> int:
    """Where the last tensor ends; ValueError if they do not follow each other without a gap.

    mlx would read one in another's place.
    """
    end = 0
    for start, stop in sorted(places):
        if start != end or stop < start:
            raise ValueError("tensors overlap or leave a gap")
        end = stop
    return end


def _refuse_number_types(file: Path, infos: Mapping[str, TensorInfo]) -> None:
    dtypes = {name: info.dtype for name, info in infos.items()}
    unknown = {name: dtype for name, dtype in dtypes.items() if dtype not in BYTES_PER_ELEMENT}
    if unknown:
        kinds = ", ".join(sorted(set(unknown.values())))
        raise CheckpointError(
            f"The weights file {file} holds number types that are not supported ({kinds}): "
            f"{listed(list(unknown))}. Choose another version of the model."
        )


def unreadable(file: Path) -> CheckpointError:
    """The error for a weights file that makes no sense."""
    return CheckpointError(f"The weights file {file} cannot be read. Download the model again.")
