"""How far one checkpoint's predictions are from another's, over a text.

The two are loaded one after the other and never sit in memory together: what the first one
predicts waits in a temporary file, whole distributions as 16-bit log-probabilities. Both sides are
rounded that way and brought back to a sum of one, so that equal models differ by exactly nothing.
Which text, and how the result is shown, is the caller's affair.
"""

import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.config import load_config
from mlx_model.errors import CheckpointError, FiresideError
from mlx_model.messages import Message
from mlx_model.processor import Processor, load_processor
from mlx_model.weights import load_model

# A distribution over a real vocabulary takes half a megabyte in the file, twice that in memory.
_CHUNK_TOKENS = 64
_STORED_BYTES = 2

OnProgress = Callable[[int, int], None]
Differences = tuple[
    NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]
]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models' predictions of the same tokens, each from all the tokens before it.

    `divergence_nats` is KL(A || B) of each; `same_likeliest` the share with the same first choice.
    """

    divergence_nats: NDArray[np.float32]
    same_likeliest: float
    perplexity_a: float
    perplexity_b: float


def compare(
    a: str | Path,
    b: str | Path,
    text: str,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """Let the checkpoints `a` and `b` predict each token of `text`, as far as their context goes.

    Text is read as `chat` does; padding rows of the vocabulary are left out. `on_progress` is told
    tokens read, by both models together. FiresideError if the two do not share a vocabulary, or
    there is nothing to predict.
    """
    processor = load_processor(a)
    if _vocabulary(processor) != _vocabulary(load_processor(b)):
        raise CheckpointError(
            f"{a} and {b} do not share a vocabulary, so their predictions cannot be compared. "
            "Choose two versions of one model."
        )
    longest = min(load_config(a).max_context, load_config(b).max_context)
    ids = processor.prompt(chat(text)).input_ids[:longest]
    read, targets = ids[:-1], ids[1:]
    rows = processor.vocab_size_used
    _check_space(read.size * rows * _STORED_BYTES)
    columns: list[Differences] = []

    def tell(done: int) -> None:
        if on_progress is not None:
            on_progress(done, 2 * read.size)

    try:
        with tempfile.TemporaryFile() as stored:
            for start, chunk in _predictions(a, read, rows):
                stored.write(chunk.data)
                tell(start + len(chunk))
            # The first model is gone now, and so must be all that it used.
            gc.collect()
            mx.clear_cache()
            stored.seek(0)
            for start, chunk in _predictions(b, read, rows):
                other = np.frombuffer(stored.read(chunk.nbytes), chunk.dtype).reshape(chunk.shape)
                columns.append(differences(other, chunk, targets[start : start + len(chunk)]))
                tell(read.size + start + len(chunk))
    except OSError as error:
        raise FiresideError(
            f"The predictions could not be kept in {tempfile.gettempdir()} "
            f"({error.strerror or error}). Free some space, or compare over fewer tokens."
        ) from error
    divergences, same, surprise_a, surprise_b = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    return Comparison(
        divergences,
        float(same.mean()),
        float(np.exp(surprise_a.mean())),
        float(np.exp(surprise_b.mean())),
    )


def chat(text: str) -> list[Message]:
    """The paragraphs of `text` as turns of a chat: the person's, the model's, and so on.

    FiresideError if there are none.
    """
    paragraphs = [part.strip() for part in text.replace("\r\n", "\n").split("\n\n")]
    paragraphs = [part for part in paragraphs if part]
    if not paragraphs:
        raise FiresideError("The text to compare over is empty. Choose another one.")
    return [
        Message.text("assistant" if index % 2 else "user", part)
        for index, part in enumerate(paragraphs)
    ]


def log_probabilities(logits: mx.array) -> NDArray[np.float16]:
    """What `differences` compares. Shapes: logits [T, vocabulary] -> the same."""
    return np.array(_normalised(logits).astype(mx.float16))


def differences(
    first: NDArray[np.float16], second: NDArray[np.float16], targets: NDArray[np.int64]
) -> Differences:
    """For each prediction: KL(first || second) in nats, whether the likeliest token is the same,
    and the negated log-probability that each gives to the token that came.

    Shapes: first and second [T, vocabulary], log-probabilities; targets [T] -> four times [T].
    """
    a, b = (_normalised(mx.array(side)) for side in (first, second))
    divergence = mx.maximum(mx.sum(mx.exp(a) * (a - b), axis=-1), 0.0)
    same = mx.argmax(a, axis=-1) == mx.argmax(b, axis=-1)
    came = mx.array(targets)[:, None]
    surprises = [-mx.take_along_axis(side, came, axis=-1)[:, 0] for side in (a, b)]
    return np.array(divergence), np.array(same), np.array(surprises[0]), np.array(surprises[1])


def _predictions(
    folder: str | Path, ids: NDArray[np.int64], rows: int
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """What the model in `folder` predicts after each of `ids`, chunk by chunk with its start.

    The model lives as long as the generator. Shapes: [chunk, rows].
    """
    model = load_model(folder)
    cache = model.make_cache()
    for start in range(0, ids.size, _CHUNK_TOKENS):
        logits = model(ids[None, start : start + _CHUNK_TOKENS], cache=cache)[0, :, :rows]
        mx.eval(logits, cache.arrays())
        yield start, log_probabilities(logits)


def _normalised(logits: mx.array) -> mx.array:
    exact = logits.astype(mx.float32)
    return exact - mx.logsumexp(exact, axis=-1, keepdims=True)


def _vocabulary(processor: Processor) -> dict[str, int]:
    return processor.tokenizer.get_vocab(with_added_tokens=True)


def _check_space(needed: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FiresideError(
            f"The comparison needs {needed / 1e9:.1f} GB in {folder}, which has room for "
            f"{free / 1e9:.1f} GB. Free some space, or compare over fewer tokens."
        )
