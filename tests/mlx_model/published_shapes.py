"""The tensors of the published dense models as their headers list them, without any weights."""

from pathlib import Path

from mlx.utils import tree_flatten

from mlx_model.config import (
    ModelConfig,
    QuantizationConfig,
    RopeConfig,
    TextConfig,
    VisionConfig,
)
from mlx_model.conversion_plan import Step, plan
from mlx_model.model import Model
from mlx_model.recipes import find_recipe
from mlx_model.tensor_files import TensorInfo
from mlx_model.weight_sizes import WeightGroup, weight_groups

# layers, hidden, feed-forward, query heads, key heads, DeltaNet value heads, tied;
# vision layers, hidden, feed-forward
SIZES = {
    "0.8B": ((24, 1024, 3584, 8, 2, 16, True), (12, 768, 3072)),
    "2B": ((24, 2048, 6144, 8, 2, 16, True), (24, 1024, 4096)),
    "4B": ((32, 2560, 9216, 16, 4, 32, True), (24, 1024, 4096)),
    "9B": ((32, 4096, 12288, 16, 4, 32, False), (27, 1152, 4304)),
}
_FP32 = ("A_log", "linear_attn.norm.weight")


def published_config(size: str) -> ModelConfig:
    """The configuration of one of SIZES."""
    (layers, hidden, feed_forward, heads, kv_heads, value_heads, tied), vision = SIZES[size]
    text = TextConfig(
        vocab_size=248320,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        layer_types=tuple(
            "linear_attention" if (i + 1) % 4 else "full_attention" for i in range(layers)
        ),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=256,
        linear_conv_kernel_dim=4,
        linear_num_key_heads=16,
        linear_num_value_heads=value_heads,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        rms_norm_eps=1e-6,
        max_position_embeddings=262144,
        tie_word_embeddings=tied,
        rope=RopeConfig(1e7, 64, (11, 11, 10)),
    )
    tower = VisionConfig(
        depth=vision[0],
        hidden_size=vision[1],
        intermediate_size=vision[2],
        num_heads=16 if vision[1] != 768 else 12,
        in_channels=3,
        patch_size=16,
        temporal_patch_size=2,
        spatial_merge_size=2,
        out_hidden_size=hidden,
        num_position_embeddings=2304,
    )
    return ModelConfig(text, tower, 248056, 248057, 248053, 248054, None)


def published_tensors(config: ModelConfig) -> dict[str, TensorInfo]:
    """Every tensor that such a checkpoint has, draft head included."""
    shapes = {name: array.shape for name, array in tree_flatten(Model(config).parameters())}
    hidden = config.text.hidden_size
    attention = config.text.layer_types.index("full_attention")
    layer = f"model.language_model.layers.{attention}."
    drafts = {
        name.replace(layer, "mtp.layers.0."): shape
        for name, shape in shapes.items()
        if name.startswith(layer)
    }
    drafts["mtp.fc.weight"] = (hidden, 2 * hidden)
    for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        drafts[f"mtp.{norm}.weight"] = (hidden,)
    return {
        name: TensorInfo(
            Path("model.safetensors"), "F32" if name.endswith(_FP32) else "BF16", tuple(shape)
        )
        for name, shape in (shapes | drafts).items()
    }


def planned_steps(size: str, recipe: str) -> list[Step]:
    """The conversion of one of SIZES to 4 bits."""
    config = published_config(size)
    return plan(published_tensors(config), find_recipe(recipe, 4), config.text.num_hidden_layers)


def planned_groups(size: str, recipe: str) -> list[WeightGroup]:
    """The weights that this conversion makes."""
    steps = planned_steps(size, recipe)
    outputs = {
        name: TensorInfo(Path(), layout.dtype, layout.shape)
        for step in steps
        for name, layout in step.outputs.items()
    }
    layers = {step.layer: step.packing for step in steps if step.packing is not None}
    return weight_groups(outputs, QuantizationConfig(4, 64, layers))
