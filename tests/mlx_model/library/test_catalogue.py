"""The catalogue's figures, worked out again from every tensor that the published models have."""

import pytest

from mlx_model.errors import FiresideError
from mlx_model.library.catalogue import CATALOGUE, CatalogueModel, StoredWeights, catalogue_model
from mlx_model.library.memory_needs import MemoryNeeds, memory_needs
from mlx_model.weight_sizes import WeightGroup, bits_a_weight, size_bytes, weight_groups
from tests.mlx_model.published_shapes import planned_groups, published_config, published_tensors

GIB = 2**30

each_model = pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.size)


def stored(groups: list[WeightGroup]) -> StoredWeights:
    return StoredWeights(size_bytes(groups), round(bits_a_weight(groups), 2))


@each_model
def test_the_figures_are_those_of_the_published_tensors(model: CatalogueModel) -> None:
    config = published_config(model.size)
    raw = weight_groups(published_tensors(config), None)
    converted = planned_groups(model.size, "uniform")
    ready = [group for group in converted if group.part != "draft head"]
    assert model.raw == stored(raw)
    assert model.converted == stored(converted)
    assert model.ready == stored(ready)
    assert model.memory == memory_needs(config.text, size_bytes(ready))


# GiB of 4-bit weights with tower, state, keys and values, worked out elsewhere.
@pytest.mark.parametrize(
    ("size", "gib"),
    [
        ("0.8B", (0.65, 0.98, 3.60)),
        ("2B", (1.67, 2.00, 4.62)),
        ("4B", (3.00, 3.87, 10.87)),
        ("9B", (5.71, 6.59, 13.59)),
    ],
)
def test_memory_at_4k_32k_and_262k_tokens(size: str, gib: tuple[float, ...]) -> None:
    needs = catalogue_model(size).memory
    totals = [needs.total_bytes(tokens) / GIB for tokens in (4096, 32768, 262144)]
    assert totals == pytest.approx(gib, abs=0.015)


def test_the_cpu_backend_computes_in_four_bytes_but_keeps_the_state_as_it_is() -> None:
    text = published_config("4B").text
    wide, narrow = (memory_needs(text, 0, element_bytes=width) for width in (4, 2))
    assert wide.bytes_a_token == 2 * narrow.bytes_a_token
    tails = 24 * 3 * 8192 * 2
    assert wide.state_bytes - narrow.state_bytes == tails


def test_tokens_within_is_the_longest_that_fits() -> None:
    needs = MemoryNeeds(weights_bytes=1000, state_bytes=50, bytes_a_token=8)
    assert needs.tokens_within(1049) == 0
    assert needs.tokens_within(1057) == 0
    assert needs.tokens_within(1058) == 1
    tokens = needs.tokens_within(12345)
    assert needs.total_bytes(tokens) <= 12345 < needs.total_bytes(tokens + 1)


def test_names_and_repositories() -> None:
    model = catalogue_model("Qwen3.5-4b")
    assert model is catalogue_model("4B")
    assert model.name == "Qwen3.5-4B"
    assert model.raw_repository == "Qwen/Qwen3.5-4B"
    assert model.ready_repositories == (
        "mlx-community/Qwen3.5-4B-4bit",
        "mlx-community/Qwen3.5-4B-MLX-4bit",
    )
    with pytest.raises(FiresideError, match="Choose one of 4B, 2B"):
        catalogue_model("7B")
