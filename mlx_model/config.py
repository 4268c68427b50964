"""What a checkpoint's config.json says about the model, checked once and frozen.

Owns the reading of config.json. No field is ever guessed: the real sizes differ in ways that a
plausible default would hide (head widths, rotary base, token ids), so a missing one is an error.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_model.errors import CheckpointError
from mlx_model.foreign_files import refuse_foreign
from mlx_model.json_file import read_json

LayerType = Literal["linear_attention", "full_attention"]

# How mlx can pack weights; 1 bit works as well, but no language model survives it.
PACKED_BITS = (2, 3, 4, 5, 6, 8)
PACKED_GROUP_SIZES = (32, 64, 128)

# More of anything than any model has, and little enough to be counted, listed and multiplied.
_MOST = 1 << 24
# What fp32 can hold.
_SMALLEST, _LARGEST = 1e-37, 3e38
_MOST_LAYERS = 1_000
_MOST_EXPERTS = 10_000
_SHOWN_CHARACTERS = 60

_MODEL_TYPES = ("qwen3_5", "qwen3_5_text")
_MIXTURE_TYPES = ("qwen3_5_moe", "qwen3_5_moe_text")


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary positions: `sections` counts the frequencies of the time, row and column axes."""

    theta: float
    rotary_dim: int
    sections: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A layer's experts: how many there are, how many a token goes to, and how wide each is."""

    count: int
    per_token: int
    intermediate_size: int


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The language model; widths in elements, `layer_types` bottom up.

    `intermediate_size` is that of the MLP that all tokens go through: beside `experts`, which are
    None for a dense model, that of the shared expert.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    layer_types: tuple[LayerType, ...]
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    linear_conv_kernel_dim: int
    linear_num_key_heads: int
    linear_num_value_heads: int
    linear_key_head_dim: int
    linear_value_head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    rope: RopeConfig
    experts: ExpertsConfig | None = None


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision tower; `num_position_embeddings` is the area of a square learned table."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    out_hidden_size: int
    num_position_embeddings: int


@dataclass(frozen=True, slots=True)
class Packing:
    """How one matrix is packed: affine, `group_size` weights of a row share scale and bias."""

    bits: int
    group_size: int


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """How the quantised matrices are packed: all alike but for those that `layers` names.

    Its keys are the matrices' names in the checkpoint, without `.weight`.
    """

    bits: int
    group_size: int
    layers: Mapping[str, Packing] = field(default_factory=dict)

    def packing(self, layer: str) -> Packing:
        """How the matrix `layer` is packed, if it is."""
        return self.layers.get(layer) or Packing(self.bits, self.group_size)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that config.json decides; `vision` is None for a text-only checkpoint.

    A text-only checkpoint has no media tokens: its four ids are -1, which no token equals.
    """

    text: TextConfig
    vision: VisionConfig | None
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    quantization: QuantizationConfig | None

    @property
    def max_context(self) -> int:
        """The longest sequence, in tokens, that the model was made for."""
        return self.text.max_position_embeddings


def load_config(path: str | Path) -> ModelConfig:
    """Read `path`/config.json; CheckpointError if it is absent, broken or of another model."""
    file = Path(path) / "config.json"
    try:
        if not file.exists():
            refuse_foreign(file.parent)
    except OSError as error:
        raise CheckpointError(
            f"{file.parent} cannot be looked into ({error.strerror or error}). "
            "Choose a folder that may be read."
        ) from error
    if not file.parent.is_dir():
        what = "is not a folder" if file.parent.exists() else "cannot be found"
        raise CheckpointError(f"{file.parent} {what}. Choose a folder that holds a model.")
    try:
        data = read_json(file)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no config.json in {file.parent}. Choose a folder that holds a model."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The file {file} cannot be read as a model's config. Download the model again."
        ) from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"The file {file} is not a model's config. Download the model again.")
    return parse_config(data)


def parse_config(data: Mapping[str, Any]) -> ModelConfig:
    """Check the contents of a config.json, nested (`text_config`) or flat text-only."""
    _refuse_other_architectures(data)
    nested = "text_config" in data
    top = _Fields(data, "config.json")
    text = top.section("text_config") if nested else top
    if not nested or "vision_config" not in data:
        vision, ids = None, (-1, -1, -1, -1)
    else:
        vision = _vision(top.section("vision_config"))
        ids = (
            top.integer("image_token_id"),
            top.integer("video_token_id"),
            top.integer("vision_start_token_id"),
            top.integer("vision_end_token_id"),
        )
        if len(set(ids)) < len(ids):
            raise CheckpointError(
                "config.json contradicts itself: one token stands for two things around pictures "
                "and clips. Download the model again."
            )
    # As in the reference, the outer flag decides; exports of the text part alone have only theirs.
    tied = top if "tie_word_embeddings" in data else text
    config = ModelConfig(
        text=_text(
            text,
            tied.boolean("tie_word_embeddings"),
            mixture=data["model_type"] in _MIXTURE_TYPES,
        ),
        vision=vision,
        image_token_id=ids[0],
        video_token_id=ids[1],
        vision_start_token_id=ids[2],
        vision_end_token_id=ids[3],
        quantization=_quantization(top, text),
    )
    if vision is not None and vision.out_hidden_size != config.text.hidden_size:
        raise CheckpointError(
            f"config.json contradicts itself: pictures come out {vision.out_hidden_size} wide, "
            f"text is {config.text.hidden_size} wide. Download the model again."
        )
    return config


class _Fields:
    """One JSON object with typed reads; the error of a read names the field and its place."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def section(self, name: str) -> "_Fields":
        value = self.required(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return _Fields(value, f"{self.where}, {name}")

    def required(self, name: str) -> Any:
        if self.data.get(name) is None:
            raise CheckpointError(
                f"The model's {self.where} says nothing about {name}, which cannot be guessed. "
                "Download the model again, or choose another one."
            )
        return self.data[name]

    def integer(self, name: str, most: int = _MOST) -> int:
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(name, "a whole number")
        if value > most:
            raise self.wrong(name, f"at most {most:,}")
        return value

    def positive(self, name: str, most: int = _MOST) -> int:
        value = self.integer(name, most)
        if value == 0:
            raise self.wrong(name, "a number above zero")
        return value

    def number(self, name: str) -> float:
        value = self.required(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not _SMALLEST < value < _LARGEST
        ):
            raise self.wrong(name, "a number above zero")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self.required(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def expect(self, name: str, allowed: tuple[object, ...]) -> None:
        """Refuse a value that the port does not implement."""
        value = self.required(name)
        if value not in allowed:
            raise CheckpointError(
                f"The model's {self.where} sets {name} to {_shown(value)}, which is not supported. "
                "Choose another model."
            )

    def wrong(self, name: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"The model's {self.where} has a {name} that is not {expected}: "
            f"{_shown(self.data[name])}. Download the model again."
        )


def _shown(value: object) -> str:
    """The value for a sentence, which a file's contents must not flood."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _refuse_other_architectures(data: Mapping[str, Any]) -> None:
    kind = data.get("model_type")
    if kind in _MODEL_TYPES + _MIXTURE_TYPES:
        return
    raise CheckpointError(
        "The folder's config.json describes a model of another kind "
        f"({_shown(kind) if kind else 'it does not say which'}). Choose a Qwen3.5 model."
    )


def _text(fields: _Fields, tied: bool, mixture: bool) -> TextConfig:
    fields.expect("hidden_act", ("silu",))
    fields.expect("attention_bias", (False,))
    if "attn_output_gate" in fields.data:
        fields.expect("attn_output_gate", (True,))
    layers = fields.positive("num_hidden_layers", _MOST_LAYERS)
    config = TextConfig(
        vocab_size=fields.positive("vocab_size"),
        hidden_size=fields.positive("hidden_size"),
        intermediate_size=fields.positive(
            "shared_expert_intermediate_size" if mixture else "intermediate_size"
        ),
        num_hidden_layers=layers,
        layer_types=_layer_types(fields, layers),
        num_attention_heads=fields.positive("num_attention_heads"),
        num_key_value_heads=fields.positive("num_key_value_heads"),
        head_dim=fields.positive("head_dim"),
        linear_conv_kernel_dim=fields.positive("linear_conv_kernel_dim"),
        linear_num_key_heads=fields.positive("linear_num_key_heads"),
        linear_num_value_heads=fields.positive("linear_num_value_heads"),
        linear_key_head_dim=fields.positive("linear_key_head_dim"),
        linear_value_head_dim=fields.positive("linear_value_head_dim"),
        rms_norm_eps=fields.number("rms_norm_eps"),
        max_position_embeddings=fields.positive("max_position_embeddings"),
        tie_word_embeddings=tied,
        rope=_rope(fields, fields.positive("head_dim")),
        experts=_experts(fields) if mixture else None,
    )
    if config.linear_conv_kernel_dim == 1:
        raise fields.wrong("linear_conv_kernel_dim", "a number above one")
    _check_divides(fields, "num_key_value_heads", "num_attention_heads")
    _check_divides(fields, "linear_num_key_heads", "linear_num_value_heads")
    for heads, width in (
        ("num_attention_heads", "head_dim"),
        ("linear_num_key_heads", "linear_key_head_dim"),
        ("linear_num_value_heads", "linear_value_head_dim"),
    ):
        if fields.data[heads] * fields.data[width] > _MOST:
            raise fields.wrong(heads, f"a number that {width} can be multiplied by")
    return config


def _experts(fields: _Fields) -> ExpertsConfig:
    config = ExpertsConfig(
        count=fields.positive("num_experts", _MOST_EXPERTS),
        per_token=fields.positive("num_experts_per_tok"),
        intermediate_size=fields.positive("moe_intermediate_size"),
    )
    if config.per_token > config.count:
        raise fields.wrong("num_experts_per_tok", f"at most num_experts ({config.count})")
    return config


def _check_divides(fields: _Fields, divisor: str, name: str) -> None:
    if fields.data[name] % fields.data[divisor]:
        raise fields.wrong(name, f"a multiple of {divisor} ({fields.data[divisor]})")


def _layer_types(fields: _Fields, layers: int) -> tuple[LayerType, ...]:
    names = fields.data.get("layer_types")
    if names is None:
        interval = fields.positive("full_attention_interval")
        return tuple(
            "linear_attention" if (i + 1) % interval else "full_attention" for i in range(layers)
        )
    known = ("linear_attention", "full_attention")
    if not isinstance(names, list) or len(names) != layers or any(n not in known for n in names):
        raise fields.wrong("layer_types", f"a list of {layers} known kinds")
    return tuple(names)


def _rope(fields: _Fields, head_dim: int) -> RopeConfig:
    # Exports from before transformers 5 call the object rope_scaling, keep the base beside it
    # and its kind under "type".
    key = "rope_parameters" if "rope_parameters" in fields.data else "rope_scaling"
    rope = fields.section(key)
    rope.expect("rope_type" if "rope_type" in rope.data else "type", ("default", "mrope"))
    if "mrope_interleaved" in rope.data:
        rope.expect("mrope_interleaved", (True,))
    base = rope if "rope_theta" in rope.data else fields
    part = rope if "partial_rotary_factor" in rope.data else fields
    if part.number("partial_rotary_factor") > 1:
        raise part.wrong("partial_rotary_factor", "a number up to one")
    rotary_dim = int(head_dim * part.number("partial_rotary_factor"))
    sections = rope.required("mrope_section")
    if (
        not isinstance(sections, list)
        or len(sections) != 3
        or any(not isinstance(s, int) or s < 0 for s in sections)
        or 2 * sum(sections) != rotary_dim
    ):
        raise rope.wrong("mrope_section", f"three counts that add up to {rotary_dim // 2}")
    return RopeConfig(base.number("rope_theta"), rotary_dim, (*sections,))


def _vision(fields: _Fields) -> VisionConfig:
    fields.expect("hidden_act", ("gelu_pytorch_tanh",))
    if fields.data.get("deepstack_visual_indexes"):
        fields.expect("deepstack_visual_indexes", ([],))
    config = VisionConfig(
        depth=fields.positive("depth", _MOST_LAYERS),
        hidden_size=fields.positive("hidden_size"),
        intermediate_size=fields.positive("intermediate_size"),
        num_heads=fields.positive("num_heads"),
        in_channels=fields.positive("in_channels"),
        patch_size=fields.positive("patch_size"),
        temporal_patch_size=fields.positive("temporal_patch_size"),
        spatial_merge_size=fields.positive("spatial_merge_size"),
        out_hidden_size=fields.positive("out_hidden_size"),
        num_position_embeddings=fields.positive("num_position_embeddings"),
    )
    if math.isqrt(config.num_position_embeddings) ** 2 != config.num_position_embeddings:
        raise fields.wrong("num_position_embeddings", "a square number")
    if config.hidden_size % (4 * config.num_heads):
        raise fields.wrong("hidden_size", f"a multiple of {4 * config.num_heads}")
    return config


def _quantization(top: _Fields, text: _Fields) -> QuantizationConfig | None:
    if top.data.get("quantization") is None:
        # Other programs' formats, such as FP8 or GPTQ; MLX converters repeat their own block here.
        for fields in (top, text):
            if fields.data.get("quantization_config") is not None:
                foreign = fields.section("quantization_config")
                foreign.expect("quant_method", ())
        return None
    block = top.section("quantization")
    packing = _packing(block)
    # Which matrices are packed shows in the weights; "layer": false, as other converters write
    # it beside the objects, says nothing more.
    layers = {
        name: _packing(block.section(name))
        for name, value in block.data.items()
        if isinstance(value, Mapping)
    }
    return QuantizationConfig(packing.bits, packing.group_size, layers)


def _packing(block: _Fields) -> Packing:
    if "mode" in block.data:
        block.expect("mode", ("affine",))
    block.expect("bits", PACKED_BITS)
    block.expect("group_size", PACKED_GROUP_SIZES)
    return Packing(block.positive("bits"), block.positive("group_size"))
