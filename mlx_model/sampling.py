"""From the logits of one position to one token id; knows no model, no tokenizer and no text.

Randomness comes from an explicit key made from the seed, never from mlx's hidden global state: the
same seed draws the same tokens whatever else the program computed before.
"""

import secrets
from collections import deque
from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.messages import ReplySettings

# Below it the likeliest token is as good as certain, and dividing by it would overflow.
COLDEST = 1e-6
_NO_TOKENS = np.empty(0, np.int64)


class Sampler:
    """Draws the tokens of one reply; make a new one for each reply.

    First the penalties, then temperature and filters in the order of `transformers`: top-k, top-p
    among what top-k kept, min-p relative to the likeliest. The repetition penalty falls on tokens
    of the prompt and the reply, the presence penalty on tokens of the reply. Temperature 0 takes
    the likeliest token.
    """

    def __init__(
        self,
        settings: ReplySettings,
        vocabulary_size: int,
        prompt_ids: NDArray[np.int64] = _NO_TOKENS,
    ) -> None:
        """`vocabulary_size`: ids from here on are padding rows of the head and never drawn.

        `prompt_ids` are those that the repetition penalty falls on: the prompt's text, without the
        placeholders of media.
        """
        self._settings = settings
        self._vocabulary_size = vocabulary_size
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        self._key = mx.random.key(seed)
        self._noise_keys: deque[mx.array] = deque()
        self._in_reply = np.zeros(vocabulary_size, np.bool_)
        self._in_text = np.zeros(vocabulary_size, np.bool_)
        self._in_text[prompt_ids[prompt_ids < vocabulary_size]] = True

    def __call__(self, logits: mx.array) -> mx.array:
        """Choose from `logits` [1, vocab]; returns an unevaluated scalar token id."""
        token = self.peek(logits)
        self.advance()
        return token

    def peek(self, logits: mx.array, pending: Sequence[mx.array] = ()) -> mx.array:
        """What will be drawn from `logits` [1, vocab] once the tokens `pending` are drawn as well.

        They are scalars, which need not be evaluated. Drawing it later gives the same token, so a
        guess that is made of other logits with the same `pending` is right as often as the two
        distributions allow it: both get the same noise.
        """
        settings = self._settings
        scores = self._penalised(logits[0, : self._vocabulary_size], pending)
        if settings.temperature < COLDEST:
            return mx.argmax(scores)
        scores = scores.astype(mx.float32)
        scores = (scores - mx.max(scores)) / settings.temperature
        scores, token_ids = keep_likely(scores, settings.top_k, settings.top_p, settings.min_p)
        # Noise belongs to a token, not to its place among those kept: rounding differences that
        # swap two neighbours then change nothing.
        noise = mx.random.gumbel((self._vocabulary_size,), key=self._noise_key(len(pending)))
        if token_ids is None:
            return mx.argmax(scores + noise)
        return token_ids[mx.argmax(scores + noise[token_ids])]

    def advance(self) -> None:
        """One more token of the reply is drawn: its noise is used up."""
        if self._settings.temperature >= COLDEST:
            self._noise_key(0)
            self._noise_keys.popleft()

    def accept(self, token_id: int) -> None:
        """Take note of a token that the reply now holds, drawn or not."""
        if token_id < self._vocabulary_size:
            self._in_reply[token_id] = self._in_text[token_id] = True

    def _noise_key(self, ahead: int) -> mx.array:
        """The key of the draw after `ahead` others."""
        while len(self._noise_keys) <= ahead:
            self._key, noise_key = mx.random.split(self._key)
            self._noise_keys.append(noise_key)
        return self._noise_keys[ahead]

    def _penalised(self, scores: mx.array, pending: Sequence[mx.array]) -> mx.array:
        repetition, presence = self._settings.repetition_penalty, self._settings.presence_penalty
        if repetition != 1:
            scores = discourage(scores, _with(self._in_text, pending), repetition)
        if presence:
            scores = lower(scores, _with(self._in_reply, pending), presence)
        return scores


def _with(where: NDArray[np.bool_], tokens: Sequence[mx.array]) -> mx.array:
    """The marked tokens and `tokens`. Shapes: where [vocab] -> the same"""
    marked = mx.array(where)
    for token in tokens:
        marked = marked | (mx.arange(where.size) == token)
    return marked


def discourage(scores: mx.array, where: mx.array, penalty: float) -> mx.array:
    """The repetition penalty: positive scores divided by `penalty`, negative ones times it.

    Shapes: scores and where [vocab] -> fp32 [vocab]
    """
    scores = scores.astype(mx.float32)
    return mx.where(where, mx.where(scores > 0, scores / penalty, scores * penalty), scores)


def lower(scores: mx.array, where: mx.array, penalty: float) -> mx.array:
    """The presence penalty: `penalty` off the scores, however often a token was there.

    Shapes: scores and where [vocab] -> fp32 [vocab]
    """
    scores = scores.astype(mx.float32)
    return mx.where(where, scores - penalty, scores)


def keep_likely(
    scores: mx.array, top_k: int, top_p: float, min_p: float
) -> tuple[mx.array, mx.array | None]:
    """Rule out unlikely tokens: scores that are left, and the token id of each (None: its index).

    `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off. The likeliest token always stays; of
    equal scores at the border of top-k or top-p only as many as the filter lets through.

    Shapes:
        scores fp32 [vocab] -> [n] and [n], where n is `top_k` or vocab
    """
    token_ids = None
    if 0 < top_k < scores.size:
        token_ids = mx.argpartition(-scores, kth=top_k - 1)[:top_k]
        scores = scores[token_ids]
    if top_p < 1:
        order = mx.argsort(-scores)
        scores = scores[order]
        token_ids = order if token_ids is None else token_ids[order]
        probabilities = mx.softmax(scores)
        before = mx.cumsum(probabilities, inclusive=False)  # 0 for the likeliest, which thus stays
        scores = mx.where(before < max(top_p, 1e-9), scores, -mx.inf)
    if min_p > 0:
        # p >= min_p * p_max, without computing p: the normaliser cancels
        floor = mx.max(scores) + mx.log(mx.array(min(min_p, 1.0)))
        scores = mx.where(scores >= floor, scores, -mx.inf)
    return scores, token_ids
