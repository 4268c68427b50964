"""One file of kept arrays: whole, or known to be damaged.

A safetensors file whose metadata holds a digest of everything else in it, so that a flipped bit is
found before anything is computed from it. Knows no mlx arrays, only their bytes, so that it may be
written on any thread.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_model.tensor_writer import TensorLayout, header

PARTIAL = ".partial"

_DIGEST = "digest"
_HEADER_LIMIT_BYTES = 1 << 20


class DamagedError(Exception):
    """A file that is not what was written."""


@dataclass(frozen=True, slots=True)
class RawArray:
    """The bytes of an array, and what they stand for; `layout` in safetensors' words."""

    layout: TensorLayout
    data: NDArray[np.uint8]


def write_state_file(
    file: Path, arrays: Mapping[str, RawArray], metadata: Mapping[str, str]
) -> None:
    """Put `file` there, whole and forced onto the disk, or raise OSError and leave nothing."""
    layouts = {name: array.layout for name, array in arrays.items()}
    parts = [array.data for array in arrays.values()]
    told = dict(metadata) | {_DIGEST: _digest(metadata, layouts, parts)}
    partial = file.with_name(f".{file.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as stream:
            stream.write(header(layouts, told))
            for part in parts:
                stream.write(part.data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def read_state_file(file: Path) -> tuple[dict[str, str], dict[str, RawArray]]:
    """Metadata and arrays; DamagedError if it is not what was written, OSError if it is gone."""
    content = np.fromfile(file, np.uint8)
    try:
        metadata, layouts, start = _parsed(content)
        if header(layouts, metadata) != content[:start].tobytes():
            raise ValueError("the header is not as it was written")
        digest = metadata.pop(_DIGEST)
        arrays: dict[str, RawArray] = {}
        for name, layout in layouts.items():
            stop = start + layout.size_bytes
            arrays[name] = RawArray(layout, content[start:stop])
            start = stop
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(file) from error
    parts = [array.data for array in arrays.values()]
    if start != content.size or digest != _digest(metadata, layouts, parts):
        raise DamagedError(file)
    return metadata, arrays


def _parsed(content: NDArray[np.uint8]) -> tuple[dict[str, str], dict[str, TensorLayout], int]:
    """What the header says, in its order, and where it ends; ValueError and the like if nothing."""
    if content.size < 8:
        raise ValueError("there is no header")
    (length,) = struct.unpack("<Q", content[:8].tobytes())
    if length > _HEADER_LIMIT_BYTES:
        raise ValueError("the header is too long")
    told: dict[str, Any] = json.loads(content[8 : 8 + length].tobytes())
    metadata = {str(key): str(value) for key, value in told.pop("__metadata__").items()}
    layouts = {
        name: TensorLayout(entry["dtype"], tuple(map(int, entry["shape"])))
        for name, entry in told.items()
    }
    return metadata, layouts, 8 + length


def _digest(
    metadata: Mapping[str, str],
    layouts: Mapping[str, TensorLayout],
    parts: list[NDArray[np.uint8]],
) -> str:
    described = [[name, layout.dtype, layout.shape] for name, layout in layouts.items()]
    found = hashlib.blake2b(json.dumps([sorted(metadata.items()), described]).encode())
    for part in parts:
        found.update(part.data)
    return found.hexdigest()
