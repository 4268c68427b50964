"""Loading is strict: a checkpoint is exactly what its config describes, or a sentence says why."""

import json
import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import save_file

from mlx_model.errors import CheckpointError
from mlx_model.tensor_files import INDEX_NAME
from mlx_model.weights import LoadCancelledError, load_model
from tests.mlx_model.goldens import (
    GOLDENS,
    Checkpoint,
    copy_checkpoint,
    read_golden,
    relative_error,
)

NORM = "model.language_model.layers.1.input_layernorm.weight"
Q_PROJ = "model.language_model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return copy_checkpoint("untied", tmp_path / "model")


def golden_error(folder: Path, variant: str = "untied", case: str = "image_and_video") -> float:
    golden = read_golden(variant, case)
    found = load_model(folder)(golden.prompt, **golden.media)[0]
    return relative_error(found, golden.logits[: golden.prompt_tokens])


def test_a_missing_tensor_is_named(checkpoint: Checkpoint) -> None:
    del checkpoint.tensors[NORM]
    with pytest.raises(CheckpointError, match=f"missing: {NORM}"):
        load_model(checkpoint.save())


def test_an_unknown_tensor_is_named(checkpoint: Checkpoint) -> None:
    checkpoint.tensors["model.language_model.extra.weight"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError, match=r"unknown: model\.language_model\.extra\.weight"):
        load_model(checkpoint.save())


def test_a_misshapen_tensor_is_named_with_both_shapes(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[Q_PROJ] = checkpoint.tensors[Q_PROJ][:-1].copy()
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint.save())
    assert f"{Q_PROJ} is [511, 64], not [512, 64]" in str(caught.value)


def in_shards(checkpoint: Checkpoint) -> dict[str, str]:
    """Spread the tensors over three files; returns which is where."""
    (checkpoint.folder / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for number in range(3):
        part = dict(list(checkpoint.tensors.items())[number::3])
        file = f"model-{number + 1:05d}-of-00003.safetensors"
        save_file(part, checkpoint.folder / file)
        places |= dict.fromkeys(part, file)
    return places


def test_of_several_files_the_one_at_fault_is_named(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[Q_PROJ] = checkpoint.tensors[Q_PROJ][:-1].copy()
    places = in_shards(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint.folder)
    assert f"{checkpoint.folder / places[Q_PROJ]} are not those" in str(caught.value)


def test_a_tensor_that_is_missing_may_have_been_in_any_file(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[Q_PROJ] = checkpoint.tensors[Q_PROJ][:-1].copy()
    del checkpoint.tensors[NORM]
    in_shards(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint.folder)
    assert f"The weights in {checkpoint.folder} are not those" in str(caught.value)


def test_a_long_list_of_names_is_cut(checkpoint: Checkpoint) -> None:
    checkpoint.tensors = {k: v for k, v in checkpoint.tensors.items() if "visual" not in k}
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_model(checkpoint.save())


def test_draft_head_tensors_are_never_unknown(checkpoint: Checkpoint) -> None:
    checkpoint.tensors["mtp.fc.weight"] = np.zeros((64, 128), np.float32)
    assert golden_error(checkpoint.save()) < 1e-4


def test_a_tied_checkpoint_may_repeat_its_embedding(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("tied", tmp_path / "model")
    checkpoint.tensors["lm_head.weight"] = np.zeros((112, 64), np.float32)
    assert golden_error(checkpoint.save(), "tied") < 1e-4


def test_shards_are_found_through_the_index(checkpoint: Checkpoint) -> None:
    names = sorted(checkpoint.tensors)
    weight_map = {}
    for number, start in enumerate(range(0, len(names), 30)):
        shard = f"model.safetensors-{number:05d}-of-00009.safetensors"
        part = {name: checkpoint.tensors[name] for name in names[start : start + 30]}
        save_file(part, checkpoint.folder / shard)
        weight_map.update(dict.fromkeys(part, shard))
    (checkpoint.folder / "model.safetensors").unlink()
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (checkpoint.folder / INDEX_NAME).write_text(index, encoding="utf-8")
    assert golden_error(checkpoint.folder) < 1e-4
    (checkpoint.folder / "model.safetensors-00001-of-00009.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"incomplete: model\.safetensors-00001"):
        load_model(checkpoint.folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_file_cut_short_is_not_loaded(checkpoint: Checkpoint, keep: int) -> None:
    file = checkpoint.save() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="Download the model again"):
        load_model(checkpoint.folder)


@pytest.mark.parametrize("content", [b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"GGUF" * 10])
def test_a_file_that_is_something_else_is_not_loaded(
    checkpoint: Checkpoint, content: bytes
) -> None:
    (checkpoint.folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(checkpoint.folder)


def test_a_damaged_header_never_ends_in_anything_but_a_sentence(checkpoint: Checkpoint) -> None:
    file = checkpoint.save() / "model.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(80):
        damaged = bytearray(whole)
        for place in rng.integers(0, header, rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        file.write_bytes(damaged)
        try:
            load_model(checkpoint.folder)
        except CheckpointError:
            refused += 1
    assert refused > 60


def test_a_folder_without_weights(checkpoint: Checkpoint) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load_model(checkpoint.folder)


def test_unknown_number_types_are_refused(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[NORM] = checkpoint.tensors[NORM].astype(np.int8)
    with pytest.raises(CheckpointError, match=f"number types.*{NORM}"):
        load_model(checkpoint.save())


def test_sixteen_bit_weights_compute_in_fp32_on_the_cpu(checkpoint: Checkpoint) -> None:
    halves = {name: mx.array(a).astype(mx.bfloat16) for name, a in checkpoint.tensors.items()}
    mx.save_safetensors(str(checkpoint.folder / "model.safetensors"), halves)
    model = load_model(checkpoint.folder)
    assert {array.dtype for _, array in tree_flatten(model.parameters())} == {mx.float32}
    golden = read_golden("untied", "text_65")
    logits = model(golden.prompt)
    assert logits.dtype == mx.float32
    checkpoint.tensors = {name: np.array(a.astype(mx.float32)) for name, a in halves.items()}
    assert relative_error(load_model(checkpoint.save())(golden.prompt), logits) == 0.0


def test_what_sets_decays_and_scales_is_fp32_in_a_16_bit_model(checkpoint: Checkpoint) -> None:
    for name, array in tree_flatten(load_model(checkpoint.folder, mx.bfloat16).parameters()):
        precise = name.endswith(("A_log", "dt_bias", "norm.weight")) and "visual" not in name
        assert array.dtype == (mx.float32 if precise else mx.bfloat16), name


def test_loading_leaves_nothing_for_later(checkpoint: Checkpoint) -> None:
    model = load_model(checkpoint.folder)
    (checkpoint.folder / "model.safetensors").unlink()
    golden = read_golden("untied", "text_63")
    assert relative_error(model(golden.prompt)[0], golden.logits) < 1e-4


def test_names_of_parameters_are_names_of_tensors(checkpoint: Checkpoint) -> None:
    parameters = {name for name, _ in tree_flatten(load_model(GOLDENS / "untied").parameters())}
    assert parameters == set(checkpoint.tensors)


class PressedAfter(threading.Event):
    """A stop button that is pressed just before it is looked at for the n-th time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = 0
        self._pressed_at = looks

    def is_set(self) -> bool:
        self.looks += 1
        if self.looks == self._pressed_at:
            self.set()
        return super().is_set()


def test_the_stop_button_is_looked_at_before_each_tensor(checkpoint: Checkpoint) -> None:
    never = PressedAfter(0)
    load_model(checkpoint.folder, cancel=never)
    assert never.looks >= len(checkpoint.tensors)


@pytest.mark.parametrize("looks", [1, 2, 20])
def test_loading_stops_where_it_is_cancelled(checkpoint: Checkpoint, looks: int) -> None:
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    cancel = PressedAfter(looks)
    with pytest.raises(LoadCancelledError):
        load_model(checkpoint.folder, cancel=cancel)
    assert cancel.looks == looks
    whole = sum(array.nbytes for array in checkpoint.tensors.values())
    assert mx.get_peak_memory() - before < whole / 2  # the other tensors were never read
    assert load_model(checkpoint.folder)  # and it can be loaded afterwards
