"""One checkpoint in every layout that people have it in gives the reference's logits in each."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mlx_model.config import Packing, QuantizationConfig, load_config
from mlx_model.errors import CheckpointError
from mlx_model.tensor_files import BYTES_PER_ELEMENT, INDEX_NAME, TensorInfo, find_tensors
from mlx_model.weights import checked_model, load_model
from tests.mlx_model.goldens import (
    GOLDENS,
    MIXTURES,
    TOLERANCE,
    VARIANTS,
    copy_checkpoint,
    read_golden,
    relative_error,
)

EVERY = VARIANTS + MIXTURES
Tensors = dict[str, np.ndarray]
_CENTRED = re.compile(r"model\.language_model\.(norm|.*\.(\w+_layernorm|[qk]_norm))\.weight")
_FUSED = re.compile(r"(.*\.mlp\.experts)\.(gate_up|down)_proj")


def fused(tensors: Tensors) -> Tensors:
    """The experts of a layer in two tensors, as published."""
    made = {name: array for name, array in tensors.items() if not re.search(r"experts\.\d", name)}
    for name in tensors:
        if name.endswith(".mlp.experts.0.gate_proj.weight"):
            place = name.removesuffix(".0.gate_proj.weight")
            count = sum(key.startswith(f"{place}.") for key in tensors) // 3
            gate, up, down = (
                np.stack([tensors[f"{place}.{e}.{part}_proj.weight"] for e in range(count)])
                for part in ("gate", "up", "down")
            )
            made[f"{place}.gate_up_proj"] = np.concatenate([gate, up], axis=1)
            made[f"{place}.down_proj"] = down
    return made


def one_by_one(tensors: Tensors) -> Tensors:
    """Three tensors for each expert, as transformers saves them."""
    made: Tensors = {}
    for name, array in fused(tensors).items():
        experts = _FUSED.fullmatch(name)
        if experts is None:
            made[name] = array
            continue
        parts = {"down": array}
        if experts[2] == "gate_up":
            parts = dict(zip(("gate", "up"), np.split(array, 2, axis=1), strict=True))
        for part, stacked in parts.items():
            for e, matrix in enumerate(stacked):
                made[f"{experts[1]}.{e}.{part}_proj.weight"] = matrix.copy()
    return made


def split(tensors: Tensors) -> Tensors:
    """Gate and up of all experts apart, as other MLX converters write them."""
    made: Tensors = {}
    for name, array in fused(tensors).items():
        experts = _FUSED.fullmatch(name)
        place = name.replace(".experts.", ".switch_mlp.").removesuffix("gate_up_proj")
        if experts is None:
            made[name] = array
        elif experts[2] == "down":
            made[f"{place}.weight"] = array
        else:
            gate, up = np.split(array, 2, axis=1)
            made |= {f"{place}gate_proj.weight": gate.copy(), f"{place}up_proj.weight": up.copy()}
    return made


def turned_and_shifted(tensors: Tensors) -> Tensors:
    """Convolutions with their channels last and norms with 1 added, under the same names."""
    made = dict(tensors)
    for name, array in tensors.items():
        if name.endswith(("conv1d.weight", "patch_embed.proj.weight")):
            made[name] = np.moveaxis(array, 1, -1).copy()
        elif _CENTRED.fullmatch(name):
            made[name] = array + np.float32(1)
    return made


def other_converters(tensors: Tensors) -> Tensors:
    """Everything that mlx-lm and mlx-vlm change, names included."""
    made = turned_and_shifted(split(tensors))
    for old, new in (
        ("model.language_model.", "language_model.model."),
        ("model.visual.", "vision_tower."),
        ("lm_head.", "language_model.lm_head."),
    ):
        made = {
            new + name.removeprefix(old) if name.startswith(old) else name: array
            for name, array in made.items()
        }
    return made


def tower_inside_the_language_model(tensors: Tensors) -> Tensors:
    """As some fine-tuning tools name the tower."""
    inside = "model.language_model.visual."
    return {name.replace("model.visual.", inside): array for name, array in tensors.items()}


LAYOUTS: tuple[Callable[[Tensors], Tensors], ...] = (
    fused,
    one_by_one,
    split,
    turned_and_shifted,
    other_converters,
    tower_inside_the_language_model,
)


def check(folder: Path, variant: str, tolerance: float = TOLERANCE) -> None:
    golden = read_golden(variant, "image_and_video")
    model = load_model(folder)
    cache = model.make_cache()
    rows = [model(golden.prompt, **golden.media, cache=cache)[0]]
    for token in golden.input_ids[0, golden.prompt_tokens :]:
        rows.append(model.last_logits(mx.array([[int(token)]]), cache))
    assert relative_error(mx.concatenate(rows), golden.logits) < tolerance


@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_references_logits(
    layout: Callable[[Tensors], Tensors], variant: str, tmp_path: Path
) -> None:
    checkpoint = copy_checkpoint(variant, tmp_path)
    checkpoint.tensors = layout(checkpoint.tensors)
    check(checkpoint.save(), variant)


@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("layout", [fused, one_by_one, other_converters])
@pytest.mark.parametrize("indexed", [True, False])
def test_shards_may_cut_anywhere(
    layout: Callable[[Tensors], Tensors], variant: str, indexed: bool, tmp_path: Path
) -> None:
    checkpoint = copy_checkpoint(variant, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weight_map: dict[str, str] = {}
    for number in range(3):
        # Neighbours, and the experts of a layer, are in different files.
        part = dict(list(layout(checkpoint.tensors).items())[number::3])
        file = f"model-{number + 1:05d}-of-00003.safetensors"
        save_file(part, tmp_path / file)
        weight_map |= dict.fromkeys(part, file)
    if indexed:
        (tmp_path / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}), "utf-8")
    check(tmp_path, variant)


@pytest.mark.parametrize("prefix", ["mtp.", "language_model.mtp.", "model.mtp."])
@pytest.mark.parametrize("layout", [fused, other_converters])
def test_a_draft_head_decides_nothing(
    layout: Callable[[Tensors], Tensors], prefix: str, tmp_path: Path
) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    checkpoint.tensors = layout(checkpoint.tensors)
    for name in ("fc", "norm", "layers.0.input_layernorm"):
        checkpoint.tensors[f"{prefix}{name}.weight"] = np.ones((4, 4), np.float32)
    check(checkpoint.save(), "untied")


@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("layout", [fused, other_converters])
def test_norms_are_told_by_the_convolutions_and_not_by_their_values(
    layout: Callable[[Tensors], Tensors], variant: str, tmp_path: Path
) -> None:
    checkpoint = copy_checkpoint(variant, tmp_path)
    far = {n: a + np.float32(2) for n, a in checkpoint.tensors.items() if _CENTRED.fullmatch(n)}
    checkpoint.tensors = fused(checkpoint.tensors) | far
    expected = load_model(checkpoint.save())(read_golden(variant, "text_65").prompt)
    checkpoint.tensors = layout(checkpoint.tensors)
    found = load_model(checkpoint.save())(read_golden(variant, "text_65").prompt)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("variant", EVERY)
def test_weights_of_every_number_type(dtype: mx.Dtype, variant: str, tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(variant, tmp_path)
    typed = {name: mx.array(array).astype(dtype) for name, array in checkpoint.tensors.items()}
    rounded = {name: np.array(array.astype(mx.float32)) for name, array in typed.items()}
    prompt = read_golden(variant, "text_65").prompt
    checkpoint.tensors = rounded
    expected = load_model(checkpoint.save())(prompt)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), typed)
    assert relative_error(load_model(tmp_path)(prompt), expected) < 1e-6


def test_convolutions_of_both_kinds_contradict_each_other(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("tied", tmp_path)
    name = "model.language_model.layers.1.linear_attn.conv1d.weight"
    checkpoint.tensors[name] = checkpoint.tensors[name].swapaxes(1, 2).copy()
    with pytest.raises(CheckpointError, match=r"model\.safetensors contradicts itself.*layers\.1"):
        load_model(checkpoint.save())


def test_what_a_file_says_about_its_norms_is_believed_or_refused(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    check(checkpoint.save({"norm_convention": "zero_centred"}), "untied")
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*norms are one_centred"):
        load_model(checkpoint.save({"norm_convention": "one_centred"}))
    checkpoint.tensors = other_converters(checkpoint.tensors)
    with pytest.raises(CheckpointError, match="contradicts itself"):
        load_model(checkpoint.save({"norm_convention": "zero_centred"}))


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    again = checkpoint.tensors["lm_head.weight"].copy()
    checkpoint.tensors["language_model.lm_head.weight"] = again
    with pytest.raises(CheckpointError, match=r"both .*lm_head\.weight and .*lm_head\.weight"):
        load_model(checkpoint.save())


@pytest.mark.parametrize("expert", [0, 3, 4])
def test_an_expert_that_is_not_there_is_named(expert: int, tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("mixture_untied", tmp_path)
    checkpoint.tensors = one_by_one(checkpoint.tensors)
    name = f"model.language_model.layers.1.mlp.experts.{expert}.up_proj.weight"
    del checkpoint.tensors[name]
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        load_model(checkpoint.save())


def test_experts_that_are_too_many_or_differ_are_named(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("mixture_untied", tmp_path)
    whole = one_by_one(checkpoint.tensors)
    place = "model.language_model.layers.1.mlp.experts"
    checkpoint.tensors = whole | {f"{place}.5.up_proj.weight": np.zeros((32, 64), np.float32)}
    with pytest.raises(CheckpointError, match=rf"unknown: {place}\.5\.up_proj"):
        load_model(checkpoint.save())
    checkpoint.tensors = whole | {f"{place}.2.up_proj.weight": np.zeros((31, 64), np.float32)}
    with pytest.raises(CheckpointError, match=r"up_proj.*is \[5, 31, 64\], not \[5, 32, 64\]"):
        load_model(checkpoint.save())


def test_a_dense_model_has_no_experts(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint("untied", tmp_path)
    name = "model.language_model.layers.0.mlp.experts.gate_up_proj"
    checkpoint.tensors[name] = np.zeros((2, 4, 64), np.float32)
    with pytest.raises(CheckpointError, match=f"unknown: {name}"):
        load_model(checkpoint.save())


PIECES = (
    "model", "language_model", "visual", "vision_tower", "mtp", "lm_head", "layers", "0", "1",
    "mlp", "experts", "switch_mlp", "3", "gate_up_proj", "down_proj", "linear_attn", "conv1d",
    "norm", "weight", "scales", "biases", "patch_embed", "proj", "",
)  # fmt: skip
INFOS = st.builds(
    TensorInfo,
    file=st.sampled_from([Path("a.safetensors"), Path("b.safetensors")]),
    dtype=st.sampled_from(list(BYTES_PER_ELEMENT)),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 16, 64]), max_size=5).map(tuple),
    norms=st.sampled_from([None, None, None, "zero_centred", "shifted"]),
)
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map(".".join)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), variant=st.sampled_from(EVERY), packed=st.booleans())
def test_strange_tensors_never_end_in_anything_but_a_sentence(
    data: st.DataObject, variant: str, packed: bool
) -> None:
    """Tensors changed, taken away, renamed and added; those of the original fit."""
    tensors = find_tensors(GOLDENS / variant)
    config = load_config(GOLDENS / variant)
    assert checked_model(config, tensors, GOLDENS)
    if packed:
        config = replace(
            config, quantization=QuantizationConfig(4, 64, {"lm_head": Packing(8, 32)})
        )
    known = st.sampled_from(sorted(tensors))
    changed = data.draw(st.dictionaries(st.one_of(known, NAMES), INFOS, min_size=1, max_size=4))
    for name in data.draw(st.lists(known, max_size=3)):
        info = tensors.pop(name, None)
        renamed = data.draw(st.sampled_from(["", "language_model.", "model.", "vision_tower."]))
        if info is not None and renamed:
            changed[renamed + name] = info
    with suppress(CheckpointError):
        assert checked_model(config, tensors | changed, GOLDENS)
