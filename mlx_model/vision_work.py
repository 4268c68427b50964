"""How much work the vision tower is, and how that work is cut into pieces.

Plain numbers; knows no arrays. Work is counted in floating-point operations of the matrix products,
two for each multiplication and addition.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from mlx_model.config import VisionConfig

# A score costs far more than its two products: its exponential, and memory where no kernel fuses
# them. Counted as so many operations more, a bound on the work also bounds the scores held at once.
_SCORE_OPERATIONS = 1024


@dataclass(frozen=True, slots=True)
class RowWork:
    """What one patch takes in each part of the tower, all other patches of its frame given.

    Attributes:
        embed: from pixels to the first layer.
        project, attend: in one layer, before and after the patches look at each other.
        merge: its share of a token.
    """

    embed: int
    project: int
    attend: int
    merge: int

    @property
    def most(self) -> int:
        """The largest of them."""
        return max(self.embed, self.project, self.attend, self.merge)


def row_work(config: VisionConfig, patches: int) -> RowWork:
    """The work of one patch in a frame of so many."""
    hidden, block = config.hidden_size, config.spatial_merge_size**2
    pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
    merged = hidden * block
    seen = patches * (4 * hidden + config.num_heads * _SCORE_OPERATIONS)
    return RowWork(
        embed=2 * pixels * hidden,
        project=2 * hidden * 3 * hidden,
        attend=seen + 2 * hidden * (hidden + 2 * config.intermediate_size),
        merge=2 * merged * (merged + config.out_hidden_size) // block,
    )


def frame_work(config: VisionConfig, patches: int) -> int:
    """The work of a whole frame of so many patches."""
    row = row_work(config, patches)
    return patches * (row.embed + config.depth * (row.project + row.attend) + row.merge)


def cuts(count: int, row_work: int, budget: int, multiple: int) -> Iterator[slice]:
    """Cut `count` rows into even runs within the budget, at multiples of `multiple` rows.

    A run of `multiple` rows is made whatever its work.
    """
    most = max(1, budget // (row_work * multiple))
    blocks = -(-count // multiple)
    runs = -(-blocks // most)
    bounds = [*(blocks * run // runs * multiple for run in range(runs)), count]
    for start, stop in itertools.pairwise(bounds):
        yield slice(start, stop)
