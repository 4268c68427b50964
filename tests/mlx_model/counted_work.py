"""Counts what a model really computes: which tokens it runs over, which patches it encodes."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import pytest

from mlx_model.cache import SequenceCache
from mlx_model.language import LanguageModel
from mlx_model.model import Model


@dataclass
class Work:
    """The runs of tokens [start, stop) that went through the layers, and a count of patches."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    patches: int = 0

    def read(self, prompt_tokens: int | None = None) -> int:
        """Tokens run over, or those of them that belong to a prompt of that length."""
        ends = [(a, b if prompt_tokens is None else min(b, prompt_tokens)) for a, b in self.runs]
        return sum(max(0, stop - start) for start, stop in ends)


@contextmanager
def counted() -> Iterator[Work]:
    """Counts while it is open."""
    work = Work()
    run_layers: Callable[..., mx.array] = LanguageModel.__call__
    encode = Model.encode_media_in_pieces

    def run_counted(
        self: LanguageModel,
        embeddings: mx.array,
        rotation: Any,
        cache: SequenceCache,
        last_only: bool,
    ) -> mx.array:
        work.runs.append((cache.length, cache.length + embeddings.shape[1]))
        return run_layers(self, embeddings, rotation, cache, last_only)

    def encode_counted(
        self: Model, rows: Any, grid_thw: Any, piece_work: int
    ) -> Generator[int, None, mx.array]:
        def counted_rows(part: slice) -> Any:
            patches = rows(part)
            work.patches += len(patches)
            return patches

        return encode(self, counted_rows, grid_thw, piece_work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModel, "__call__", run_counted)
        patch.setattr(Model, "encode_media_in_pieces", encode_counted)
        yield work
