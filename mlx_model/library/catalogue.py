"""The Qwen3.5 models that the app offers: what each is good at, where it comes from, what it takes.

The figures follow from the published shapes; a test works them out again from every tensor.
"""

from dataclasses import dataclass

from mlx_model.errors import FiresideError
from mlx_model.library.memory_needs import MemoryNeeds


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A model's weights in one form: bytes on disk, and bits for each weight, scales included.

    The tokenizer and its companions, which come on top, are a few tens of megabytes.
    """

    size_bytes: int
    bits_a_weight: float


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One size of the family.

    `raw` is as published, `converted` what we make of it at 4 bits, draft head included, and
    `ready` what others have converted, without one. `memory` is that of `ready`; a draft head
    takes a few percent more.
    """

    size: str
    good_at: str
    raw: StoredWeights
    converted: StoredWeights
    ready: StoredWeights
    memory: MemoryNeeds

    @property
    def name(self) -> str:
        """As people call it, such as "Qwen3.5-4B"."""
        return f"Qwen3.5-{self.size}"

    @property
    def raw_repository(self) -> str:
        """The repository of those who made it."""
        return f"Qwen/{self.name}"

    @property
    def ready_repositories(self) -> tuple[str, ...]:
        """Repositories of ready 4-bit conversions, to be tried in this order."""
        return (f"mlx-community/{self.name}-4bit", f"mlx-community/{self.name}-MLX-4bit")

    @property
    def converted_name(self) -> str:
        """The folder name of what we convert."""
        return f"{self.name}-4bit"


CATALOGUE = (
    CatalogueModel(
        size="4B",
        good_at="best for most Macs",
        raw=StoredWeights(9_319_737_856, 16.0),
        converted=StoredWeights(3_167_955_456, 5.44),
        ready=StoredWeights(3_039_805_952, 5.36),
        memory=MemoryNeeds(3_039_805_952, 51_511_296, 32_768),
    ),
    CatalogueModel(
        size="2B",
        good_at="quick, pictures and clips",
        raw=StoredWeights(4_548_144_832, 16.0),
        converted=StoredWeights(1_788_489_408, 6.29),
        ready=StoredWeights(1_723_849_408, 6.23),
        memory=MemoryNeeds(1_723_849_408, 19_537_920, 12_288),
    ),
    CatalogueModel(
        size="0.8B",
        good_at="light tasks, oldest Macs",
        raw=StoredWeights(1_746_882_752, 16.0),
        converted=StoredWeights(647_712_960, 5.93),
        ready=StoredWeights(625_976_512, 5.87),
        memory=MemoryNeeds(625_976_512, 19_537_920, 12_288),
    ),
    CatalogueModel(
        size="9B",
        good_at="strongest of the four",
        raw=StoredWeights(19_306_216_416, 16.0),
        converted=StoredWeights(6_217_628_640, 5.15),
        ready=StoredWeights(5_959_112_672, 5.07),
        memory=MemoryNeeds(5_959_112_672, 51_511_296, 32_768),
    ),
)


def catalogue_model(size: str) -> CatalogueModel:
    """The model called `size`: "4B", "4b" or "Qwen3.5-4B"; FiresideError if there is none."""
    wanted = size.lower().removeprefix("qwen/").removeprefix("qwen3.5-")
    for model in CATALOGUE:
        if model.size.lower() == wanted:
            return model
    sizes = ", ".join(model.size for model in CATALOGUE)
    raise FiresideError(f"There is no Qwen3.5 of the size {size}. Choose one of {sizes}.")
