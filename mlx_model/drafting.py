"""Decoding with drafts: guesses some tokens, reads them in one step, keeps those that were right.

A guess is right if the model itself, given the noise of that place, draws the same token. So the
text is the same, token for token, with drafts and without, also at any temperature: Gumbel noise
shared by both distributions makes them agree often, though not quite as often as tests with
min(1, p / q) would, after which a seed would mean another text whenever drafts come and go.
Source: Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative
Decoding" (arXiv 2408.07978).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlx_model.cache import SequenceCache
from mlx_model.draft_head import DraftPlace
from mlx_model.draft_policy import DraftPolicy
from mlx_model.generation import Window
from mlx_model.model import Model
from mlx_model.sampling import Sampler

# Tokens that the draft head may be behind while no drafts are wanted; all are told at once.
_BEHIND = 32


@dataclass(frozen=True, slots=True)
class _Untold:
    """Tokens that the draft head has not heard of yet, from the place of the first of them.

    `before` holds what was made of the token before each and before the one that comes next, so it
    is longer by one. Shapes: tokens scalars; before [1, n, hidden] each
    """

    place: DraftPlace
    tokens: tuple[mx.array, ...]
    before: tuple[mx.array, ...]


@dataclass(frozen=True, slots=True)
class _DraftedWindow(Window):
    """A window, and what goes on from any place of it."""

    untold: Sequence[_Untold] = ()


@dataclass(slots=True)
class DraftCount:
    """How many drafts were made in a reply, and how many of them were right.

    Those behind the token that ended it are left out: nobody knows.
    """

    made: int = 0
    right: int = 0


class DraftedSteps:
    """Windows of one reply; see `generation.Steps`."""

    def __init__(
        self, model: Model, cache: SequenceCache, sampler: Sampler, policy: DraftPolicy
    ) -> None:
        """`model` has a draft head."""
        self._model = model
        self._cache = cache
        self._sampler = sampler
        self._policy = policy
        self.count = DraftCount()

    @property
    def on(self) -> bool:
        """Whether drafts are made, but for trials."""
        return self._policy.on

    def first(self, logits: mx.array) -> Window:
        """The window that follows the whole of the cache."""
        self._policy.pause()
        cache = self._cache
        assert cache.last_hidden is not None
        place = DraftPlace(cache.length, cache.last_position)
        untold = _Untold(place, (), (cache.last_hidden,))
        return _DraftedWindow([self._sampler.peek(logits)], [cache.mark()], (), [untold])

    def following(self, window: Window, place: int, ahead: bool, room: int) -> Window:
        """The window after token number `place` of `window`."""
        assert isinstance(window, _DraftedWindow)
        sampler, model, cache = self._sampler, self._model, self._cache
        token = window.drawn[place]
        pending = list(window.drawn) if ahead else []
        behind = window.untold[place]
        wanted = min(self._policy.drafts(), room - 1)
        drafts: list[mx.array] = []
        if wanted > 0:
            drafts = self._drafts(token, behind, wanted, pending)
        elif len(behind.tokens) >= _BEHIND:
            behind = self._tell(behind)
        hidden, marks = model.step(mx.stack([token, *drafts])[None], cache)
        logits = model.logits(hidden)
        drawn = [
            sampler.peek(logits[:, read], [*pending, *drafts[:read]])
            for read in range(len(drafts) + 1)
        ]
        untold = self._untold(token, behind, drafts, hidden)
        return _DraftedWindow(drawn, marks, drafts, untold)

    def done(self, window: Window, place: int, right: int, goes_on: bool) -> None:
        """Count what the drafts came to; tell the draft head of the rest before an interruption."""
        assert isinstance(window, _DraftedWindow)
        made = len(window.drafts)
        self.count.made += made if goes_on else min(made, place + 1)
        self.count.right += min(right, place + 1)
        if goes_on:
            self._policy.record(made, place)
        else:
            self._tell(window.untold[place])
            mx.async_eval(self._cache.arrays())

    def _drafts(
        self, token: mx.array, behind: _Untold, wanted: int, pending: Sequence[mx.array]
    ) -> list[mx.array]:
        """Guesses at the tokens after `token`, each drawn with the noise of its place."""
        model, cache = self._model, self._cache
        drafts: list[mx.array] = []
        place, before = behind.place, mx.concatenate([*behind.before], axis=1)
        ids = mx.stack([*behind.tokens, token])[None]
        while True:
            hidden = model.draft(ids, before, place, cache)
            drafts.append(self._sampler.peek(model.logits(hidden)[:, 0], [*pending, *drafts]))
            if len(drafts) == wanted:
                return drafts
            place, before, ids = place.after(ids.shape[1]), hidden, drafts[-1].reshape(1, 1)

    @staticmethod
    def _untold(
        token: mx.array, behind: _Untold, drafts: Sequence[mx.array], hidden: mx.array
    ) -> list[_Untold]:
        """What the draft head will not have heard of at each place of the window."""
        if not drafts:
            tokens, before = (*behind.tokens, token), (*behind.before, hidden)
            return [_Untold(behind.place, tokens, before)]
        place = behind.place.after(len(behind.tokens) + 1)
        return [
            _Untold(place, tuple(drafts[:right]), (hidden[:, : right + 1],))
            for right in range(len(drafts) + 1)
        ]

    def _tell(self, untold: _Untold) -> _Untold:
        """Write the rows that the draft head is behind; what is left is what comes next."""
        if not untold.tokens:
            return untold
        before = mx.concatenate([*untold.before], axis=1)
        ids = mx.stack([*untold.tokens])[None]
        self._model.take_in_drafted(ids, before[:, :-1], untold.place, self._cache)
        rows = len(untold.tokens)
        return _Untold(untold.place.after(rows), (), (before[:, -1:],))
