"""One loaded model that answers conversations, one reply at a time.

Owns the order of a reply: open the media, write the prompt, look, read, answer; and what is read
ahead of one. Both are synchronous generators of events; load the engine, use it and free it on one
and the same thread. No other thread touches mlx: those that it starts read and decode media, or
write files of states.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.answering import Answer, Steps, ThinkingBudget
from mlx_model.detokenizer import Detokenizer, TokenBytes
from mlx_model.draft_head import DraftHead
from mlx_model.draft_policy import DraftPolicy, FixedDrafts, MeasuredDrafts
from mlx_model.draft_weights import load_draft_head
from mlx_model.drafting import DraftedSteps
from mlx_model.errors import CheckpointError
from mlx_model.events import (
    Event,
    Finished,
    FinishReason,
    Notice,
    Prepared,
    ReplyStats,
    TextDelta,
    ThinkingDelta,
)
from mlx_model.generation import Tokens, decode
from mlx_model.json_file import read_json
from mlx_model.limits import MachineLimits
from mlx_model.looking import MediaQueue, read_media
from mlx_model.messages import Message, ReplyRequest, TextPart
from mlx_model.model import Model
from mlx_model.processor import Processor, load_processor
from mlx_model.prompt import Prompt
from mlx_model.reading import Memory, Reading
from mlx_model.reply_parser import ReplyParser
from mlx_model.sampling import Sampler
from mlx_model.spare_power import Leave, SparePower
from mlx_model.state.disk_memory import DiskMemory, model_key
from mlx_model.unpacking import unpack_small
from mlx_model.weights import load_model

_log = logging.getLogger("fireside.engine")

# So many answered conversations wait for idle time; one is the rule.
_MOST_ANSWERED = 4


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
        memory: what was read and seen, so that it is not read and looked at again.
        has_spare_power: whether work that nobody waits for may be done now.
        name, note, is_demo: how the checkpoint wants to be presented.
        drafts: what was learnt so far of how many drafts pay.
    """

    def __init__(
        self,
        model: Model,
        processor: Processor,
        limits: MachineLimits,
        label: ModelLabel,
    ) -> None:
        self.model = model
        self.processor = processor
        self.limits = limits
        self.name = label.name
        self.note = label.note
        self.is_demo = label.is_demo
        self.memory = Memory(model, limits)
        self.has_spare_power: Callable[[], bool] = SparePower()
        self.drafts = MeasuredDrafts(limits.max_drafts)
        self._token_bytes = TokenBytes(processor.tokenizer)
        # Answered conversations until their next form has been read, the latest last.
        self._answered: list[ReplyRequest] = []
        self._running: weakref.ref[Generator[Event, None, None]] | None = None

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
        model.mtp = _draft_head(path)
        if unpack_small(model):
            limits = limits.for_a_small_model()
        return cls(model, processor, limits, read_label(Path(path)))

    @property
    def max_context(self) -> int:
        """The most tokens that prompt and reply may have together."""
        own = self.model.config.max_context
        given = self.limits.max_context_tokens
        return own if given is None else min(own, given)

    def reply(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Answer `request`; the last event is Finished.

        What it begins with and has been read before, for whatever request, is not read again. An
        earlier reply that was left unfinished ends here. `cancel` may be set from any thread and
        is looked at before each file, each piece of a picture or clip, each chunk of the prompt
        and each token. Raises MediaError or PromptError for what a person can put right.
        """
        self._answered = [
            one for one in self._answered if not _begins_with(request, one.messages[:-1])
        ]
        return self._begun(_Reply(self, request, cancel).events())

    def prepare(self, request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        """Read ahead a conversation whose last message is still being written.

        That is everything up to the message's last picture or clip, for its words behind that may
        still change. The last event is Prepared; `cancel` and errors as in `reply`. It also stops,
        between two chunks, when the machine has no strength to spare.
        """
        return self._begun(self._read_ahead(request, Leave(cancel, self.has_spare_power)))

    def catch_up(self, cancel: threading.Event) -> Iterator[Event]:
        """Read an answered conversation in the form that its next prompt will have.

        The one that has waited longest. Templates drop the thinking of earlier answers, so that
        what the model has written does not stand in the next prompt. Meant for idle time. The last
        event is Prepared, and the only one when there is nothing to do; `cancel` and errors as in
        `prepare`.
        """
        return self._begun(self._caught_up(Leave(cancel, self.has_spare_power)))

    def remember_on_disk(self, folder: Path, root: Path) -> None:
        """From now on what is read outlives the program, in `root`, which all models share.

        `folder` is where the checkpoint was loaded from.
        """
        if self.limits.disk_bytes:
            key = model_key(folder, with_drafts=self.model.mtp is not None)
            self.memory.outlive(DiskMemory(root, key, self.limits.disk_bytes))

    def idle(self, cancel: threading.Event) -> Iterator[Event]:
        """All that is worth doing while nobody waits: `catch_up`, then `put_away`, with each."""
        while True:
            waiting = len(self._answered)
            catching_up = self.catch_up(cancel)
            yield from catching_up
            if self._running is None or self._running() is not catching_up:
                return  # something else has begun meanwhile
            if not self.put_away(Leave(cancel, self.has_spare_power)):
                return
            if not self._answered or len(self._answered) == waiting:
                return

    def warm_up(self, cancel: threading.Event) -> None:
        """Make the steps of later replies faster, once and for all.

        Meant for a time when the person seems to be away: it looks at `cancel`, but where a C++
        compiler has to make kernels it may take some seconds to give way.
        """
        self.model.warm_up(Leave(cancel, self.has_spare_power), self.limits.max_drafts)

    def put_away(self, cancel: threading.Event) -> bool:
        """Have the states of the latest conversation written to the disk; False if stopped.

        Waits for all of it but the last piece, which `close` waits for.
        """
        self._begun(None)
        return self.memory.put_away(cancel)

    def close(self, limit_s: float) -> None:
        """Put away what is not on the disk yet, as far as that goes within `limit_s`."""
        deadline_s = time.monotonic() + limit_s
        cancel = threading.Event()
        timer = threading.Timer(limit_s, cancel.set)
        timer.start()
        try:
            self.put_away(cancel)
        finally:
            timer.cancel()
        if self.memory.disk is not None:
            self.memory.disk.close(max(0.0, deadline_s - time.monotonic()))

    def forget(self) -> None:
        """Let go of all that was read and seen, as if the model had just been loaded."""
        self._begun(None)
        self._answered = []
        self.memory.clear()

    def note_answer(self, request: ReplyRequest, answer: str, thinking: str) -> None:
        """Remember what `catch_up` has to read."""
        message = Message("assistant", (TextPart(answer),), reasoning=thinking or None)
        answered = replace(request, messages=(*request.messages, message))
        self._answered = [*self._answered, answered][-_MOST_ANSWERED:]

    def _begun(self, steps: Generator[Event, None, None] | None) -> Iterator[Event]:
        """`steps`, which may use the sequences from now on; those before it may not any more."""
        running = None if self._running is None else self._running()
        if running is not None:
            running.close()
        self._running = None if steps is None else weakref.ref(steps)
        return steps or iter(())

    def _caught_up(self, cancel: threading.Event) -> Generator[Event, None, None]:
        if not self._answered:
            yield Prepared(0, 0, 0, 0, is_complete=True)
            return
        waiting = self._answered[0]
        try:
            yield from self._read_ahead(waiting, cancel)
        except Exception:  # it would block those behind it
            self._answered = [one for one in self._answered if one is not waiting]
            raise

    def _read_ahead(
        self, request: ReplyRequest, cancel: threading.Event
    ) -> Generator[Event, None, None]:
        messages, settings = request.messages, request.settings
        if not messages or messages[-1].role != "user":
            messages = (*messages, Message("user", ()))
        media = read_media(self.processor, messages, settings, cancel, self.memory.media)
        if media is None:
            yield Prepared(0, 0, 0, 0, is_complete=False)
            return
        prompt = self.processor.prompt_beginning(
            messages,
            tools=request.tools,
            image_grids=[grid[0] for grid in media.image_grids],
            video_grids=[grid[0] for grid in media.video_grids],
            video_times=media.video_times_s,
        )
        reading, logits = Reading(self.model, self.memory, self.limits, cancel), None
        fits = 0 < prompt.input_ids.size < self.max_context
        try:
            if fits:
                logits = yield from reading.steps(prompt, media)
        finally:
            mx.clear_cache()
        if logits is not None or not fits:
            # With this, the answers in it have the form that they will have.
            self._answered = [
                one for one in self._answered if not _begins_with(request, one.messages)
            ]
        yield Prepared(
            reading.reused_tokens + reading.read_tokens,
            reading.reused_tokens,
            reading.read_tokens,
            media.encoded_patches,
            is_complete=logits is not None,
        )

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
        self._reading = Reading(engine.model, engine.memory, engine.limits, cancel)
        self._prompt_tokens = 0
        self._answer: Answer | None = None
        self._drafted: DraftedSteps | None = None
        # Without a single token to think in, the template's own way of not thinking is better.
        settings = request.settings
        self._thinking = False if settings.thinking_budget == 0 else settings.thinking

    def events(self) -> Generator[Event, None, None]:
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
        media = read_media(
            engine.processor, request.messages, request.settings, cancel, engine.memory.media
        )
        if media is None:
            return "cancelled"
        self._media = media
        for sentence in media.notices:
            yield Notice(sentence)
        prompt = write_prompt(engine.processor, request, media, self._thinking)
        if cancel.is_set():  # a text of millions of characters takes its time
            return "cancelled"
        self._prompt_tokens = prompt.input_ids.size
        if self._prompt_tokens >= engine.max_context:
            yield Notice(_too_long(self._prompt_tokens, engine.max_context))
            return "context_full"
        logits = yield from self._reading.steps(prompt, media)
        if logits is None:
            return "cancelled"
        return (yield from self._write_answer(prompt, logits))

    def _write_answer(self, prompt: Prompt, logits: mx.array) -> Steps:
        engine, settings = self._engine, self._request.settings
        processor = engine.processor
        sampler = Sampler(settings, processor.vocab_size_used, _text_ids(prompt))
        if engine.model.mtp is not None:
            policy: DraftPolicy = engine.drafts
            if settings.drafts is not None:
                policy = FixedDrafts(min(settings.drafts, engine.limits.max_drafts))
            self._drafted = DraftedSteps(engine.model, self._reading.cache, sampler, policy)
        tokens = decode(
            engine.model,
            self._reading.cache,
            logits,
            sampler,
            processor.stop_token_ids,
            settings.max_tokens,
            engine.max_context,
            self._cancel,
            self._drafted,
        )
        parser = ReplyParser(prompt.thinking, processor.think_ids, settings.stop)
        budget = ThinkingBudget(settings.thinking_budget, processor.tokenizer)
        said: list[int] = []
        self._answer = Answer(_noted(tokens, said), engine.text_stream(), parser, budget)
        shown: dict[type, str] = {TextDelta: "", ThinkingDelta: ""}
        steps = self._answer.events()
        try:
            while True:
                event = next(steps)
                if isinstance(event, TextDelta | ThinkingDelta):
                    shown[type(event)] += event.text
                yield event
        except StopIteration as end:
            reason: FinishReason = end.value
        finally:
            steps.close()
            self._reading.go_on(said)
        # A call of a tool that was offered stays as written until the person's next question.
        is_call = bool(self._request.tools) and processor.tool_call_id in said
        if shown[TextDelta] and not is_call:
            engine.note_answer(self._request, shown[TextDelta], shown[ThinkingDelta])
        return reason

    def _stats(self) -> ReplyStats:
        reading = self._reading
        generated = self._answer.generated_tokens if self._answer else 0
        times_s = self._answer.token_times_s if self._answer else None
        first_s, latest_s = times_s or (0.0, 0.0)
        drafted = self._drafted
        return ReplyStats(
            prompt_tokens=self._prompt_tokens,
            reused_tokens=reading.reused_tokens,
            read_tokens=reading.read_tokens,
            encoded_patches=self._media.encoded_patches,
            generated_tokens=generated,
            time_to_first_token_s=max(0.0, first_s - self._started_s),
            prefill_tokens_per_s=_rate(reading.read_tokens, reading.seconds),
            decode_tokens_per_s=_rate(generated - 1, latest_s - first_s),
            drafted_tokens=drafted.count.made if drafted else 0,
            accepted_drafts=drafted.count.right if drafted else 0,
            drafting=drafted is not None and drafted.on,
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


def _noted(tokens: Tokens, said: list[int]) -> Tokens:
    """The same tokens, each put into `said` on its way, as are those that are sent in return."""
    sent: Sequence[int] | None = None
    try:
        while True:
            try:
                token_id = tokens.send(sent)
            except StopIteration as end:
                reason: FinishReason = end.value
                return reason
            said.append(token_id)
            sent = yield token_id
            said.extend(sent or ())
    finally:
        tokens.close()


def _draft_head(path: str | Path) -> DraftHead | None:
    """The draft head of a checkpoint, if it has a sound one: it only ever saves time."""
    try:
        return load_draft_head(path)
    except CheckpointError as error:
        _log.warning("answers come without drafts: %s", error)
        return None


def _begins_with(request: ReplyRequest, known: tuple[Message, ...]) -> bool:
    """Whether a conversation begins so, whatever it has kept of the thoughts before answers."""
    pairs = zip(request.messages, known, strict=False)
    return len(request.messages) >= len(known) and all(
        replace(one, reasoning=None) == replace(other, reasoning=None) for one, other in pairs
    )


def _text_ids(prompt: Prompt) -> NDArray[np.int64]:
    """The ids of the prompt without the placeholders of its media."""
    media = [np.arange(span.start, span.stop) for span in prompt.media]
    return np.delete(prompt.input_ids, np.concatenate(media)) if media else prompt.input_ids


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0


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
