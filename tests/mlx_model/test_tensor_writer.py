"""What the writer writes, the safetensors library and mlx read back."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open

from mlx_model.tensor_files import BYTES_PER_ELEMENT, read_header
from mlx_model.tensor_writer import DTYPES, TensorLayout, TensorWriter

ARRAYS = {
    "b.weight": mx.arange(12, dtype=mx.uint32).reshape(3, 4),
    "b.scales": mx.array([[1.5], [-2.25], [0.0]], dtype=mx.bfloat16),
    "a": mx.array([1.0, -3.5, 1e-30], dtype=mx.float32),
    "half": mx.array([0.5], dtype=mx.float16),
    "nothing": mx.zeros((0, 4), dtype=mx.float32),
    "number": mx.array(2.5, dtype=mx.float32),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LAYOUTS = {name: TensorLayout(NAMES[a.dtype], tuple(a.shape)) for name, a in ARRAYS.items()}
METADATA = {"format": "mlx", "norm_convention": "zero_centred"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_the_library_reads_back_what_was_written(file: Path) -> None:
    with TensorWriter(file, LAYOUTS, METADATA) as writer:
        for name, array in ARRAYS.items():
            writer.write(name, array)
    with safe_open(file, "numpy") as found:
        assert found.metadata() == METADATA
        assert sorted(found.keys()) == sorted(ARRAYS)
        for name in ("b.weight", "a", "half", "nothing", "number"):
            np.testing.assert_array_equal(found.get_tensor(name), np.array(ARRAYS[name]))
    loaded = mx.load(str(file))
    assert isinstance(loaded, dict)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert mx.array_equal(loaded[name], array)
    assert {name: (info.dtype, info.shape) for name, info in read_header(file).items()} == {
        name: (layout.dtype, layout.shape) for name, layout in LAYOUTS.items()
    }


def test_data_begins_at_a_multiple_of_eight(file: Path) -> None:
    for length in range(1, 10):
        layouts = {"x" * length: TensorLayout("F32", (1,))}
        with TensorWriter(file, layouts, {}) as writer:
            writer.write("x" * length, mx.array([7.0]))
        content = file.read_bytes()
        size = int.from_bytes(content[:8], "little")
        assert size % 8 == 0
        assert json.loads(content[8 : 8 + size])["x" * length]["data_offsets"] == [0, 4]
        assert content[8 + size :] == np.float32(7.0).tobytes()


def test_slices_and_transposes_are_written_as_they_look(file: Path) -> None:
    turned = mx.arange(6, dtype=mx.float32).reshape(2, 3).T
    with TensorWriter(file, {"t": TensorLayout("F32", (3, 2))}, {}) as writer:
        writer.write("t", turned)
    with safe_open(file, "numpy") as found:
        np.testing.assert_array_equal(found.get_tensor("t"), [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a", ARRAYS["a"]),
        ("b.weight", ARRAYS["b.weight"].T),
        ("b.weight", ARRAYS["b.weight"].astype(mx.float32)),
    ],
)
def test_another_tensor_than_the_header_says_is_refused(
    file: Path, name: str, array: mx.array
) -> None:
    writer = TensorWriter(file, LAYOUTS, METADATA)
    with pytest.raises(ValueError, match="not"), writer:
        writer.write(name, array)


def test_a_file_that_is_not_finished_is_an_error(file: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"never written: b\.scales"),
        TensorWriter(file, LAYOUTS, METADATA) as writer,
    ):
        writer.write("b.weight", ARRAYS["b.weight"])


def test_every_type_that_can_be_read_can_be_written() -> None:
    assert set(DTYPES) == set(BYTES_PER_ELEMENT)
    for name, dtype in DTYPES.items():
        assert dtype.size == BYTES_PER_ELEMENT[name]
