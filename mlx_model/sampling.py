"""From the logits of one position to one token id; knows no model, no tokenizer and no text.

Randomness comes from an explicit key made from the seed, never from mlx's hidden global state: the
same seed draws the same tokens whatever else the program computed before.
"""

import secrets

import mlx.core as mx

from mlx_model.messages import ReplySettings


class Sampler:
    """Draws the tokens of one reply; make a new one for each reply.

    First the presence penalty, then temperature and filters in the order of `transformers`: top-k,
    top-p among what top-k kept, min-p relative to the likeliest. Temperature 0 takes the likeliest
    token.
    """

    def __init__(self, settings: ReplySettings, vocabulary_size: int) -> None:
        """`vocabulary_size`: ids from here on are padding rows of the head and never drawn."""
        self._settings = settings
        self._vocabulary_size = vocabulary_size
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        self._key = mx.random.key(seed)
        self._seen: set[int] = set()

    def __call__(self, logits: mx.array) -> mx.array:
        """Choose from `logits` [1, vocab]; returns an unevaluated scalar token id."""
        scores = logits[0, : self._vocabulary_size]
        if self._settings.presence_penalty and self._seen:
            scores = penalise(scores, sorted(self._seen), self._settings.presence_penalty)
        if self._settings.temperature <= 0:
            return mx.argmax(scores)
        self._key, step_key = mx.random.split(self._key)
        scores = scores.astype(mx.float32) / self._settings.temperature
        scores, token_ids = keep_likely(
            scores, self._settings.top_k, self._settings.top_p, self._settings.min_p
        )
        choice = mx.random.categorical(scores, key=step_key)
        return choice if token_ids is None else token_ids[choice]

    def accept(self, token_id: int) -> None:
        """Remember a drawn token: the presence penalty falls on tokens the reply already holds."""
        self._seen.add(token_id)


def penalise(scores: mx.array, token_ids: list[int], penalty: float) -> mx.array:
    """Lower the scores [vocab] of `token_ids` (distinct) by `penalty`, once each."""
    return scores.at[mx.array(token_ids)].subtract(penalty)


def keep_likely(
    scores: mx.array, top_k: int, top_p: float, min_p: float
) -> tuple[mx.array, mx.array | None]:
    """Rule out unlikely tokens: scores that are left, and the token id of each (None: its index).

    `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off. The likeliest token always stays.

    Shapes:
        scores [vocab] -> [n] and [n], where n is `top_k` or vocab
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
