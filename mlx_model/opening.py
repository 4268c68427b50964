"""Opens a checkpoint for use: does it fit, does it load, is it in its right mind.

Owns the order of the three. Call it where the model is to be used: it loads on the calling thread.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import mlx.core as mx

from mlx_model.cache_folder import cache_folder
from mlx_model.check_record import CheckRecords
from mlx_model.config import load_config
from mlx_model.device_math import on_metal
from mlx_model.engine import Engine, read_label
from mlx_model.errors import SelfCheckError, TooLargeError
from mlx_model.free_memory import free_memory_bytes
from mlx_model.layouts import Source, draft_head_sources, parameter_sources
from mlx_model.library.fit import Fit, check_fit
from mlx_model.library.memory_needs import memory_needs
from mlx_model.limits import GIB, MachineLimits
from mlx_model.self_check import check_once
from mlx_model.tensor_files import TensorInfo, find_tensors

_log = logging.getLogger("fireside.opening")

# What is kept of conversations where a model leaves no room for more: two states of the 9B.
_LEAST_STATE_BYTES = GIB // 8

# Where what was read outlives the program.
_STATES = "states"

OpeningStage = Literal["loading", "checking"]
# (stage, done, total); total is 0 while nobody knows.
OnOpening = Callable[[OpeningStage, int, int], None]


def _tell_nobody(_stage: OpeningStage, _done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine that is ready, how its model fits, and whether it had to be checked for that."""

    engine: Engine
    fit: Fit
    checked: bool


def open_engine(
    path: str | Path,
    limits: MachineLimits | None = None,
    cancel: threading.Event | None = None,
    on_progress: OnOpening = _tell_nobody,
    despite_size: bool = False,
    despite_check: bool = False,
    check_again: bool = False,
) -> Opened:
    """Load the checkpoint folder `path` and make sure that it works; what a person opens goes here.

    `despite_size` opens a model that is too large for this machine, `despite_check` one that fails
    its self-check, which its note then says; either is logged. A model that fits tightly gets a
    shorter context, and its note says so. `check_again` repeats a self-check that was passed.
    Raises TooLargeError, SelfCheckError or another CheckpointError, and LoadCancelledError soon
    after `cancel` is set from any thread.
    """
    folder = Path(path)
    limits, cancel = limits or MachineLimits.detect(), cancel or threading.Event()
    on_progress("loading", 0, 0)
    mx.clear_cache()  # of a model that was open before
    fit = fit_of(folder, limits)
    if fit.verdict == "too large":
        sentence = f"{read_label(folder).name} is too large for this machine. {fit.sentence}"
        if not despite_size:
            raise TooLargeError(sentence)
        _log.warning("opened all the same: %s", sentence)
    if fit.verdict == "tight":
        limits = replace(limits, max_context_tokens=_fewer(limits.max_context_tokens, fit.tokens))
    spare_bytes = max(fit.allowed_bytes - fit.needed_bytes, _LEAST_STATE_BYTES)
    limits = replace(limits, state_bytes=min(limits.state_bytes, spare_bytes))
    engine = Engine.load(folder, limits, cancel)
    if fit.verdict == "tight":
        engine.note = _joined(engine.note, f"chats of up to {fit.tokens:,} tokens")
    records = CheckRecords(cache_folder())

    def on_check(done: int, total: int) -> None:
        on_progress("checking", done, total)

    try:
        checked = check_once(engine, folder, records, cancel, on_check, check_again)
    except SelfCheckError as error:
        if not despite_check:
            raise
        _log.warning("opened all the same: %s", error)
        engine.note = _joined(engine.note, "failed its self-check")
        checked = True
    finally:
        mx.clear_cache()
    engine.remember_on_disk(folder, cache_folder() / _STATES)  # the check reads everything anew
    return Opened(engine, fit, checked)


def fit_of(folder: Path, limits: MachineLimits) -> Fit:
    """How the checkpoint in `folder` fits this machine as it is now, from its headers alone."""
    config = load_config(folder)
    element_bytes = 2 if on_metal() else 4
    tensors = find_tensors(folder)
    head = draft_head_sources(config, tensors) or {}
    sources = [*parameter_sources(config, tensors).values(), *head.values()]
    weights_bytes = _loaded_bytes(sources, tensors, element_bytes)
    needs = memory_needs(config.text, weights_bytes, element_bytes, draft_head=bool(head))
    return check_fit(needs, limits.working_set_bytes, free_memory_bytes(), config.max_context)


def _loaded_bytes(
    sources: Sequence[Source], tensors: Mapping[str, TensorInfo], element_bytes: int
) -> int:
    """What the weights take once they are loaded; packed matrices stay packed.

    What a small model takes more because it is unpacked is within the reserve for everything else.
    The few tensors that are fp32 whatever the model computes in are below a thousandth of it.
    """
    names = {name for source in sources for name in source.tensors}
    infos = [tensors[name] for name in names if name in tensors]
    return sum(
        math.prod(info.shape) * (4 if info.dtype == "U32" else element_bytes) for info in infos
    )


def _joined(note: str, more: str) -> str:
    return f"{note}, {more}" if note else more


def _fewer(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)
