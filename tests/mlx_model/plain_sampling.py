"""Sampling as its definitions read: one token at a time, in float64, with nothing shared.

The model that the real sampler is held against. Slow and obvious on purpose.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from mlx_model.messages import ReplySettings

Scores = dict[int, float]


def plain_penalties(
    scores: Sequence[float],
    prompt_ids: Iterable[int],
    reply_ids: Iterable[int],
    repetition: float,
    presence: float,
) -> list[float]:
    """Repetition over prompt and reply, then presence over the reply alone; each counts once."""
    penalised = []
    text, reply = {*prompt_ids, *reply_ids}, set(reply_ids)
    for token, given in enumerate(scores):
        score = float(given)
        if token in text:
            score = score / repetition if score > 0 else score * repetition
        if token in reply:
            score -= presence
        penalised.append(score)
    return penalised


def plain_probabilities(scores: Scores) -> Scores:
    """Softmax over what is there."""
    top = max(scores.values())
    weights = {token: math.exp(score - top) for token, score in scores.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def plain_filters(scores: Scores, top_k: int, top_p: float, min_p: float) -> Scores:
    """What is left: first the k likeliest, then the fewest of these that reach p, then min-p."""
    ranked = sorted(scores, key=lambda token: -scores[token])
    if top_k > 0:
        ranked = ranked[:top_k]
    if top_p < 1:
        probabilities = plain_probabilities({token: scores[token] for token in ranked})
        enough = []
        reached = 0.0
        for token in ranked:
            if enough and reached >= top_p:
                break
            enough.append(token)
            reached += probabilities[token]
        ranked = enough
    if min_p > 0:
        probabilities = plain_probabilities({token: scores[token] for token in ranked})
        least = min_p * max(probabilities.values())
        ranked = [token for token in ranked if probabilities[token] >= least]
    return {token: scores[token] for token in ranked if scores[token] > -math.inf}


def plain_distribution(
    logits: Sequence[float],
    settings: ReplySettings,
    prompt_ids: Iterable[int] = (),
    reply_ids: Iterable[int] = (),
) -> np.ndarray:
    """The probability of each token to be drawn next."""
    penalised = plain_penalties(
        logits, prompt_ids, reply_ids, settings.repetition_penalty, settings.presence_penalty
    )
    result = np.zeros(len(penalised))
    if settings.temperature == 0:
        result[int(np.argmax(penalised))] = 1.0
        return result
    tempered = {token: score / settings.temperature for token, score in enumerate(penalised)}
    kept = plain_filters(tempered, settings.top_k, settings.top_p, settings.min_p)
    for token, probability in plain_probabilities(kept).items():
        result[token] = probability
    return result
