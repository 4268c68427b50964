"""What cannot be loaded is refused in one sentence that names the file and the reason."""

import json
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from mlx_model.errors import CheckpointError
from mlx_model.processor import load_processor
from mlx_model.tensor_files import INDEX_NAME
from mlx_model.weights import is_finite, load_model
from tests.mlx_model.goldens import GOLDENS, Checkpoint, copy_checkpoint
from tests.mlx_model.test_layouts import one_by_one

DEMO_MODEL = Path(__file__).parents[2] / "assets" / "demo_model"
NORM = "model.language_model.layers.1.input_layernorm.weight"


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "something ran"


@pytest.fixture
def folder(tmp_path: Path, canary: Path) -> Path:
    """A checkpoint's companions and a program beside them, without weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((DEMO_MODEL / name).read_bytes())
    (folder / "modeling_own.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    return folder


def set_config(folder: Path, **changes: object) -> None:
    config = json.loads((GOLDENS / "untied" / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    sentence = str(caught.value)
    assert re.fullmatch(r"[^\n]+\. [A-Z][^\n]+\.", sentence), sentence
    return sentence


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("adapter_config.json", "LoRA adapter"),
        ("adapters.safetensors", "LoRA adapter"),
        ("adapter_model.safetensors", "LoRA adapter"),
        ("model-Q4_K_M.gguf", "GGUF"),
        ("pytorch_model.bin", "never opened"),
        ("pytorch_model-00001-of-00002.bin", "never opened"),
        ("consolidated.00.pth", "never opened"),
    ],
)
def test_files_of_other_kinds(
    name: str, reason: str, with_config: bool, folder: Path, canary: Path
) -> None:
    (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    if with_config:
        set_config(folder)
    sentence = refusal(folder)
    assert str(folder / name) in sentence
    assert reason in sentence
    assert not canary.exists()


def test_a_single_file_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "qwen3.5-4b.gguf"
    file.write_bytes(b"GGUF")
    assert str(file) in (sentence := refusal(file))
    assert "GGUF" in sentence


def test_pickles_are_never_read_whatever_they_are_called(folder: Path, canary: Path) -> None:
    set_config(folder)
    bomb = pickle.dumps({"weights": Bomb(canary)})
    (folder / "model.safetensors").write_bytes(bomb)
    assert "model.safetensors cannot be read" in refusal(folder)
    np.savez(folder / "weights.npz", a=np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    (folder / "weights.npz").replace(folder / "model.safetensors")
    assert "model.safetensors cannot be read" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(bomb)
    index = {"weight_map": {NORM: "pytorch_model.bin"}}
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    sentence = refusal(folder)
    assert INDEX_NAME in sentence
    assert "pytorch_model.bin" in sentence
    assert not canary.exists()


def test_programs_in_a_checkpoint_are_never_run(folder: Path, canary: Path) -> None:
    whole = copy_checkpoint("untied", folder)
    own = {"AutoModel": "modeling_own.Model", "AutoConfig": "modeling_own.Config"}
    whole.config |= {"auto_map": own, "trust_remote_code": True}
    whole.save()
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        settings = json.loads((DEMO_MODEL / name).read_text(encoding="utf-8"))
        settings |= {"auto_map": {"AutoProcessor": "modeling_own.Processor"}}
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    assert load_model(folder)
    with pytest.raises(CheckpointError):  # its token ids are not those of this tokenizer
        load_processor(folder)
    assert not canary.exists()
    assert "modeling_own" not in sys.modules


@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_vl", "qwen3_5_mtp", "", None, 3])
def test_models_of_other_kinds(kind: object, folder: Path) -> None:
    set_config(folder, model_type=kind)
    sentence = refusal(folder)
    assert "config.json" in sentence
    assert not kind or str(kind) in sentence


@pytest.mark.parametrize("method", ["fp8", "gptq", "awq", "bitsandbytes", "compressed-tensors"])
@pytest.mark.parametrize("inside", [False, True])
def test_weights_packed_for_other_programs(method: str, inside: bool, folder: Path) -> None:
    set_config(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    place = config["text_config"] if inside else config
    place["quantization_config"] = {"quant_method": method, "bits": 8}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sentence = refusal(folder)
    assert "config.json" in sentence
    assert method in sentence


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_other_ways_of_packing_in_mlx(mode: str, folder: Path) -> None:
    set_config(folder, quantization={"bits": 4, "group_size": 32, "mode": mode})
    assert mode in refusal(folder)


def test_fp8_weights_without_a_word_in_the_config(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    arrays = {name: mx.array(array) for name, array in checkpoint.tensors.items()}
    file = tmp_path / "model.safetensors"
    mx.save_safetensors(str(file), arrays)
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header[NORM]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    sentence = refusal(tmp_path)
    assert str(file) in sentence
    assert "F8_E4M3" in sentence
    assert NORM in sentence


def test_a_shard_that_is_not_there_without_an_index(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for number in (1, 3):
        file = tmp_path / f"model-{number:05d}-of-00003.safetensors"
        save_file({f"tensor{number}": np.zeros(2, np.float32)}, file)
    assert "model-00002-of-00003.safetensors not there" in refusal(checkpoint.folder)


def test_a_clone_without_its_large_files(checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "model.safetensors"
    oid = "sha256:" + 64 * "0"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid {oid}\nsize 9\n", "utf-8")
    sentence = refusal(checkpoint.folder)
    assert str(file) in sentence
    assert "`git lfs pull`" in sentence


def test_two_files_with_the_same_tensors(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    save_file({NORM: checkpoint.tensors[NORM]}, tmp_path / "model-again.safetensors")
    sentence = refusal(tmp_path)
    assert "model-again.safetensors" in sentence
    assert NORM in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("name", [NORM, "lm_head.weight", "model.visual.merger.norm.bias"])
def test_a_value_that_is_no_finite_number(
    name: str, dtype: mx.Dtype, value: float, tmp_path: Path
) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    checkpoint.tensors[name].flat[-2] = value
    arrays = {key: mx.array(array).astype(dtype) for key, array in checkpoint.tensors.items()}
    file = tmp_path / "model.safetensors"
    mx.save_safetensors(str(file), arrays)
    sentence = refusal(tmp_path)
    assert str(file) in sentence
    assert name in sentence


def test_of_many_experts_the_one_that_is_no_number_is_named(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("mixture_untied", tmp_path)
    tensors = one_by_one(checkpoint.tensors)
    wrong = "model.language_model.layers.1.mlp.experts.3.up_proj.weight"
    tensors[wrong][1, 2] = np.nan
    alone = {wrong: tensors.pop(wrong)}
    save_file(tensors, tmp_path / "model.safetensors")
    save_file(alone, tmp_path / "model-other.safetensors")
    sentence = refusal(tmp_path)
    assert f"{tmp_path / 'model-other.safetensors'} is damaged: {wrong} holds" in sentence


def test_scales_of_packed_matrices_are_looked_at_as_well(tmp_path: Path) -> None:
    source = GOLDENS / "converted" / "lm_tied_4bit"
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    arrays = mx.load(str(source / "model.safetensors"))
    assert isinstance(arrays, dict)
    name = "language_model.model.layers.0.mlp.up_proj.scales"
    arrays[name][3, 0] = mx.array(float("nan"))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays)
    assert name in refusal(tmp_path)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_the_largest_numbers_are_finite(dtype: mx.Dtype) -> None:
    limit = mx.finfo(dtype)
    smallest = mx.array([limit.max, limit.min, 0.0, -0.0, 1e-40, -1e-40]).astype(dtype)
    assert is_finite(smallest)
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        assert not is_finite(mx.concatenate([smallest, mx.array([value]).astype(dtype)]))
    assert is_finite(mx.array([0xFFFFFFFF, 0x7F800000], mx.uint32))
    assert is_finite(mx.zeros((0,), dtype))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return copy_checkpoint("untied", tmp_path / "model")


class CuttingOff(threading.Event):
    """A stop button that cuts the file short instead, when it is looked at for the n-th time."""

    def __init__(self, file: Path, looks: int) -> None:
        super().__init__()
        self.file = file
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            os.truncate(self.file, 5000)
        return False


def test_a_file_that_fails_while_it_is_read(checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "model.safetensors"
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint.folder, cancel=CuttingOff(file, 5))
    assert str(caught.value) == f"The weights file {file} cannot be read. Download the model again."


def test_integers_where_numbers_belong(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[NORM] = np.ones(64, np.uint32)
    sentence = refusal(checkpoint.save())
    assert f"of another number type: {NORM}" in sentence
    assert str(checkpoint.folder / "model.safetensors") in sentence


@pytest.mark.parametrize("name", ["config.json", INDEX_NAME])
def test_files_that_are_nested_too_deeply(name: str, checkpoint: Checkpoint) -> None:
    (checkpoint.folder / name).write_text("[" * 200_000, encoding="utf-8")
    assert name in refusal(checkpoint.folder)


@pytest.mark.parametrize("field", ["shape", "data_offsets", "dtype"])
def test_headers_that_do_not_add_up(field: str, checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    # The first 256 bytes are another tensor's; numbers of 16 bits would leave half of them over.
    for wrong in ([0, 256], [[64]], {"a": 1}, [-1, 3], [0, 2**70], None, "BF16", 7):
        header = json.loads(whole[8 : 8 + length])
        header[NORM][field] = wrong
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        assert str(file) in refusal(checkpoint.folder)
