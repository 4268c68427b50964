"""When drafts are worth their time, decided from what was measured; knows no model and no mlx.

A window of several tokens costs more than a single step and draws at least one token. It pays as
long as what it draws grows more than its cost. Both are measured all the time; what is not in use
is tried now and then.
"""

import time
from collections import deque
from typing import Protocol

# Windows of each size that the present judgement rests on.
_MEMORY = 24
# So many are made in a row to try a size, and between two judgements.
_TRIAL = 8
# Drafts have to gain at least so much, or switching back and forth would cost more.
_WORTH = 1.03
# Windows between two trials of a size that is not in use; doubled each time that it loses.
_SOONEST_TRIAL, _LATEST_TRIAL = 48, 1536
# A pause of the caller or of the machine is no cost of a window.
_PAUSE = 4.0


class DraftPolicy(Protocol):
    """Says how many drafts the next window gets, and hears what became of each."""

    @property
    def on(self) -> bool:
        """Whether drafts are made, but for trials."""

    def drafts(self) -> int:
        """How many tokens to guess ahead in the next window."""

    def record(self, drafts: int, right: int) -> None:
        """A window with so many drafts is done, of which the first `right` were right."""

    def pause(self) -> None:
        """What passes until the next `record` is not the time of a window."""


class FixedDrafts:
    """Always the same number: for measurements, and 0 for none at all."""

    def __init__(self, drafts: int) -> None:
        self._drafts = drafts

    @property
    def on(self) -> bool:
        """See DraftPolicy."""
        return self._drafts > 0

    def drafts(self) -> int:
        """See DraftPolicy."""
        return self._drafts

    def record(self, drafts: int, right: int) -> None:
        """Nothing is learnt."""

    def pause(self) -> None:
        """Nothing is measured."""


class _Size:
    """What is known of windows of one size: seconds and drawn tokens of the latest."""

    def __init__(self) -> None:
        self._windows: deque[tuple[float, int]] = deque(maxlen=_MEMORY)
        self.wait = _SOONEST_TRIAL
        self.idle = 0

    def add(self, seconds: float, tokens: int) -> None:
        self._windows.append((seconds, tokens))

    def begin_again(self) -> None:
        """What comes is judged by itself: the windows before may be of quite another text."""
        self._windows.clear()
        self.idle = 0

    @property
    def known(self) -> bool:
        return len(self._windows) >= _TRIAL

    @property
    def tokens_per_s(self) -> float:
        usual = sorted(seconds for seconds, _ in self._windows)[len(self._windows) // 2]
        seconds = sum(min(seconds, _PAUSE * usual) for seconds, _ in self._windows)
        return sum(tokens for _, tokens in self._windows) / max(seconds, 1e-9)


class MeasuredDrafts:
    """As many drafts as draw the most tokens a second here and now; lives as long as the model.

    It begins with single steps, tries one draft, and more as long as each further one pays.
    """

    def __init__(self, most: int) -> None:
        """`most`: never guess further ahead."""
        self._sizes = [_Size() for _ in range(most + 1)]
        self._best = 0
        self._trying: int | None = None
        self._made = 0
        self._latest_s: float | None = None

    @property
    def on(self) -> bool:
        """See DraftPolicy."""
        return self._best > 0

    def drafts(self) -> int:
        """See DraftPolicy."""
        return self._best if self._trying is None else self._trying

    def pause(self) -> None:
        """See DraftPolicy."""
        self._latest_s = None

    def record(self, drafts: int, right: int) -> None:
        """See DraftPolicy."""
        now_s = time.perf_counter()
        if self._latest_s is not None and drafts < len(self._sizes):
            self.learn(drafts, right, now_s - self._latest_s)
        self._latest_s = now_s

    def learn(self, drafts: int, right: int, seconds: float) -> None:
        """The same, given what the window took."""
        wanted, is_trial = self.drafts(), self._trying is not None
        if drafts == wanted:
            self._made += 1
            if is_trial and self._made == 1:
                return  # it pays for what was never run before, and for what the head has missed
        self._sizes[drafts].add(seconds, 1 + right)
        if drafts != wanted or self._made < _TRIAL + is_trial:
            return  # or decided before the latest judgement
        tried, self._trying, self._made = self._trying, None, 0
        self._best = self._judgement()
        if tried is not None:
            size = self._sizes[tried]
            lost = self._best != tried
            size.wait = min(2 * size.wait, _LATEST_TRIAL) if lost else _SOONEST_TRIAL
        else:
            self._trying = self._due()

    def _judgement(self) -> int:
        """The size that draws the most tokens a second; another one has to be clearly better."""

        def worth(size: int) -> float:
            rate = self._sizes[size].tokens_per_s
            return rate if size == self._best else rate / _WORTH

        return max((size for size, one in enumerate(self._sizes) if one.known), key=worth)

    def _due(self) -> int | None:
        """A neighbour of the best size, or single steps, that it is time to try again."""
        due = None
        for number in sorted({0, self._best - 1, self._best + 1} - {-1, self._best}):
            if number < len(self._sizes):
                size = self._sizes[number]
                size.idle += _TRIAL
                if size.idle >= size.wait or not size.known:
                    due = number
        if due is not None:
            self._sizes[due].begin_again()
        return due
