"""A converted checkpoint is its source, but for the matrices that were packed."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mlx_model import convert as convert_module
from mlx_model.config import parse_config
from mlx_model.convert import convert
from mlx_model.errors import CheckpointError
from mlx_model.model import Model
from mlx_model.tensor_files import INDEX_NAME
from mlx_model.weight_sizes import size_bytes
from mlx_model.weights import load_model
from tests.mlx_model.goldens import (
    GOLDENS,
    MIXTURES,
    VARIANTS,
    Checkpoint,
    copy_checkpoint,
    read_golden,
    relative_error,
)

ROOT = Path(__file__).parents[2]
LAYER = "model.language_model.layers.0"


@pytest.fixture
def source(tmp_path: Path) -> Checkpoint:
    checkpoint = copy_checkpoint("untied", tmp_path / "source")
    checkpoint.tensors["mtp.layers.0.mlp.up_proj.weight"] = np.ones((8, 64), np.float32)
    checkpoint.save()
    return checkpoint


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "target"


@pytest.mark.parametrize("variant", VARIANTS + MIXTURES)
@pytest.mark.parametrize("recipe", [("uniform", 4), ("uniform", 8), ("mixed", 4)])
def test_logits_are_those_of_the_dequantised_weights(
    tmp_path: Path, target: Path, variant: str, recipe: tuple[str, int]
) -> None:
    group = 32 if variant in MIXTURES else 64
    convert(GOLDENS / variant, target, *recipe, group_size=group)
    stated = json.loads((target / "config.json").read_text("utf-8"))["quantization"]
    packed = load_file(target / "model.safetensors")
    plain = copy_checkpoint(variant, tmp_path / "dequantised")
    for layer in [key.removesuffix(".scales") for key in packed if key.endswith(".scales")]:
        bits = stated.get(layer, stated)["bits"]
        parts = [mx.array(packed[f"{layer}.{part}"]) for part in ("weight", "scales", "biases")]
        restored = np.array(mx.dequantize(*parts, group_size=group, bits=bits))
        # Fused experts are published without `.weight`.
        name = layer if layer in plain.tensors else f"{layer}.weight"
        # Rounding is within a step of each group of weights.
        error = np.abs(restored - plain.tensors[name])
        steps = np.abs(packed[f"{layer}.scales"]).repeat(group, axis=-1)
        assert (error <= steps).all()
        plain.tensors[name] = restored
    golden = read_golden(variant, "image_and_video")
    found = load_model(target)(golden.prompt, **golden.media)[0]
    expected = load_model(plain.save())(golden.prompt, **golden.media)[0]
    assert relative_error(found, expected) < 1e-4


def test_packed_weights_are_the_same_for_one_token_and_for_many(
    source: Checkpoint, target: Path
) -> None:
    convert(source.folder, target)
    model = load_model(target)
    prompt = read_golden("untied", "text_65").prompt
    whole = model(prompt)[0]
    for step in (1, 3, 5):
        cache = model.make_cache()
        parts = [model(prompt[:, t : t + step], cache=cache)[0] for t in range(0, 65, step)]
        assert relative_error(mx.concatenate(parts), whole) < 1e-4


def test_only_the_language_models_matrices_are_packed(source: Checkpoint, target: Path) -> None:
    convert(source.folder, target)
    packed = load_file(target / "model.safetensors")
    layers = {name.removesuffix(".scales") for name in packed if name.endswith(".scales")}
    assert f"{LAYER}.linear_attn.in_proj_qkv" in layers
    assert f"{LAYER}.linear_attn.out_proj" in layers
    assert "model.language_model.layers.1.self_attn.q_proj" in layers
    assert {"lm_head", "model.language_model.embed_tokens"} <= layers
    assert "mtp.layers.0.mlp.up_proj" in layers
    for kept in ("in_proj_a", "in_proj_b", "norm", "conv1d", "visual", "A_log", "dt_bias"):
        assert not any(kept in layer for layer in layers)
    # 72 inputs do not fill groups of 64.
    assert f"{LAYER}.mlp.gate_proj" in layers
    assert f"{LAYER}.mlp.down_proj" not in layers

    for name, array in source.tensors.items():
        if name.removesuffix(".weight") not in layers:
            np.testing.assert_array_equal(packed[name], array)
    others = {name for name in packed if not name.endswith((".scales", ".biases"))}
    assert others == set(source.tensors)


def test_the_copy_says_how_it_was_made(source: Checkpoint, target: Path) -> None:
    convert(source.folder, target, bits=8, group_size=32)
    config = json.loads((target / "config.json").read_text("utf-8"))
    assert config.pop("quantization") == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert config == source.config
    assert metadata_of(target)["norm_convention"] == "zero_centred"


def test_the_copy_says_what_is_packed_otherwise(source: Checkpoint, target: Path) -> None:
    convert(source.folder, target, "mixed")
    stated = json.loads((target / "config.json").read_text("utf-8"))["quantization"]
    assert {name: stated.pop(name) for name in ("group_size", "bits", "mode")} == {
        "group_size": 64,
        "bits": 4,
        "mode": "affine",
    }
    packed = load_file(target / "model.safetensors")
    layers = {name.removesuffix(".scales") for name in packed if name.endswith(".scales")}
    assert set(stated) < layers
    assert stated["lm_head"] == {"group_size": 64, "bits": 6}
    assert stated["mtp.layers.0.mlp.up_proj"] == {"group_size": 64, "bits": 8}
    for layer in layers:
        # A row of 64 weights: two words of 32 bits for each bit of a weight.
        rows, words = packed[f"{layer}.weight"].shape
        columns = packed[f"{layer}.scales"].shape[1] * 64
        assert words * 32 == columns * stated.get(layer, {"bits": 4})["bits"]
        assert packed[f"{layer}.biases"].shape == (rows, columns // 64)


def test_another_program_reads_a_mixed_copy(source: Checkpoint, target: Path) -> None:
    from mlx_lm.utils import load_model as load_with_mlx_lm  # takes a second

    source.config["text_config"]["full_attention_interval"] = 2  # it reads no layer_types
    convert(source.save(), target, "mixed")
    other, _ = load_with_mlx_lm(target)
    prompt = read_golden("untied", "text_65").prompt
    assert relative_error(other(mx.array(prompt)), load_model(target)(prompt)) < 1e-4


def test_a_copy_whose_config_states_other_bits_is_not_loaded(
    source: Checkpoint, target: Path
) -> None:
    convert(source.folder, target, "mixed")
    file = target / "config.json"
    config = json.loads(file.read_text("utf-8"))
    for stated in ({"group_size": 64, "bits": 8}, {"group_size": 128, "bits": 6}):
        config["quantization"]["lm_head"] = stated
        file.write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(CheckpointError, match="lm_head"):
            load_model(target)


def test_scales_of_what_cannot_be_packed_are_unknown(source: Checkpoint, target: Path) -> None:
    convert(source.folder, target)
    packed = load_file(target / "model.safetensors")
    packed[f"{LAYER}.linear_attn.conv1d.scales"] = np.zeros((8, 1), np.float32)
    save_file(packed, target / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown: .*conv1d\.scales"):
        load_model(target)


def metadata_of(folder: Path) -> dict[str, str]:
    with safe_open(folder / "model.safetensors", "numpy") as file:
        found: dict[str, str] = file.metadata()
    return found


def test_number_types_of_the_source_are_kept(source: Checkpoint, target: Path) -> None:
    halves = {name: mx.array(a).astype(mx.bfloat16) for name, a in source.tensors.items()}
    mx.save_safetensors(str(source.folder / "model.safetensors"), halves)
    convert(source.folder, target)
    packed = mx.load(str(target / "model.safetensors"))
    assert packed["lm_head.scales"].dtype == mx.bfloat16
    assert packed[f"{LAYER}.linear_attn.in_proj_a.weight"].dtype == mx.bfloat16


def test_files_of_tokenizer_and_processor_come_along(source: Checkpoint, target: Path) -> None:
    kept = ("tokenizer.json", "chat_template.jinja", "video_preprocessor_config.json")
    for name in (*kept, "training.log"):
        (source.folder / name).write_text(name, encoding="utf-8")
    convert(source.folder, target)
    for name in kept:
        assert (target / name).read_text("utf-8") == name
    assert not (target / "training.log").exists()


def test_a_large_model_is_written_in_shards(
    source: Checkpoint, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "_SHARD_BYTES", 100_000)
    convert(source.folder, target)
    shards = sorted(file.name for file in target.glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((target / INDEX_NAME).read_text("utf-8"))
    assert set(index["weight_map"].values()) == set(shards)
    monkeypatch.undo()
    convert(source.folder, target.with_name("whole"))
    prompt = read_golden("untied", "text_65").prompt
    whole = load_model(target.with_name("whole"))(prompt)
    assert relative_error(load_model(target)(prompt), whole) == 0.0


def test_progress_counts_bytes_of_the_source(source: Checkpoint, target: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(source.folder, target, on_progress=lambda done, total: told.append((done, total)))
    sizes = [source.tensors[name].nbytes for name in sorted(source.tensors)]
    assert told == [(done, sum(sizes)) for done in accumulate(sizes)]


def test_the_result_says_what_it_was_and_is(source: Checkpoint, target: Path) -> None:
    result = convert(source.folder, target)
    assert size_bytes(result.before) == sum(array.nbytes for array in source.tensors.values())
    packed = load_file(target / "model.safetensors")
    assert size_bytes(result.after) == sum(array.nbytes for array in packed.values())
    weights = sum(array.size for array in source.tensors.values())
    for groups in (result.before, result.after):
        assert sum(group.weights for group in groups) == weights
    stored = {(group.part, group.bits): group.kinds for group in result.after}
    assert stored["draft head", 8] == {"up_proj"}
    assert "q_proj" in stored["language model", 4]
    assert {"A_log", "conv1d", "in_proj_a", "norm"} <= stored["language model", None]
    assert stored["vision tower", None]


def test_memory_holds_one_tensor_and_what_it_becomes(tmp_path: Path, target: Path) -> None:
    checkpoint = copy_checkpoint("tied", tmp_path / "large")
    text = checkpoint.config["text_config"]
    text["vocab_size"] = text["intermediate_size"] = 8192
    shapes = tree_flatten(Model(parse_config(checkpoint.config)).parameters())
    checkpoint.tensors = {name: np.ones(array.shape, np.float32) for name, array in shapes}
    sizes = [array.nbytes for array in checkpoint.tensors.values()]
    assert sum(sizes) > 5 * max(sizes)
    checkpoint.save()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    convert(checkpoint.folder, target, "mixed")
    # At fp32 a tensor of six bits is about a fifth of what it was.
    assert mx.get_peak_memory() - before < 1.3 * max(sizes)
    assert mx.get_active_memory() - before < 0.1 * max(sizes)


def test_an_existing_model_is_never_overwritten(source: Checkpoint, target: Path) -> None:
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        convert(source.folder, target)
    assert [file.name for file in target.iterdir()] == ["notes.txt"]
    with pytest.raises(CheckpointError, match="not an empty folder"):
        convert(source.folder, source.folder)


def test_an_empty_folder_may_be_the_target(source: Checkpoint, target: Path) -> None:
    target.mkdir(parents=True)
    convert(source.folder, target)
    load_model(target)
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.safetensors"]


def test_the_target_may_be_a_link_or_the_current_folder(
    source: Checkpoint, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.mkdir(parents=True)
    (tmp_path / "link").symlink_to(target)
    convert(source.folder, tmp_path / "link")
    load_model(target)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    convert(source.folder, ".")
    load_model(tmp_path / "here")


def test_a_failure_leaves_an_empty_folder_empty(
    source: Checkpoint, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target.mkdir(parents=True)
    monkeypatch.setattr(convert_module, "_write_config", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        convert(source.folder, target)
    assert list(target.iterdir()) == []


def test_a_name_that_no_folder_can_have_is_a_sentence(source: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be written"):
        convert(source.folder, tmp_path / ("x" * 300))


def test_a_failure_leaves_nothing_behind(
    source: Checkpoint, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert_module.shutil, "copyfile", full_disk)
    (source.folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="No space left"):
        convert(source.folder, target)
    assert list(target.parent.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_the_work(
    source: Checkpoint, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    usage = shutil.disk_usage(source.folder)._replace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match=r"needs 0\.\d GB, and .* has room for 0\.0 GB"):
        convert(source.folder, target, on_progress=lambda done, _: told.append(done))
    assert told == []
    assert list(target.parent.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_behind(source: Checkpoint, target: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written .*Free some space"):
            convert(source.folder, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(target.parent.iterdir()) == []


# Tells of each tensor and takes its time over it, so that it can be killed anywhere.
SLOW_CONVERSION = """
import sys, time
from mlx_model.convert import convert
def tell(done, total):
    print(done, flush=True)
    time.sleep(0.01)
convert(sys.argv[1], sys.argv[2], on_progress=tell)
"""


@pytest.mark.parametrize("seed", range(2))
def test_a_conversion_killed_anywhere_leaves_no_model_and_the_next_one_cleans_up(
    source: Checkpoint, target: Path, seed: int
) -> None:
    tensors = int(np.random.default_rng(seed).integers(1, len(source.tensors)))
    command = [sys.executable, "-c", SLOW_CONVERSION, str(source.folder), str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout
    for _ in range(tensors):
        assert process.stdout.readline()
    process.kill()
    process.wait(30)
    process.stdout.close()
    assert not target.exists()
    assert len(list(target.parent.iterdir())) == 1
    convert(source.folder, target)
    load_model(target)
    assert list(target.parent.iterdir()) == [target]


def test_a_source_that_fails_while_it_is_read_is_named(source: Checkpoint, target: Path) -> None:
    file = source.folder / "model.safetensors"

    def cut(done: int, total: int) -> None:
        if done < total / 2:
            os.truncate(file, 5000)

    with pytest.raises(CheckpointError, match=r"source.model\.safetensors cannot be read"):
        convert(source.folder, target, on_progress=cut)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", [f"{LAYER}.mlp.up_proj.weight", "mtp.layers.0.mlp.up_proj.weight"])
def test_values_that_are_no_numbers_are_not_packed(
    name: str, source: Checkpoint, target: Path
) -> None:
    source.tensors[name][1, 2] = np.nan
    with pytest.raises(CheckpointError, match=rf"source.model\.safetensors is damaged: {name}"):
        convert(source.save(), target)
    assert list(target.parent.iterdir()) == []


def test_a_source_that_does_not_load_is_refused(source: Checkpoint, target: Path) -> None:
    del source.tensors["model.language_model.norm.weight"]
    with pytest.raises(CheckpointError, match="missing"):
        convert(source.save(), target)
    assert not target.exists()


def test_a_converted_model_is_not_converted_again(
    source: Checkpoint, target: Path, tmp_path: Path
) -> None:
    convert(source.folder, target)
    with pytest.raises(CheckpointError, match="quantised already"):
        convert(target, tmp_path / "again")


@pytest.mark.parametrize(("bits", "group_size"), [(7, 64), (4, 48), (0, 64)])
def test_packings_that_do_not_exist_are_refused(
    source: Checkpoint, target: Path, bits: int, group_size: int
) -> None:
    with pytest.raises(CheckpointError, match="cannot be packed"):
        convert(source.folder, target, bits=bits, group_size=group_size)
