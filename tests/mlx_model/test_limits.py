"""Limits follow the machine's memory and can be given instead."""

from dataclasses import replace

import pytest

from mlx_model.device_math import on_metal
from mlx_model.engine import Engine
from mlx_model.limits import GIB, MachineLimits
from tools.train_demo.tokenizer import DEMO_MODEL


def test_detected_limits_are_those_of_a_real_machine() -> None:
    limits = MachineLimits.detect()
    assert 0 < limits.working_set_bytes < limits.memory_bytes
    assert 0 < limits.buffer_cache_bytes <= GIB
    assert limits.max_context_tokens is None


@pytest.mark.parametrize(
    ("memory_gib", "recommended_gib", "working_set_gib"),
    [(8, 5.3, 4), (16, 10.7, 10.7), (64, 48, 48), (4, None, 2), (24, None, 20)],
)
def test_the_rest_of_the_machine_keeps_its_share(
    memory_gib: float, recommended_gib: float | None, working_set_gib: float
) -> None:
    recommended = None if recommended_gib is None else int(recommended_gib * GIB)
    limits = MachineLimits.of_memory(int(memory_gib * GIB), True, recommended)
    assert limits.working_set_bytes == int(working_set_gib * GIB)


def test_the_cpu_backend_gets_smaller_pieces() -> None:
    cpu = MachineLimits.of_memory(16 * GIB, on_gpu=False)
    gpu = MachineLimits.of_memory(16 * GIB, on_gpu=True, recommended_bytes=10 * GIB)
    assert cpu.prefill_chunk_tokens < gpu.prefill_chunk_tokens
    assert cpu.vision_piece_work < gpu.vision_piece_work


def test_a_small_model_is_read_in_long_pieces_by_any_device() -> None:
    cpu = MachineLimits.of_memory(16 * GIB, on_gpu=False)
    gpu = MachineLimits.of_memory(16 * GIB, on_gpu=True, recommended_bytes=10 * GIB)
    small = cpu.for_a_small_model()
    assert small == replace(cpu, prefill_chunk_tokens=gpu.prefill_chunk_tokens)
    assert Engine.load(DEMO_MODEL, cpu).limits == small or on_metal()
    asked_for = replace(cpu, prefill_chunk_tokens=16)
    assert Engine.load(DEMO_MODEL, asked_for).limits == asked_for


def test_scores_fit_what_they_may_take() -> None:
    limits = MachineLimits(16 * GIB, 12 * GIB, attention_bytes=GIB)
    assert limits.most_scores(heads=16) * 16 * 4 == GIB
    small = MachineLimits.of_memory(8 * GIB, on_gpu=True, recommended_bytes=5 * GIB)
    assert small.attention_bytes < GIB


def test_pieces_of_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        MachineLimits(8 * GIB, 4 * GIB, prefill_chunk_tokens=0)
    with pytest.raises(ValueError, match="or operation"):
        MachineLimits(8 * GIB, 4 * GIB, vision_piece_work=0)
