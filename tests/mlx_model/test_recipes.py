"""Who gets how many bits, written out; and what that comes to for the published models."""

from collections.abc import Sequence

import pytest

from mlx_model.config import Packing
from mlx_model.conversion_plan import split
from mlx_model.errors import CheckpointError
from mlx_model.recipes import Recipe, find_recipe, packing
from mlx_model.weight_sizes import (
    Part,
    WeightGroup,
    bits_a_weight,
    size_bytes,
)
from tests.mlx_model.published_shapes import (
    planned_groups,
    planned_steps,
    published_config,
    published_tensors,
)

LAYERS = 8
MATRIX = (128, 128)
GIB = 2**30
# Where a tensor stands, its bits in uniform (4) and in mixed; None for not packed.
LAYER_TABLE = {
    "input_layernorm": (None, None),
    "post_attention_layernorm": (None, None),
    "mlp.gate_proj": (4, 4),
    "mlp.up_proj": (4, 4),
    "linear_attn.in_proj_qkv": (4, 6),
    "linear_attn.in_proj_z": (4, 4),
    "linear_attn.in_proj_a": (None, None),
    "linear_attn.in_proj_b": (None, None),
    "linear_attn.conv1d": (None, None),
    "linear_attn.norm": (None, None),
    "linear_attn.out_proj": (4, 6),
    "self_attn.q_proj": (4, 6),
    "self_attn.k_proj": (4, 8),
    "self_attn.v_proj": (4, 8),
    "self_attn.o_proj": (4, 6),
    "self_attn.q_norm": (None, None),
    "self_attn.k_norm": (None, None),
    # Of the mixtures of experts.
    "mlp.gate": (None, 8),
    "mlp.shared_expert_gate": (None, 8),
    "mlp.shared_expert.up_proj": (4, 4),
    "mlp.experts.gate_up_proj": (4, 4),
    "mlp.experts.3.gate_proj": (4, 4),
}
OTHER_TABLE = {
    "model.language_model.embed_tokens": (4, 6),
    "lm_head": (4, 6),
    "model.language_model.norm": (None, None),
    "mtp.fc": (8, 8),
    "mtp.norm": (None, None),
    "mtp.pre_fc_norm_embedding": (None, None),
    "mtp.layers.0.input_layernorm": (None, None),
    "mtp.layers.0.mlp.gate_proj": (8, 8),
    "mtp.layers.0.mlp.down_proj": (8, 8),
    "mtp.layers.0.mlp.experts.gate_up_proj": (8, 8),
    "mtp.layers.0.mlp.gate": (None, None),
    "mtp.layers.0.self_attn.q_proj": (8, 8),
    "mtp.layers.0.self_attn.k_proj": (8, 8),
    "mtp.layers.0.self_attn.o_proj": (8, 8),
    "model.visual.blocks.0.attn.qkv": (None, None),
    "model.visual.blocks.0.attn.proj": (None, None),
    "model.visual.blocks.0.mlp.linear_fc1": (None, None),
    "model.visual.merger.linear_fc2": (None, None),
    "model.visual.patch_embed.proj": (None, None),
    "model.visual.pos_embed": (None, None),
}
# The first and last of eight layers, and every third.
DOWN_BITS = (6, 4, 6, 4, 4, 6, 4, 6)


def bits(recipe: Recipe, layer: str, layers: int = LAYERS) -> int | None:
    found = packing(recipe, f"{layer}.weight", MATRIX, layers)
    return None if found is None else found.bits


@pytest.mark.parametrize("column", [0, 1], ids=["uniform", "mixed"])
def test_every_tensor_gets_the_bits_of_the_table(column: int) -> None:
    recipe = find_recipe(("uniform", "mixed")[column], 4)
    table = {name: row[column] for name, row in OTHER_TABLE.items()}
    for index in range(LAYERS):
        for name, row in LAYER_TABLE.items():
            table[f"model.language_model.layers.{index}.{name}"] = row[column]
        down = (4, DOWN_BITS[index])[column]
        table[f"model.language_model.layers.{index}.mlp.down_proj"] = down
    assert {name: bits(recipe, name) for name in table} == table


def test_uniform_takes_the_bits_it_is_asked_for() -> None:
    recipe = find_recipe("uniform", 8, group_size=32)
    down = "model.language_model.layers.0.mlp.down_proj.weight"
    assert packing(recipe, down, MATRIX, LAYERS) == Packing(8, 32)


@pytest.mark.parametrize(
    ("layers", "more"),
    [
        (1, {0}),
        (4, {0, 2, 3}),
        (24, {0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23}),
        (32, {0, 1, 2, 3, 5, 8, 11, 14, 17, 20, 23, 26, 28, 29, 30, 31}),
    ],
)
def test_down_projections_of_both_ends_and_every_third_get_more(
    layers: int, more: set[int]
) -> None:
    recipe = find_recipe("mixed", 4)
    found = {
        index
        for index in range(layers)
        if bits(recipe, f"model.language_model.layers.{index}.mlp.down_proj", layers) == 6
    }
    assert found == more


def test_vectors_and_what_groups_do_not_fill_are_left_alone() -> None:
    recipe = find_recipe("mixed", 4)
    layer = "model.language_model.layers.0"
    assert packing(recipe, f"{layer}.linear_attn.A_log", (64,), LAYERS) is None
    assert packing(recipe, f"{layer}.linear_attn.dt_bias", (64,), LAYERS) is None
    assert packing(recipe, f"{layer}.mlp.up_proj.weight", (64, 72), LAYERS) is None
    assert packing(recipe, f"{layer}.mlp.up_proj.weight", (64,), LAYERS) is None
    assert packing(recipe, f"{layer}.mlp.up_proj.bias", MATRIX, LAYERS) is None


def test_fused_experts_are_packed_under_the_published_name() -> None:
    name = "model.language_model.layers.1.mlp.experts.{}_proj"
    for recipe, down_bits in (("uniform", 4), ("mixed", 4)):
        chosen = find_recipe(recipe, 4)
        assert packing(chosen, name.format("gate_up"), (5, 64, 128), LAYERS) == Packing(4, 64)
        assert packing(chosen, name.format("down"), (5, 128, 64), LAYERS) == Packing(down_bits, 64)
        assert packing(chosen, name.format("down"), (5, 128, 32), LAYERS) is None


@pytest.mark.parametrize(
    ("name", "bits", "words"),
    [
        ("mixed", 8, "Choose 4 bits, or the uniform recipe"),
        ("best", 4, "no recipe called best"),
        ("uniform", 7, "cannot be packed"),
    ],
)
def test_recipes_that_do_not_exist_are_refused(name: str, bits: int, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        find_recipe(name, bits)


def of(part: Part, groups: Sequence[WeightGroup]) -> list[WeightGroup]:
    return [group for group in groups if group.part == part]


# Weights in millions and GiB (bits a weight) as worked out elsewhere from the same shapes.
@pytest.mark.parametrize(
    ("size", "millions", "uniform_gib", "mixed_gib", "mixed_bits", "draft_gib", "vision_gib"),
    [
        ("0.8B", (752, 20, 101), 0.395, 0.512, 5.84, 0.020, 0.187),
        ("2B", (1882, 61, 331), 0.987, 1.235, 5.64, 0.060, 0.617),
        ("4B", (4206, 121, 334), 2.205, 2.700, 5.51, 0.119, 0.621),
        ("9B", (8954, 243, 456), 4.692, 5.768, 5.53, 0.241, 0.849),
    ],
)
def test_published_models_come_to_the_bits_and_sizes_expected(
    size: str,
    millions: tuple[int, int, int],
    uniform_gib: float,
    mixed_gib: float,
    mixed_bits: float,
    draft_gib: float,
    vision_gib: float,
) -> None:
    uniform = planned_groups(size, "uniform")
    mixed = planned_groups(size, "mixed")
    parts: tuple[Part, Part, Part] = ("language model", "draft head", "vision tower")
    for groups in (uniform, mixed):
        counts = [sum(group.weights for group in of(part, groups)) for part in parts]
        assert [round(count / 1e6) for count in counts] == list(millions)
        drafts, tower = of("draft head", groups), of("vision tower", groups)
        assert size_bytes(drafts) / GIB == pytest.approx(draft_gib, abs=0.0006)
        assert size_bytes(tower) / GIB == pytest.approx(vision_gib, abs=0.0006)
    language = of("language model", uniform)
    assert bits_a_weight(language) == pytest.approx(4.5, abs=0.02)
    assert size_bytes(language) / GIB == pytest.approx(uniform_gib, rel=0.003)
    language = of("language model", mixed)
    assert bits_a_weight(language) == pytest.approx(mixed_bits, abs=0.006)
    assert size_bytes(language) / GIB == pytest.approx(mixed_gib, abs=0.0006)


def test_a_plan_leaves_no_tensor_out_and_shards_in_order() -> None:
    steps = planned_steps("0.8B", "mixed")
    config = published_config("0.8B")
    assert sorted(step.name for step in steps) == sorted(published_tensors(config))
    total = sum(step.size_bytes for step in steps)
    shards = split(steps, total // 3)
    assert [step for shard in shards.values() for step in shard] == steps
    assert list(shards) == [f"model-0000{n}-of-0000{len(shards)}.safetensors" for n in (1, 2, 3)]
    assert list(split(steps, total)) == ["model.safetensors"]
