"""Which tensors of a checkpoint make up each parameter of the model, whoever wrote them.

Known are the published names and those of other MLX converters, experts fused, split or one by
one. Works from names and shapes alone: a value never decides anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import mlx.core as mx

from mlx_model.config import ModelConfig
from mlx_model.errors import CheckpointError
from mlx_model.tensor_files import TensorInfo

NORM_CONVENTION = "zero_centred"

# The first that fits gives the parameter's name. Text-only checkpoints say just `model.`.
_PREFIXES = (
    ("model.language_model.visual.", "model.visual."),
    ("model.language_model.", "model.language_model."),
    ("model.visual.", "model.visual."),
    ("model.", "model.language_model."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.visual."),
)
_EXPERTS = re.compile(
    r"(?P<mlp>.*\.mlp\.)(?:experts|switch_mlp)\.(?:(?P<expert>\d+)\.)?"
    r"(?P<matrix>gate_up|gate|up|down)_proj(?:\.(?P<role>weight|scales|biases))?"
)
# Those that multiply by 1 + weight; the norm inside a DeltaNet layer and the tower's do not.
_CENTRED_NORM = re.compile(
    r"model\.language_model\.(norm|layers\.\d+\.(\w+_layernorm|self_attn\.[qk]_norm))\.weight"
)


@dataclass(frozen=True, slots=True)
class Source:
    """What a parameter is made of: one tensor, or one for each expert, which are stacked.

    `half` is 0 or 1 if only the first or second half of the rows belongs to it. `turned` tensors
    have the axis of their input channels last instead of second; `shifted` ones hold 1 + weight.
    """

    tensors: tuple[str, ...]
    half: int | None = None
    turned: bool = False
    shifted: bool = False

    def missing(self, tensors: Mapping[str, TensorInfo]) -> list[str]:
        """The tensors that are not among `tensors`."""
        return [name for name in self.tensors if name not in tensors]

    def shape(self, tensors: Mapping[str, TensorInfo]) -> tuple[int, ...]:
        """The parameter's shape; of experts that differ, the shape of the first that does."""
        shapes = [tensors[name].shape for name in self.tensors]
        shape = next((other for other in shapes if other != shapes[0]), shapes[0])
        if len(shapes) > 1:
            shape = (len(shapes), *shape)
        if self.half is not None and len(shape) > 1 and shape[-2] % 2 == 0:
            shape = (*shape[:-2], shape[-2] // 2, shape[-1])
        return (shape[0], shape[-1], *shape[1:-1]) if self.turned else shape

    def array(self, arrays: Mapping[str, mx.array]) -> mx.array:
        """The parameter, from the tensors by name; not evaluated."""
        parts = [arrays[name] for name in self.tensors]
        array = mx.stack(parts) if len(parts) > 1 else parts[0]
        if self.half is not None:
            # A copy: a view would keep the other half in memory for as long as it lives.
            array = mx.contiguous(mx.split(array, 2, axis=-2)[self.half])
        if self.turned:
            array = mx.contiguous(mx.moveaxis(array, -1, 1))
        return array.astype(mx.float32) - 1.0 if self.shifted else array


def canonical_name(name: str) -> str:
    """The name that the published layout gives to the tensor `name`; experts keep theirs."""
    for prefix, published in _PREFIXES:
        if name.startswith(prefix):
            return published + name.removeprefix(prefix)
    return name


def parameter_sources(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> dict[str, Source]:
    """Parameter of the model -> what it is made of, leaving out what is never loaded.

    Names that the model does not know come through as they are. A draft head is left out, and so
    is an `lm_head` that a tied checkpoint repeats, which the reference ignores as well.
    CheckpointError if the tensors contradict each other.
    """
    shifted = _is_shifted(tensors)
    sources: dict[str, Source] = {}
    for name, info in tensors.items():
        parameter = canonical_name(name)
        left_out = _is_of_draft_head(name)
        left_out |= config.text.tie_word_embeddings and parameter.startswith("lm_head.")
        if left_out:
            continue
        for made, source in _made_of(parameter, name, info, config).items():
            known = sources.setdefault(made, source)
            if known.tensors != source.tensors:
                raise _contradiction(info, f"both {known.tensors[0]} and {name}")
    if not shifted:
        return sources
    return {
        parameter: replace(source, shifted=_CENTRED_NORM.fullmatch(parameter) is not None)
        for parameter, source in sources.items()
    }


def draft_head_sources(
    config: ModelConfig, tensors: Mapping[str, TensorInfo]
) -> dict[str, Source] | None:
    """The same for the draft head, whose parameters begin below `mtp.`; None without a known one.

    Whether converters that shift norms shift those of a draft head as well differs and leaves no
    trace, so theirs are not known.
    """
    if _is_shifted(tensors):
        return None
    sources: dict[str, Source] = {}
    for name, info in tensors.items():
        if _is_of_draft_head(name):
            sources |= _made_of(name.partition("mtp.")[2], name, info, config)
    return sources or None


def _is_of_draft_head(name: str) -> bool:
    return "mtp" in name.split(".")[:3]


def _made_of(parameter: str, name: str, info: TensorInfo, config: ModelConfig) -> dict[str, Source]:
    """The parameters that the tensor `name` is a part of; several for fused experts."""
    experts = _EXPERTS.fullmatch(parameter) if config.text.experts is not None else None
    if experts is None or config.text.experts is None:
        turned = _is_turned(parameter, info, config)
        return {parameter: Source((name,), turned=turned)}
    place, role = f"{experts['mlp']}experts.", experts["role"] or "weight"
    names: tuple[str, ...] = (name,)
    if experts["expert"] is not None:
        # All of them belong together; one that is not there is told as missing.
        before, after = name.split(f".{experts['expert']}.{experts['matrix']}_proj")
        names = _of_each_expert(
            f"{before}.", f".{experts['matrix']}_proj{after}", config.text.experts.count
        )
        if name not in names:
            return {parameter: Source((name,))}
    if experts["matrix"] == "gate_up":
        return {
            f"{place}gate_proj.{role}": Source(names, half=0),
            f"{place}up_proj.{role}": Source(names, half=1),
        }
    return {f"{place}{experts['matrix']}_proj.{role}": Source(names)}


@lru_cache(maxsize=8)
def _of_each_expert(before: str, after: str, count: int) -> tuple[str, ...]:
    """The names of one matrix of all experts; asked for again with each of them."""
    return tuple(f"{before}{expert}{after}" for expert in range(count))


def _is_shifted(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether norms hold 1 + weight, as those of other MLX converters do.

    They shift the norms and turn the convolutions in one go, and say nothing about it; the shape
    of the convolutions, which are longer than 1, is the only reliable trace.
    """
    convolutions = {
        name: info for name, info in tensors.items() if name.endswith("linear_attn.conv1d.weight")
    }
    turned = [name for name, info in convolutions.items() if info.shape[-1:] == (1,)]
    stated = {info.norms: info for info in tensors.values() if info.norms is not None}
    for norms, info in stated.items():
        if norms != NORM_CONVENTION:
            raise CheckpointError(
                f"The weights file {info.file} says that its norms are {norms}, which is not "
                "supported. Choose the published model."
            )
        if turned:
            raise _contradiction(info, f"norms said to be {norms} and a turned {turned[0]}")
    if turned and len(turned) < len(convolutions):
        other = next(name for name in convolutions if name not in turned)
        raise _contradiction(tensors[turned[0]], f"a turned {turned[0]} and a published {other}")
    return bool(turned)


def _is_turned(parameter: str, info: TensorInfo, config: ModelConfig) -> bool:
    """Whether a convolution has its input channels last, which only its shape tells."""
    if parameter.endswith("linear_attn.conv1d.weight"):
        return len(info.shape) == 3 and info.shape[-1] == 1
    if config.vision is None or parameter != "model.visual.patch_embed.proj.weight":
        return False
    channels = config.vision.in_channels
    return len(info.shape) == 5 and info.shape[-1] == channels != info.shape[1]


def _contradiction(info: TensorInfo, what: str) -> CheckpointError:
    return CheckpointError(
        f"The weights file {info.file} contradicts itself: it holds {what}. "
        "Download the model again, or choose another version."
    )
