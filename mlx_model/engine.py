"""One loaded model that answers conversations, one reply at a time.

Owns the order of a reply: open the media, write the prompt, look, read, answer. It is a synchronous
generator of events; load it, use it and free it on one and the same thread. No other thread touches
mlx: the only one that a reply starts decodes a picture file.
"""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.answering import Answer, Steps, ThinkingBudget
from mlx_model.detokenizer import Detokenizer, TokenBytes
from mlx_model.events import Event, Finished, Notice, Progress, ReplyStats
from mlx_model.generation import PreparedPrompt, decode, prefill
from mlx_model.json_file import read_json
from mlx_model.limits import MachineLimits
from mlx_model.looking import MediaQueue, encode, read_media
from mlx_model.messages import ReplyRequest
from mlx_model.model import Model
from mlx_model.processor import Processor, load_processor
from mlx_model.prompt import Prompt
from mlx_model.reply_parser import ReplyParser
from mlx_model.sampling import Sampler
from mlx_model.weights import load_model


@dataclass(frozen=True, slots=True)
class ModelLabel:
    """What to call a model in front of people; `note` may be empty."""

    name: str
    note: str
    is_demo: bool


class Engine:
    """Answers conversations with one model.

    Attributes:
        model, processor: the loaded checkpoint.
        limits: the bounds it keeps to.
        name, note, is_demo: how the checkpoint wants to be presented.
    """

    def __init__(
        self, model: Model, processor: Processor, limits: MachineLimits, label: ModelLabel
    ) -> None:
        self.model = model
        self.processor = processor
        self.limits = limits
        self.name = label.name
        self.note = label.note
        self.is_demo = label.is_demo
        self._token_bytes = TokenBytes(processor.tokenizer)

    @classmethod
    def load(
        cls,
        path: str | Path,
        limits: MachineLimits | None = None,
        cancel: threading.Event | None = None,
    ) -> Self:
        """Load the checkpoint folder `path`; CheckpointError says what is wrong with it.

        `limits` are those of this machine unless given. Sets mlx's memory limits, which hold for
        the whole process. `cancel` may be set from any thread and is looked at before each tensor
        of the weights; LoadCancelledError then, and nothing of the model is kept.
        """
        limits = limits or MachineLimits.detect()
        mx.set_memory_limit(limits.working_set_bytes)
        mx.set_cache_limit(limits.buffer_cache_bytes)
        processor = load_processor(path)
        model = load_model(path, cancel=cancel)
        return cls(model, processor, limits, read_label(Path(path)))

    @property
    def max_context(self) -> int:
        """The most tokens that prompt and reply may have together."""
        own = self.model.config.max_context
        given = self.limits.max_context_tokens
        return own if given is None else min(own, given)

    def reply(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Answer `request`; the last event is Finished.

        `cancel` may be set from any thread and is looked at before each file, each piece of a
        picture or clip, each chunk of the prompt and each token. Raises MediaError or PromptError
        for what a person can put right.
        """
        return _Reply(self, request, cancel).events()

    def text_stream(self) -> Detokenizer:
        """A detokenizer for one reply; what it learns about tokens stays with the engine."""
        return Detokenizer(self._token_bytes)


class _Reply:
    """One reply in the making: what has been done so far, and when."""

    def __init__(self, engine: Engine, request: ReplyRequest, cancel: threading.Event) -> None:
        self._engine = engine
        self._request = request
        self._cancel = cancel
        self._media = MediaQueue()
        self._cache = engine.model.make_cache()
        self._prompt_tokens = 0
        self._reading_s = 0.0
        self._answer: Answer | None = None
        # Without a single token to think in, the template's own way of not thinking is better.
        settings = request.settings
        self._thinking = False if settings.thinking_budget == 0 else settings.thinking

    def events(self) -> Iterator[Event]:
        """Everything from opening the files to Finished."""
        self._started_s = time.perf_counter()
        mx.reset_peak_memory()
        try:
            reason = yield from self._steps()
        finally:
            mx.clear_cache()
        yield Finished(reason, self._stats())

    def _steps(self) -> Steps:
        engine, request, cancel = self._engine, self._request, self._cancel
        media = read_media(engine.processor, request.messages, request.settings, cancel)
        if media is None:
            return "cancelled"
        self._media = media
        for sentence in media.notices:
            yield Notice(sentence)
        prompt = self._write_prompt()
        self._prompt_tokens = prompt.input_ids.size
        if self._prompt_tokens >= engine.max_context:
            yield Notice(_too_long(self._prompt_tokens, engine.max_context))
            return "context_full"
        embeddings = yield from encode(
            engine.model, self._media, engine.limits.vision_piece_work, cancel
        )
        if cancel.is_set():
            return "cancelled"
        logits = yield from self._read(prompt, embeddings)
        if logits is None:
            return "cancelled"
        return (yield from self._write_answer(prompt, logits))

    def _write_prompt(self) -> Prompt:
        processor, request = self._engine.processor, self._request
        return write_prompt(processor, request, self._media, self._thinking)

    def _read(
        self, prompt: Prompt, embeddings: mx.array | None
    ) -> Generator[Progress, None, mx.array | None]:
        model = self._engine.model
        prepared = prepare(model, prompt, self._media, embeddings)
        started_s = time.perf_counter()
        logits = yield from prefill(
            model, self._cache, prepared, self._engine.limits.prefill_chunk_tokens, self._cancel
        )
        self._reading_s = time.perf_counter() - started_s
        return logits

    def _write_answer(self, prompt: Prompt, logits: mx.array) -> Steps:
        engine, settings = self._engine, self._request.settings
        processor = engine.processor
        tokens = decode(
            engine.model,
            self._cache,
            logits,
            Sampler(settings, processor.vocab_size_used, _text_ids(prompt)),
            processor.stop_token_ids,
            settings.max_tokens,
            engine.max_context,
            self._cancel,
        )
        parser = ReplyParser(prompt.thinking, processor.think_ids, settings.stop)
        budget = ThinkingBudget(settings.thinking_budget, processor.tokenizer)
        self._answer = Answer(tokens, engine.text_stream(), parser, budget)
        return (yield from self._answer.events())

    def _stats(self) -> ReplyStats:
        read_tokens = min(self._cache.length, self._prompt_tokens)
        generated = self._answer.generated_tokens if self._answer else 0
        times_s = self._answer.token_times_s if self._answer else None
        first_s, latest_s = times_s or (0.0, 0.0)
        return ReplyStats(
            prompt_tokens=self._prompt_tokens,
            read_tokens=read_tokens,
            encoded_patches=self._media.encoded_patches,
            generated_tokens=generated,
            time_to_first_token_s=max(0.0, first_s - self._started_s),
            prefill_tokens_per_s=_rate(read_tokens, self._reading_s),
            decode_tokens_per_s=_rate(generated - 1, latest_s - first_s),
            peak_memory_bytes=mx.get_peak_memory(),
        )


def write_prompt(
    processor: Processor, request: ReplyRequest, media: MediaQueue, thinking: bool | None
) -> Prompt:
    """The conversation of `request` as token ids, with room for the media that it shows."""
    return processor.prompt(
        request.messages,
        thinking=thinking,
        tools=request.tools,
        image_grids=[grid[0] for grid in media.image_grids],
        video_grids=[grid[0] for grid in media.video_grids],
        video_times=media.video_times_s,
    )


def prepare(
    model: Model, prompt: Prompt, media: MediaQueue, embeddings: mx.array | None
) -> PreparedPrompt:
    """The prompt with its positions, and with what was encoded of its media."""
    position_ids, _ = model.position_ids(
        prompt.input_ids, _stacked(media.image_grids), _stacked(media.video_grids)
    )
    spans = [(span.start, span.stop) for span in prompt.media]
    return PreparedPrompt(prompt.input_ids, position_ids, spans, embeddings)


def _text_ids(prompt: Prompt) -> NDArray[np.int64]:
    """The ids of the prompt without the placeholders of its media."""
    media = [np.arange(span.start, span.stop) for span in prompt.media]
    return np.delete(prompt.input_ids, np.concatenate(media)) if media else prompt.input_ids


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0


def _stacked(grids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    return np.concatenate(grids) if grids else None


def _too_long(prompt_tokens: int, max_context: int) -> str:
    return (
        f"The conversation takes {prompt_tokens:,} tokens, and this model has room for "
        f"{max_context:,} with the reply. Start a new chat, or send fewer pictures, shorter clips "
        "or less text."
    )


def read_label(path: Path) -> ModelLabel:
    """How the checkpoint in `path` wants to be presented: config.json may say, else its folder."""
    try:
        config = read_json(path / "config.json")
    except (OSError, ValueError):
        config = None
    own = config.get("fireside") if isinstance(config, dict) else None
    if isinstance(own, dict) and own.get("name"):
        return ModelLabel(str(own["name"]), str(own.get("note", "")), is_demo=True)
    folder = path.absolute()
    if folder.parent.name == "snapshots":  # Hugging Face cache: models--Org--Name/snapshots/hash
        return ModelLabel(folder.parent.parent.name.rpartition("--")[2], "", is_demo=False)
    return ModelLabel(folder.name, "", is_demo=False)
