"""Writes a safetensors file one tensor after the other, so that no two need to be in memory.

The format puts the header first: eight bytes with its length, then JSON with each tensor's type,
shape and place, padded with spaces; then the tensors' bytes without gaps. Knows no checkpoint.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import mlx.core as mx
import numpy as np

from mlx_model.tensor_files import BYTES_PER_ELEMENT

DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "U32": mx.uint32}

_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """What the header says about a tensor; `dtype` in safetensors' words."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes it takes in the file."""
        return math.prod(self.shape) * BYTES_PER_ELEMENT[self.dtype]


class TensorWriter:
    """One file in the making; a context manager that closes it.

    Leaving it before every tensor was written raises ValueError, unless on the way out of an error.
    """

    def __init__(
        self, file: Path, layouts: Mapping[str, TensorLayout], metadata: Mapping[str, str]
    ) -> None:
        """Create `file` and write its header."""
        self._waiting = dict(layouts)
        self._stream = file.open("wb")
        self._stream.write(header(layouts, metadata))

    def write(self, name: str, array: mx.array) -> None:
        """Append the tensor `name`; ValueError if it is not the next one, or not as laid out."""
        expected = next(iter(self._waiting), None)
        if name != expected:
            raise ValueError(f"the next tensor is {expected}, not {name}")
        layout = self._waiting.pop(name)
        if array.dtype != DTYPES[layout.dtype] or array.shape != layout.shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {layout}")
        # The bytes themselves: numpy looks at mlx's buffer and copies nothing.
        self._stream.write(np.asarray(array.reshape(-1).view(mx.uint8)).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        if kind is None and self._waiting:
            raise ValueError(f"never written: {', '.join(self._waiting)}")


def header(layouts: Mapping[str, TensorLayout], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file whose tensors follow in the order of `layouts`."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, layout in layouts.items():
        end = start + layout.size_bytes
        entries[name] = {
            "dtype": layout.dtype,
            "shape": list(layout.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
