"""config.json is read in every published form, and nothing in it is ever guessed."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from mlx_model.config import ExpertsConfig, Packing, QuantizationConfig, load_config, parse_config
from mlx_model.errors import CheckpointError
from tests.mlx_model.goldens import GOLDENS

NESTED: dict[str, Any] = json.loads((GOLDENS / "untied" / "config.json").read_text("utf-8"))
REQUIRED = (
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "text_config.vocab_size",
    "text_config.hidden_size",
    "text_config.intermediate_size",
    "text_config.num_hidden_layers",
    "text_config.num_attention_heads",
    "text_config.num_key_value_heads",
    "text_config.head_dim",
    "text_config.hidden_act",
    "text_config.attention_bias",
    "text_config.linear_conv_kernel_dim",
    "text_config.linear_num_key_heads",
    "text_config.linear_num_value_heads",
    "text_config.linear_key_head_dim",
    "text_config.linear_value_head_dim",
    "text_config.rms_norm_eps",
    "text_config.max_position_embeddings",
    "text_config.rope_parameters.rope_theta",
    "text_config.rope_parameters.rope_type",
    "text_config.rope_parameters.partial_rotary_factor",
    "text_config.rope_parameters.mrope_section",
    "vision_config.depth",
    "vision_config.hidden_size",
    "vision_config.hidden_act",
    "vision_config.intermediate_size",
    "vision_config.num_heads",
    "vision_config.in_channels",
    "vision_config.patch_size",
    "vision_config.temporal_patch_size",
    "vision_config.spatial_merge_size",
    "vision_config.out_hidden_size",
    "vision_config.num_position_embeddings",
)
MISSING = object()


def edited(path: str, value: object = MISSING) -> dict[str, Any]:
    """The config with one field replaced, or taken out."""
    data = copy.deepcopy(NESTED)
    *sections, name = path.split(".")
    place = data
    for section in sections:
        place = place[section]
    if value is MISSING:
        del place[name]
    else:
        place[name] = value
    return data


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_field_is_named(path: str) -> None:
    name = path.split(".")[-1]
    # The kind of rotation has two spellings; its absence is reported under the older one.
    with pytest.raises(CheckpointError, match="type" if name == "rope_type" else name):
        parse_config(edited(path))


@pytest.mark.parametrize("path", REQUIRED)
def test_a_field_of_the_wrong_kind_is_named(path: str) -> None:
    with pytest.raises(CheckpointError, match=path.split(".")[-1]):
        parse_config(edited(path, [-1]))


@pytest.mark.parametrize(
    "name",
    [
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ],
)
def test_a_mixture_needs_all_its_sizes(name: str) -> None:
    data = json.loads((GOLDENS / "mixture_untied" / "config.json").read_text("utf-8"))
    config = parse_config(data).text
    assert config.experts == ExpertsConfig(count=5, per_token=2, intermediate_size=32)
    assert config.intermediate_size == data["text_config"]["shared_expert_intermediate_size"]
    assert parse_config(NESTED).text.experts is None
    for value in (None, 0, -1, "8", True):
        data["text_config"][name] = value
        with pytest.raises(CheckpointError, match=name):
            parse_config(data)


def test_a_token_cannot_go_to_more_experts_than_there_are() -> None:
    data = json.loads((GOLDENS / "mixture_untied" / "config.json").read_text("utf-8"))
    data["text_config"]["num_experts_per_tok"] = 6
    with pytest.raises(CheckpointError, match="num_experts_per_tok"):
        parse_config(data)


def test_layer_types_come_from_the_list_or_the_interval() -> None:
    alternating = ("linear_attention", "full_attention") * 2
    assert parse_config(NESTED).text.layer_types == alternating
    data = edited("text_config.layer_types")
    with pytest.raises(CheckpointError, match="full_attention_interval"):
        parse_config(data)
    data["text_config"]["full_attention_interval"] = 4
    three_to_one = ("linear_attention",) * 3 + ("full_attention",)
    assert parse_config(data).text.layer_types == three_to_one
    with pytest.raises(CheckpointError, match="layer_types"):
        parse_config(edited("text_config.layer_types", ["full_attention"]))


def test_tied_embeddings_are_said_outside_or_inside_and_never_assumed() -> None:
    data = edited("tie_word_embeddings")
    data["text_config"]["tie_word_embeddings"] = True
    assert parse_config(data).text.tie_word_embeddings
    del data["text_config"]["tie_word_embeddings"]
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        parse_config(data)
    assert not parse_config(NESTED).text.tie_word_embeddings


def test_a_flat_text_only_config_is_the_text_part() -> None:
    flat = {**NESTED["text_config"], "tie_word_embeddings": False, "model_type": "qwen3_5_text"}
    config = parse_config(flat)
    assert config.vision is None
    assert config.text == parse_config(NESTED).text
    assert config.image_token_id == config.video_token_id == -1
    assert config.max_context == 4096


def test_older_exports_keep_the_rotary_base_outside() -> None:
    data = copy.deepcopy(NESTED)
    rope = data["text_config"].pop("rope_parameters")
    data["text_config"]["rope_theta"] = rope.pop("rope_theta")
    data["text_config"]["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    rope["type"] = rope.pop("rope_type")
    data["text_config"]["rope_scaling"] = rope
    assert parse_config(data) == parse_config(NESTED)


def test_the_published_shape_of_the_rotation() -> None:
    data = edited("text_config.head_dim", 256)
    data["text_config"]["rope_parameters"]["mrope_section"] = [11, 11, 10]
    data["text_config"]["rope_parameters"]["rope_theta"] = 10000000
    rope = parse_config(data).text.rope
    assert (rope.theta, rope.rotary_dim, rope.sections) == (1e7, 64, (11, 11, 10))


def test_quantisation_is_read_when_there_is_some() -> None:
    assert parse_config(NESTED).quantization is None
    data = edited("quantization", {"bits": 4, "group_size": 64, "mode": "affine"})
    assert parse_config(data).quantization == QuantizationConfig(bits=4, group_size=64)
    with pytest.raises(CheckpointError, match="group_size"):
        parse_config(edited("quantization", {"bits": 4}))
    with pytest.raises(CheckpointError, match="mxfp4"):
        parse_config(edited("quantization", {"bits": 4, "group_size": 32, "mode": "mxfp4"}))


def test_layers_may_be_packed_otherwise() -> None:
    block: dict[str, Any] = {"bits": 4, "group_size": 64, "mode": "affine"}
    block |= {"lm_head": {"bits": 6, "group_size": 32}, "model.norm": False}
    found = parse_config(edited("quantization", block)).quantization
    assert found is not None
    assert found.packing("lm_head") == Packing(6, 32)
    assert found.packing("model.norm") == found.packing("anything") == Packing(4, 64)
    for wrong in ({"bits": 6}, {"bits": 9, "group_size": 64}, {"bits": 8, "group_size": 7}):
        with pytest.raises(CheckpointError, match="quantization, lm_head"):
            parse_config(edited("quantization", block | {"lm_head": wrong}))
    other = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
    with pytest.raises(CheckpointError, match="mode"):
        parse_config(edited("quantization", block | {"lm_head": other}))


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("model_type", "llama", "llama"),
        ("model_type", "qwen3_moe", "qwen3_moe"),
        ("text_config.rope_parameters.rope_type", "yarn", "yarn"),
        ("text_config.rope_parameters.mrope_interleaved", False, "mrope_interleaved"),
        ("text_config.rope_parameters.mrope_section", [3, 3, 3], "mrope_section"),
        ("text_config.rope_parameters.partial_rotary_factor", 2.0, "partial_rotary_factor"),
        ("text_config.rms_norm_eps", math.nan, "rms_norm_eps"),
        ("text_config.rms_norm_eps", math.inf, "rms_norm_eps"),
        ("text_config.attention_bias", True, "attention_bias"),
        ("text_config.attn_output_gate", False, "attn_output_gate"),
        ("text_config.hidden_act", "gelu", "hidden_act"),
        ("text_config.num_attention_heads", 3, "num_attention_heads"),
        ("text_config.linear_conv_kernel_dim", 1, "linear_conv_kernel_dim"),
        ("text_config.linear_num_value_heads", 3, "linear_num_value_heads"),
        ("vision_config.hidden_act", "gelu", "hidden_act"),
        ("vision_config.out_hidden_size", 65, "65"),
        ("vision_config.num_position_embeddings", 50, "num_position_embeddings"),
        ("vision_config.deepstack_visual_indexes", [1], "deepstack"),
        ("image_token_id", NESTED["video_token_id"], "two things"),
        ("quantization", {"bits": 7, "group_size": 64}, "bits"),
        ("quantization", {"bits": 4, "group_size": 48}, "group_size"),
        ("text_config.num_hidden_layers", 2_000, "num_hidden_layers.*at most 1,000"),
        ("vision_config.depth", 2_000, "depth.*at most 1,000"),
        ("text_config.vocab_size", 10**90, "vocab_size.*at most 16,777,216: 10+…"),
        ("text_config.num_attention_heads", 2**23, "num_attention_heads.*multiplied"),
        ("text_config.linear_key_head_dim", 10**7, "linear_num_key_heads"),
        ("text_config.rms_norm_eps", 10**309, "rms_norm_eps"),
        ("text_config.rope_parameters.rope_theta", 1e300, "rope_theta"),
        ("text_config.rope_parameters.partial_rotary_factor", 1e300, "partial_rotary_factor"),
        pytest.param("model_type", "x" * 10**6, "x{50}", id="a kind that is endless"),
        ("model_type", "\udc80", "udc80"),
    ],
)
def test_what_the_port_does_not_do_is_refused(path: str, value: object, word: str) -> None:
    with pytest.raises(CheckpointError, match=word) as caught:
        parse_config(edited(path, value))
    assert len(str(caught.value).encode()) < 300


def test_errors_are_sentences_that_say_what_to_do() -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_config(edited("model_type"))
    assert str(caught.value).endswith("Choose a Qwen3.5 model.")


@pytest.mark.parametrize("text", [None, "", "{", "[]", "\ufffe"])
def test_an_unreadable_file_is_a_checkpoint_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="config"):
        load_config(tmp_path)


def test_a_folder_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "model.txt"
    file.touch()
    for path, what in ((file, "is not a folder"), (tmp_path / "gone", "cannot be found")):
        with pytest.raises(CheckpointError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path} {what}. Choose a folder that holds a model."
