"""What the machine allows: memory, sizes of the pieces of work, context. Knows no model."""

import os
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

GIB = 1 << 30
_SHORT_CHUNK, _LONG_CHUNK = 128, 512


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Bounds that the engine keeps to; detected from the machine, or given by tests and plans.

    `working_set_bytes` is what the engine may use of `memory_bytes`, `buffer_cache_bytes` what mlx
    may keep of freed buffers. Of conversations that were read `state_bytes` may be kept, beside the
    keys and values of the latest one, and of encoded pictures and clips `feature_bytes`. On the
    disk the states of all models take `disk_bytes` together; 0 for none.
    `prefill_chunk_tokens` and `vision_piece_work`, the latter in floating-point operations of the
    vision tower, bound the work between two looks at the stop button; with the work they bound the
    memory that it passes through.
    `attention_bytes` is what the scores of one layer may take while a prompt is read.
    `max_drafts` is how far ahead a draft head guesses at most, where that pays; 0 never.
    `max_context_tokens` only ever lowers the model's own (None: the model's own).
    """

    memory_bytes: int
    working_set_bytes: int
    buffer_cache_bytes: int = GIB // 2
    prefill_chunk_tokens: int = _LONG_CHUNK
    vision_piece_work: int = 100 * 10**9
    max_drafts: int = 3
    max_context_tokens: int | None = None
    state_bytes: int = GIB // 2
    feature_bytes: int = GIB // 16
    disk_bytes: int = 10 * 10**9
    attention_bytes: int = GIB

    def __post_init__(self) -> None:
        if self.prefill_chunk_tokens < 1 or self.vision_piece_work < 1:
            raise ValueError("the pieces of work need at least one token or operation each")

    def for_a_small_model(self) -> "MachineLimits":
        """The same for a model that any device reads long pieces with in a fraction of a second.

        A piece costs a little by itself, which with so small a model is much of the whole. Other
        sizes than what the CPU backend gets are left as they are.
        """
        if self.prefill_chunk_tokens != _SHORT_CHUNK:
            return self
        return replace(self, prefill_chunk_tokens=_LONG_CHUNK)

    def most_scores(self, heads: int) -> int:
        """How many pairs of tokens may be held against each other at once, in fp32 by each head."""
        return self.attention_bytes // (4 * heads)

    @staticmethod
    def detect() -> "MachineLimits":
        """The limits of this machine and of the device that mlx computes on."""
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        info: dict[str, Any] = mx.device_info() if on_gpu else {}
        recommended = info.get("max_recommended_working_set_size")
        return MachineLimits.of_memory(memory_bytes, on_gpu, recommended)

    @staticmethod
    def of_memory(
        memory_bytes: int, on_gpu: bool, recommended_bytes: int | None = None
    ) -> "MachineLimits":
        """Limits of a machine with that much memory, of which Metal recommends to use a part.

        The rest of the machine keeps 4 GiB, or half of one smaller than 8 GiB. The CPU backend
        gets the small pieces of work that it can do in reasonable time.
        """
        working_set_bytes = memory_bytes - min(4 * GIB, memory_bytes // 2)
        if recommended_bytes is not None:
            working_set_bytes = min(working_set_bytes, recommended_bytes)
        return MachineLimits(
            memory_bytes=memory_bytes,
            working_set_bytes=working_set_bytes,
            buffer_cache_bytes=min(GIB, working_set_bytes // 8),
            prefill_chunk_tokens=_LONG_CHUNK if on_gpu else _SHORT_CHUNK,
            vision_piece_work=(100 if on_gpu else 4) * 10**9,
            state_bytes=working_set_bytes // 8,
            feature_bytes=working_set_bytes // 64,
            attention_bytes=min(GIB, working_set_bytes // 8),
        )
