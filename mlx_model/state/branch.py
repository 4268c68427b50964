"""One stretch of tokens in the tree of histories; knows no mlx and not where the live rows are."""

import weakref
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]


class State(Protocol):
    """What goes on after `length` tokens; `mlx_model.cache.Checkpoint` is the real one."""

    @property
    def length(self) -> int:
        """How many tokens were read."""

    @property
    def nbytes(self) -> int:
        """What it keeps in memory."""


class Rows(Protocol):
    """Keys and values of some tokens; `mlx_model.cache.Segment` is the real one."""

    @property
    def nbytes(self) -> int:
        """What they keep in memory."""

    def part(self, start: int, stop: int) -> "Rows":
        """A copy of some of them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A state in the tree; a passing one is not worth a copy of rows once another way is taken."""

    state: State
    lasting: bool
    nbytes: int


@dataclass(eq=False, slots=True, weakref_slot=True)
class Branch:
    """Tokens [start, stop) of one or several histories that part behind `stop` at the earliest.

    Attributes:
        keys: one for each token.
        above: the branch before it, held weakly: a cycle would leave it to the garbage collector
            on which thread the arrays are freed.
        children: what follows, by the first key.
        rows: the parked rows of its tokens; None while they are in live buffers.
        kept: states after some of its tokens, by length.
        used: when it was last on the way of a history; larger is later.
    """

    start: int
    keys: Keys
    above: "weakref.ref[Branch] | None" = None
    children: dict[int, "Branch"] = field(default_factory=dict)
    rows: Rows | None = None
    kept: dict[int, Kept] = field(default_factory=dict)
    used: int = 0

    @property
    def stop(self) -> int:
        """The length of the histories up to its end."""
        return self.start + len(self.keys)

    @property
    def parent(self) -> "Branch | None":
        """The branch before it; None for the root, and for one that was taken out of the tree."""
        return None if self.above is None else self.above()

    @property
    def nbytes(self) -> int:
        """What its states and its parked rows take."""
        states = sum(kept.nbytes for kept in self.kept.values())
        return states + (self.rows.nbytes if self.rows else 0)

    def line(self) -> list["Branch"]:
        """The way from the root to it, without the root."""
        line: list[Branch] = []
        branch = self
        while (parent := branch.parent) is not None:
            line.append(branch)
            branch = parent
        return line[::-1]

    def grow(self, keys: Keys) -> "Branch":
        """A new child with these keys."""
        child = Branch(self.stop, keys, weakref.ref(self), used=self.used)
        self.children[int(keys[0])] = child
        return child

    def split(self, at: int) -> "Branch":
        """Cut it in two at that length; it stays the latter half, the former is returned."""
        parent = self.parent
        if parent is None or not self.start < at < self.stop:
            raise ValueError("a branch is cut between two of its own tokens")
        first = Branch(self.start, self.keys[: at - self.start], self.above, used=self.used)
        first.kept = {length: kept for length, kept in self.kept.items() if length <= at}
        self.kept = {length: kept for length, kept in self.kept.items() if length > at}
        if self.rows is not None:
            first.rows = self.rows.part(0, at - self.start)
            self.rows = self.rows.part(at - self.start, self.stop - self.start)
        parent.children[int(self.keys[0])] = first
        self.keys = self.keys[at - self.start :]
        self.start, self.above = at, weakref.ref(first)
        first.children[int(self.keys[0])] = self
        return first

    def absorb(self, child: "Branch") -> None:
        """Make one branch of it and its only child, neither of which has parked rows."""
        self.keys = np.concatenate([self.keys, child.keys])
        self.kept |= child.kept
        self.children = child.children
        for grandchild in self.children.values():
            grandchild.above = weakref.ref(self)
        child.above = None

    def cut_off(self) -> None:
        """Drop the tokens behind its last state; it must have one, and no children."""
        stop = max(self.kept)
        if stop < self.stop and self.rows is not None:
            self.rows = self.rows.part(0, stop - self.start)
        self.keys = self.keys[: stop - self.start]

    def remove(self) -> None:
        """Take it out of the tree, with all that follows."""
        parent = self.parent
        if parent is not None:
            del parent.children[int(self.keys[0])]
        self.above = None


def shared_length(one: Keys, other: Keys) -> int:
    """With how many equal keys both begin."""
    size = min(len(one), len(other))
    differ = np.flatnonzero(one[:size] != other[:size])
    return int(differ[0]) if differ.size else size
