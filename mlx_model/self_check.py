"""Whether a loaded model is in its right mind, before anybody is told what it says.

Made on the first load of a checkpoint and after every change of its files, this program or mlx;
after a check that was passed, a later start only finds the record. A fixed picture, a fixed clip
and a fixed chat go through the model. It passes if

- every number is finite: what the vision tower makes of picture and clip, and all predictions;
- the model's part of a fixed chat of plain sentences surprises it less than a quarter as much as
  it would somebody who guesses: below 3.1 nats a token for a real vocabulary, whose guesses cost
  12.4. A working model stays well below that; one that was converted wrongly is mostly guessing;
- its answer about picture and clip is text, and not the same few words over and over;
- its predictions are what they were when it first passed, up to rounding;
- and, for a model that brings `self_check.json` (the demo model), it answers the questions there
  with the words that must be in the answers.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.check_record import CheckRecord, CheckRecords, Passed, Predictions
from mlx_model.companion_files import OWN_QUESTIONS, OWN_TEXT
from mlx_model.compare import chat
from mlx_model.engine import Engine, write_prompt
from mlx_model.errors import CheckpointError, SelfCheckError
from mlx_model.events import TextDelta
from mlx_model.fingerprint import checkpoint_identity, files_stamp, program_version
from mlx_model.generation import decode, prefill
from mlx_model.json_file import read_json
from mlx_model.looking import encode, read_media
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)
from mlx_model.reading import prepare
from mlx_model.sampling import Sampler
from mlx_model.weights import LoadCancelledError

SAMPLES = Path(__file__).resolve().parent.parent / "assets" / "samples"
PICTURE, CLIP = SAMPLES / "shapes.png", SAMPLES / "clip.mp4"
TEXT = """\
What is the capital of France?

The capital of France is Paris.

Which days does a week have?

Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.

Count from one to ten.

one, two, three, four, five, six, seven, eight, nine, ten

Thank you."""
QUESTION = "What do you see?"

# As small as a real model lets pictures be: the check is to see that it works, not how well.
_SETTINGS = ReplySettings(max_tokens=24, max_image_tokens=64, video_fps=1.0, max_frames=4)
_OWN_PARAGRAPHS = 7
_FEWEST_PARAGRAPHS = 3
_OWN_CHARACTERS = 20_000
_LIKELIEST = 64
# In nats. Rounding to 16 bits in another order moves predictions by some hundredths, a wrong
# kernel by whole nats.
_TOLERANCE_NATS = 0.15

# Every row of predictions takes a megabyte with a real vocabulary.
_CHUNK_TOKENS = 64
# How often a working model says each token of a short answer, on average, at the very most.
_REPETITIONS = 6

OnProgress = Callable[[int, int], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OwnQuestion:
    """A question about one of the samples or none, and words that its answer has, in this order."""

    question: str
    says: tuple[str, ...]
    about: Path | None


def check_once(
    engine: Engine,
    folder: Path,
    records: CheckRecords,
    cancel: threading.Event,
    on_progress: OnProgress = lambda done, total: None,
    again: bool = False,
) -> bool:
    """Check the engine's model, which was loaded from `folder`, unless it passed as it is now.

    True if it was checked, False if there is a record; `again` checks in any case. `on_progress`
    is told steps. SelfCheckError says what is wrong; LoadCancelledError soon after `cancel` is set.
    """
    identity, device = checkpoint_identity(folder), device_name()
    passed = Passed(files_stamp(folder), program_version(), mlx_version())
    record = records.read(identity, device)
    if record is not None and record.passed == passed and not again:
        return False
    said = _Check(engine, folder, cancel, on_progress).run()
    # What was said to other inputs, of an older version of the program, tells nothing.
    kept = record.said.items() if record is not None else ()
    earlier = {mlx: then for mlx, then in kept if then.inputs == said.inputs}
    reference = CheckRecord(passed, earlier).reference(passed.mlx)
    if reference is not None:
        compare_predictions(engine.name, reference[1], said, reference[0], passed.mlx)
    records.write(identity, device, CheckRecord(passed, {passed.mlx: said} | earlier))
    return True


def mlx_version() -> str:
    """Such as "0.32.4"; asked of mlx itself, which a bundled app has without its metadata."""
    return str(getattr(mx, "__version__", "unknown"))  # which its type stubs leave out


def device_name() -> str:
    """What mlx computes on, such as "Apple M1"."""
    device = mx.default_device()
    info: dict[str, Any] = mx.device_info() if device.type == mx.DeviceType.gpu else {}
    return str(info.get("device_name", "CPU"))


def compare_predictions(
    name: str, then: Predictions, now: Predictions, mlx_then: str, mlx_now: str
) -> None:
    """SelfCheckError if a model no longer predicts what it did when it first passed."""
    if differ(then, now) <= _TOLERANCE_NATS:
        return
    versions = (
        f"with MLX {mlx_then}" if mlx_then == mlx_now else f"MLX {mlx_then} then, {mlx_now} now"
    )
    raise SelfCheckError(
        f"{name} failed its self-check: it no longer predicts what it did when it first passed "
        f"({versions}). Download the model again; if that changes nothing, go back to the version "
        "of the program that worked, and report it."
    )


def differ(then: Predictions, now: Predictions) -> float:
    """How far two predictions of the same model are apart, in nats; infinite if not comparable."""
    if len(then.surprises) != len(now.surprises):
        return math.inf
    pairs = zip(then.surprises, now.surprises, strict=True)
    apart = float(np.mean([abs(a - b) for a, b in pairs]))
    # KL over the tokens that were likely then; all others count as one.
    unlisted = _rest(now.likeliest.values())
    unknown = min(unlisted, *now.likeliest.values(), 0.0)
    other = [now.likeliest.get(token, unknown) for token in then.likeliest]
    likely = zip(then.likeliest.values(), other, strict=True)
    divergence = sum(math.exp(p) * (p - q) for p, q in likely)
    rest_then = _rest(then.likeliest.values())
    divergence += math.exp(rest_then) * (rest_then - _rest(other))
    return max(apart, divergence)


def _rest(log_probabilities: Iterable[float]) -> float:
    """The log-probability of everything but these; never quite impossible."""
    return math.log(max(1e-9, 1.0 - sum(map(math.exp, log_probabilities))))


def own_questions(folder: Path) -> list[OwnQuestion]:
    """The questions that the checkpoint brings along; CheckpointError if they are damaged."""
    file = folder / OWN_QUESTIONS
    if not file.exists():
        return []
    media = {"picture": PICTURE, "clip": CLIP, None: None}
    try:
        return [
            OwnQuestion(
                str(entry["question"]), tuple(map(str, entry["says"])), media[entry.get("about")]
            )
            for entry in read_json(file)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(file) from error


def _unreadable(file: Path) -> CheckpointError:
    return CheckpointError(f"The file {file} cannot be read. Download the model again.")


def has_words(answer: str, says: Sequence[str]) -> bool:
    """True when the answer has all the words, in this order."""
    rest = answer.casefold()
    for words in says:
        _, found, rest = rest.partition(words.casefold())
        if not found:
            return False
    return True


class _Check:
    """One check in the making: the engine, and how far it has come."""

    def __init__(
        self, engine: Engine, folder: Path, cancel: threading.Event, on_progress: OnProgress
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._cancel = cancel
        self._on_progress = on_progress
        self._questions = own_questions(folder)
        self._steps = 3 + len(self._questions)
        self._done = 0
        self._asked = hashlib.sha256()

    def run(self) -> Predictions:
        """Everything, and all of it cold; SelfCheckError for the first thing that is wrong."""
        self._on_progress(0, self._steps)
        surprises = self._read_chat()
        likeliest = self._look_and_answer()
        for question in self._questions:
            self._ask(question)
        self._engine.forget()
        return Predictions(surprises, likeliest, self._asked.hexdigest())

    def _step(self) -> None:
        if self._cancel.is_set():
            raise LoadCancelledError
        self._done += 1
        self._on_progress(self._done, self._steps)

    def _fail(self, finding: str, remedy: str) -> SelfCheckError:
        return SelfCheckError(f"{self._engine.name} failed its self-check: {finding}. {remedy}")

    def _need_finite(self, array: mx.array, what: str) -> None:
        if not mx.all(mx.isfinite(array)).item():
            raise self._fail(
                f"{what} has numbers that are none",
                "Download the model again, or choose another version of it.",
            )

    def _read_chat(self) -> tuple[float, ...]:
        """The surprises of the words that the fixed chat's answers consist of."""
        processor = self._engine.processor
        prompt = processor.prompt(chat(self._text()))
        ids = prompt.input_ids
        self._asked.update(ids.tobytes())
        surprises = self._surprises(ids)
        self._need_finite(surprises, "what it predicts")
        places = _answer_places(prompt.turn_starts, ids, processor.stop_token_ids)
        told = tuple(np.array(surprises)[places - 1].tolist())
        mean, guessing = float(np.mean(told)), math.log(processor.vocab_size_used)
        if mean > guessing / 4:
            raise self._fail(
                f"it finds plain sentences unlikely ({mean:.1f} nats a word, where guessing costs "
                f"{guessing:.1f}), as happens when a model was converted wrongly",
                "Choose the published model, which Fireside converts itself, or download it again.",
            )
        self._step()
        return told

    def _surprises(self, ids: NDArray[np.int64]) -> mx.array:
        """How much each token surprised after those before it: [T - 1], from the second on."""
        engine = self._engine
        used = engine.processor.vocab_size_used
        cache = engine.model.make_cache()
        surprises: list[mx.array] = []
        for start in range(0, ids.size - 1, _CHUNK_TOKENS):
            if self._cancel.is_set():
                raise LoadCancelledError
            stop = min(start + _CHUNK_TOKENS, ids.size - 1)
            logits = engine.model(ids[None, start:stop], cache=cache)[0, :, :used]
            exact = logits.astype(mx.float32)
            came = mx.array(ids[start + 1 : stop + 1])[:, None]
            likely = mx.take_along_axis(exact, came, axis=-1)[:, 0]
            surprises.append(mx.logsumexp(exact, axis=-1) - likely)
            mx.eval(surprises, cache.arrays())
        return mx.concatenate(surprises)

    def _text(self) -> str:
        own = self._folder / OWN_TEXT
        if not own.exists():
            return TEXT
        try:
            with own.open(encoding="utf-8") as stream:
                text = stream.read(_OWN_CHARACTERS)
        except (OSError, ValueError) as error:
            raise _unreadable(own) from error
        paragraphs = [part for part in map(str.strip, text.split("\n\n")) if part]
        count = min(_OWN_PARAGRAPHS, len(paragraphs) - 1 + len(paragraphs) % 2)
        if count < _FEWEST_PARAGRAPHS:
            raise _unreadable(own)
        return "\n\n".join(paragraphs[:count])  # an odd number: ends with the person

    def _look_and_answer(self) -> dict[str, float]:
        """What it finds likely after picture and clip; judges what it goes on to say."""
        engine, cancel = self._engine, self._cancel
        parts: list[Part] = []
        if engine.processor.picture_settings is not None:
            parts.append(ImagePart(PICTURE))
        if engine.processor.clip_settings is not None:
            parts.append(VideoPart(CLIP))
        parts.append(TextPart(QUESTION))
        request = ReplyRequest((Message("user", tuple(parts)),), _SETTINGS)
        media = _there(read_media(engine.processor, request.messages, _SETTINGS, cancel))
        prompt = write_prompt(engine.processor, request, media, thinking=False)
        self._asked.update(prompt.input_ids.tobytes() + PICTURE.read_bytes() + CLIP.read_bytes())
        looking = encode(engine.model, media, engine.limits.vision_piece_work, cancel)
        embeddings = _result(looking)
        if len(parts) > 1:
            self._need_finite(_there(embeddings), "what it sees in a picture and a clip")
        self._step()
        cache = engine.model.make_cache()
        prepared = prepare(engine.model, prompt, media, embeddings)
        chunk_tokens = engine.limits.prefill_chunk_tokens
        logits = _there(_result(prefill(engine.model, cache, prepared, chunk_tokens, cancel)))
        self._need_finite(logits, "what it predicts after a picture and a clip")
        tokens = decode(
            engine.model,
            cache,
            logits,
            Sampler(_SETTINGS, engine.processor.vocab_size_used),
            engine.processor.stop_token_ids,
            _SETTINGS.max_tokens,
            engine.max_context,
            cancel,
        )
        self._judge(list(tokens))
        self._step()
        return _likeliest(logits[0, : engine.processor.vocab_size_used])

    def _judge(self, answer: Sequence[int]) -> None:
        stream = self._engine.text_stream()
        text = "".join(map(stream.feed, answer))
        remedy = "Choose the published model, which Fireside converts itself, or download it again."
        if not text.strip() or "\ufffd" in text:
            raise self._fail("it answers with something that is no text", remedy)
        if len(answer) >= _REPETITIONS * len(set(answer)):
            raise self._fail("it answers with the same words over and over", remedy)

    def _ask(self, question: OwnQuestion) -> None:
        parts: list[Part] = [TextPart(question.question)]
        if question.about is not None:
            kind = ImagePart if question.about == PICTURE else VideoPart
            parts.insert(0, kind(question.about))
        request = ReplyRequest((Message("user", tuple(parts)),), ReplySettings(max_tokens=64))
        self._engine.forget()
        events = self._engine.reply(request, self._cancel)
        answer = "".join(event.text for event in events if isinstance(event, TextDelta))
        self._step()
        if not has_words(answer, question.says):
            raise self._fail(
                f'it answered "{answer}" when it was asked "{question.question}"',
                "Install Fireside again; if that changes nothing, report it.",
            )


def _answer_places(
    turn_starts: Sequence[int], ids: NDArray[np.int64], stops: frozenset[int]
) -> NDArray[np.int64]:
    """The places of the words in the model's turns of a chat, which every second one is."""
    reply = ids[turn_starts[-1] :]
    places: list[int] = []
    for start, stop in zip(turn_starts[1:-1:2], turn_starts[2::2], strict=True):
        pairs = enumerate(zip(ids[start:stop], reply, strict=False))
        head = next((n for n, (a, b) in pairs if a != b), reply.size)
        for place in range(start + head, stop):
            if int(ids[place]) in stops:
                break
            places.append(place)
    return np.array(places)


def _likeliest(logits: mx.array) -> dict[str, float]:
    whole = logits.astype(mx.float32)
    exact = np.array(whole - mx.logsumexp(whole))
    tokens = np.argsort(-exact)[:_LIKELIEST]
    return {str(token): float(exact[token]) for token in tokens}


def _result(steps: Generator[Any, None, _T]) -> _T:
    """What a generator returns, whatever it tells on the way."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def _there(value: _T | None) -> _T:
    """What only a cancelled piece of work leaves out."""
    if value is None:
        raise LoadCancelledError
    return value
