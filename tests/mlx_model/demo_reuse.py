"""The demo model in conversations whose work is counted, warm and cold; for several tests."""

import threading
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_model.engine import Engine, ModelLabel, write_prompt
from mlx_model.events import Event, Finished, Prepared, ReplyStats, TextDelta
from mlx_model.limits import GIB, MachineLimits
from mlx_model.looking import read_media
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)
from mlx_model.reading import Memory, Reading
from mlx_model.state.disk_memory import DiskMemory
from tests.mlx_model.counted_work import counted

ASSETS = Path(__file__).parents[2] / "assets"
DEMO = ASSETS / "demo_model"
PICTURE = ImagePart(ASSETS / "samples" / "shapes.png")
CLIP = VideoPart(ASSETS / "samples" / "clip.mp4")
SYSTEM = Message.text("system", "You know shapes. Answer in one short sentence, please.")
LIMITS = MachineLimits(8 * GIB, 4 * GIB, prefill_chunk_tokens=16, vision_piece_work=10**9)
NEVER = threading.Event()
FIRST_WORDS = "What is this?"


def fresh(loaded: Engine, limits: MachineLimits = LIMITS, disk: DiskMemory | None = None) -> Engine:
    """The same model with nothing read yet, but for what is on the disk."""
    label = ModelLabel(loaded.name, loaded.note, loaded.is_demo)
    engine = Engine(loaded.model, loaded.processor, limits, label)
    if disk is not None:
        engine.memory.outlive(disk)
    return engine


def user(*parts: Part | str) -> Message:
    return Message(
        "user", tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    )


def request_of(*messages: Message, **settings: object) -> ReplyRequest:
    return ReplyRequest(messages, ReplySettings(**{"max_tokens": 16, **settings}))  # type: ignore[arg-type]


class Said:
    """What a reply said, and what it took."""

    def __init__(self, engine: Engine, request: ReplyRequest) -> None:
        with counted() as work:
            events = list(engine.reply(request, NEVER))
        finished = events[-1]
        assert isinstance(finished, Finished)
        self.text = "".join(event.text for event in events if isinstance(event, TextDelta))
        self.stats: ReplyStats = finished.stats
        self.read = work.read(self.stats.prompt_tokens)
        self.patches = work.patches
        assert self.read == self.stats.read_tokens
        assert self.patches == self.stats.encoded_patches
        assert self.read + self.stats.reused_tokens == self.stats.prompt_tokens


def ask(engine: Engine, *messages: Message) -> Said:
    return Said(engine, request_of(*messages))


def prepared(events: Iterator[Event]) -> Prepared:
    *_, last = events
    assert isinstance(last, Prepared)
    return last


def logits_of(engine: Engine, memory: Memory, request: ReplyRequest) -> tuple[mx.array, Reading]:
    """What the model predicts after the prompt of `request`, given what `memory` holds."""
    media = read_media(engine.processor, request.messages, request.settings, NEVER, memory.media)
    assert media is not None
    prompt = write_prompt(engine.processor, request, media, request.settings.thinking)
    reading = Reading(engine.model, memory, engine.limits, NEVER)
    steps = reading.steps(prompt, media)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, reading


def cold_logits(engine: Engine, request: ReplyRequest) -> mx.array:
    return logits_of(engine, Memory(engine.model, engine.limits), request)[0]


def assert_as_if_cold(engine: Engine, request: ReplyRequest) -> Reading:
    """Logits, rows and states are bit for bit those of a cold reading."""
    warm, reading = logits_of(engine, engine.memory, request)
    wanted, cold = logits_of(engine, Memory(engine.model, engine.limits), request)
    np.testing.assert_array_equal(warm, wanted)
    found, wanted_state = reading.cache.checkpoint(), cold.cache.checkpoint()
    assert found.length == wanted_state.length
    assert found.next_position == wanted_state.next_position
    assert found.last_position == wanted_state.last_position
    rows, wanted_rows = (one.cache.copy_rows(0, found.length) for one in (reading, cold))
    assert rows.bits == wanted_rows.bits == 32
    pairs = zip(
        [*rows.layers, *found.states], [*wanted_rows.layers, *wanted_state.states], strict=True
    )
    for one, other in pairs:
        for array, expected in zip(one, other, strict=True):
            assert (array is None) == (expected is None)
            if array is not None and expected is not None:
                np.testing.assert_array_equal(array, expected)
    return reading
