"""Every history that was read, as one tree, and the buffers that hold the rows of some of them.

A DeltaNet state cannot be shortened, so going back to an earlier token takes a state that was kept
there; rows of keys and values only have to be in the buffers. The latest history lives in buffers
that grow, and the rows of others wait in copies of exactly their length, or in buffers that stay
as they are because too much would have to be copied out of them. Knows no mlx: it is told what a
state, a copy of rows and a sequence with buffers are.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mlx_model.state.branch import Branch, Kept, Keys, Rows, State, shared_length
from mlx_model.state.thinning import least_missed


class RowSequence(Protocol):
    """Growing buffers of rows; `mlx_model.cache.SequenceCache` is the real one."""

    def restore(self, checkpoint: Any) -> None:
        """Go on from this state, whose rows are there."""

    def rest(self) -> None:
        """Let go of all but the rows."""

    def copy_rows(self, start: int, stop: int) -> Any:
        """A copy of the rows of tokens [start, stop)."""

    def write_rows(self, start: int, segment: Any) -> None:
        """Put such a copy in its place."""

    @property
    def row_bytes(self) -> int:
        """What the buffers take."""


S = TypeVar("S", bound=RowSequence)

# States are megabytes, but for toy models; there must not be so many that counting them takes time.
_MOST_STATES = 1024
# Buffers have room for rows to come; those of conversations that rest for long are better parked.
_MOST_PATHS = 4
# To how many states a history is thinned out before others are dropped as a whole: at rest enough
# for its end, for another last answer and for an earlier place, in use for edits of many kinds.
_STATES_AT_REST = 3
_STATES_IN_USE = 8
# The ends of prompts lie a few tokens behind the place where the next prompt parts from them: so
# many of these short ends wait for their answers to be made anew.
_FEW_TOKENS = 16
_MOST_SHORT_ENDS = 4


@dataclass(eq=False, slots=True)
class LivePath(Generic[S]):
    """A sequence whose buffers hold the rows of a history, from its first token to `end`'s last."""

    sequence: S
    end: Branch

    def line(self) -> list[Branch]:
        """The branches of its history, first to last."""
        return self.end.line()


class HistoryTree(Generic[S]):
    """Finds the longest kept beginning of a prompt and brings it back.

    Of each branch the rows are either parked in it or in the buffers of a live path, of several
    where these have a beginning in common.

    Attributes:
        paths: the live paths; the last one is that of the latest history.
    """

    def __init__(self, make_sequence: Callable[[], S], budget_bytes: int) -> None:
        """`budget_bytes` bounds what is kept beside the buffers of the latest history."""
        self._make_sequence = make_sequence
        self._budget_bytes = budget_bytes
        self._root = Branch(0, np.empty(0, np.int64))
        self._clock = 0
        self.paths: list[LivePath[S]] = []

    @property
    def length(self) -> int:
        """How many tokens of the latest history are known by key and have their rows."""
        return self.paths[-1].end.stop

    @property
    def nbytes(self) -> int:
        """What is kept beside the buffers of the latest history."""
        idle = sum(path.sequence.row_bytes for path in self.paths[:-1])
        return idle + sum(branch.nbytes for branch in self.branches())

    def branches(self) -> Iterator[Branch]:
        """All of them, the root left out."""
        waiting = list(self._root.children.values())
        while waiting:
            branch = waiting.pop()
            waiting.extend(branch.children.values())
            yield branch

    def resume(self, keys: Keys) -> S:
        """A sequence that holds the longest beginning of `keys` for which there is a state.

        It is the latest history from now on. An empty sequence when nothing is known.
        """
        self._clock += 1
        if self.paths:
            self.paths[-1].sequence.rest()
        found = self._deepest(keys)
        if found is None:
            path = LivePath(self._make_sequence(), self._root)
        else:
            branch, kept = found
            path = self._path_to(_beginning(branch, kept.state.length - branch.start))
            path.sequence.restore(kept.state)
        self.paths = [other for other in self.paths if other is not path] + [path]
        self._drop_idle_paths()
        self._touch()
        while len(ends := self._short_ends()) > _MOST_SHORT_ENDS:
            self._forget(self._stretch(ends[0]))
        self._shrink()
        return path.sequence

    def advance(self, keys: Keys) -> None:
        """The latest history has gone on by these tokens, whose rows are in its buffers now."""
        path = self.paths[-1]
        start = path.end.stop
        for branch, count in _along(path.end, keys):
            path.end = _beginning(branch, count)
            path.end.rows = None  # they have just been made again
        keys = keys[path.end.stop - start :]
        if len(keys):
            if path.end is self._root or path.end.children or self._is_shared(path.end):
                path.end = path.end.grow(keys)
            else:
                path.end.keys = np.concatenate([path.end.keys, keys])
        self._touch()

    def keep(self, state: State, lasting: bool = True) -> None:
        """Keep a state of the latest history, taken at its end; a lasting one there stays so."""
        end = self.paths[-1].end
        if state.length != end.stop:
            raise ValueError("a state belongs to the end of the latest history")
        if state.length == 0:
            return
        known = end.kept.get(state.length)
        lasting = lasting or (known is not None and known.lasting)
        end.kept[state.length] = Kept(state, lasting, state.nbytes)
        self._shrink()

    def rows_of(self, branch: Branch) -> Any:
        """The rows of a branch of this tree: those parked in it, or a copy out of the buffers."""
        if branch.rows is not None:
            return branch.rows
        holder = next(path for path in self.paths if branch in path.line())
        return holder.sequence.copy_rows(branch.start, branch.stop)

    def known_length(self, keys: Keys) -> int:
        """After how many of `keys` there is a state."""
        found = self._deepest(keys)
        return 0 if found is None else found[1].state.length

    def shared_length(self, keys: Keys) -> int:
        """For how many of `keys` there are rows."""
        return max((branch.start + count for branch, count in _along(self._root, keys)), default=0)

    def latest_keys(self) -> Keys:
        """The tokens of the latest history."""
        return np.concatenate([self._root.keys, *(branch.keys for branch in self._latest())])

    def latest_states(self) -> dict[int, Any]:
        """The lasting states of the latest history, by length."""
        kept = [kept for branch in self._latest() for kept in branch.kept.values()]
        return {one.state.length: one.state for one in kept if one.lasting}

    def graft(
        self, keys: Keys, segments: Sequence[tuple[int, Rows]], states: Collection[State]
    ) -> bool:
        """Put in a history that was read elsewhere, with the state at its end and maybe others.

        It may take more than the budget until a prompt is resumed.

        `segments` follow on each other, each with the length before it, and reach to the end.
        False, and nothing is put in, if the rows before the first of them are not here.
        """
        if not any(state.length == len(keys) for state in states):
            raise ValueError("without a state at its end nothing can come back to a history")
        end = self._root
        for branch, count in _along(end, keys):
            end = _beginning(branch, count)
        borders = [*(start for start, _ in segments), len(keys)]
        if end.stop < borders[0]:
            return False
        for (start, rows), stop in zip(segments, borders[1:], strict=True):
            if stop > end.stop:
                known = max(end.stop - start, 0)
                end = end.grow(keys[end.stop : stop])
                end.rows = rows.part(known, stop - start) if known else rows
        self._clock += 1
        for branch in end.line():
            branch.used = self._clock
            for state in states:
                if branch.start < state.length <= branch.stop:
                    branch.kept[state.length] = Kept(state, lasting=True, nbytes=state.nbytes)
        return True

    def abandon(self) -> None:
        """Forget the latest history and all that only its buffers hold the rows of."""
        path = self.paths.pop()
        for branch in path.line():
            if not self._is_covered(branch):
                self._take_out(branch)
                break

    def clear(self) -> None:
        """Forget everything."""
        self.paths = []
        self._root = Branch(0, np.empty(0, np.int64))

    def _deepest(self, keys: Keys) -> tuple[Branch, Kept] | None:
        """The state after the most tokens of `keys`, and the branch that it belongs to."""
        found: tuple[Branch, Kept] | None = None
        for branch, count in _along(self._root, keys):
            lengths = [length for length in branch.kept if length <= branch.start + count]
            if lengths:
                found = branch, branch.kept[max(lengths)]
        return found

    def _path_to(self, target: Branch) -> LivePath[S]:
        """A live path that ends with `target`: the one that has most of it, or a new one.

        A path that would lose more than half of its history is left alone.
        """
        line = target.line()
        path, shared = None, self._root
        for other in self.paths:
            common = _last_common(line, other.line(), self._root)
            if common.stop > shared.stop and 2 * common.stop >= other.end.stop:
                path, shared = other, common
        if path is None:
            path = LivePath(self._make_sequence(), self._root)
            self.paths.append(path)
        else:
            self._retreat(path, shared)
        for branch in line:
            if branch.start >= shared.stop:
                path.sequence.write_rows(branch.start, self.rows_of(branch))
                branch.rows = None
        path.end = target
        return path

    def _retreat(self, path: LivePath[S], end: Branch) -> None:
        """Give up what `path` holds behind `end`; what is worth it is parked."""
        while path.end is not end:
            branch = path.end
            assert branch.parent is not None
            path.end = branch.parent
            if self._is_covered(branch):
                continue
            branch.kept = {length: kept for length, kept in branch.kept.items() if kept.lasting}
            if branch.children:
                branch.rows = path.sequence.copy_rows(branch.start, branch.stop)
            elif branch.kept:
                branch.cut_off()
                branch.rows = path.sequence.copy_rows(branch.start, branch.stop)
            else:
                self._take_out(branch)

    def _drop_idle_paths(self) -> None:
        """Let go of buffers that hold nothing of their own to come back to, and of too many."""
        for path in self.paths[:-1]:
            own = next((branch for branch in path.line() if not self._is_shared(branch)), None)
            if own is None or not any(branch.kept for branch in _with_descendants(own)):
                self._release(path)
        while len(self.paths) > _MOST_PATHS:
            self._release(self.paths[0])

    def _release(self, path: LivePath[S]) -> None:
        self._retreat(path, self._root)
        self.paths.remove(path)

    def _is_covered(self, branch: Branch) -> bool:
        return any(branch in path.line() for path in self.paths)

    def _is_shared(self, branch: Branch) -> bool:
        """Whether several live paths hold its rows."""
        return sum(branch in path.line() for path in self.paths) > 1

    def _touch(self) -> None:
        for branch in self.paths[-1].line():
            branch.used = self._clock

    def _shrink(self) -> None:
        """Drop states until the budget is kept."""
        while self._is_full() and self._drop_one():
            pass

    def _is_full(self) -> bool:
        count = sum(max(1, len(branch.kept)) for branch in self.branches())
        return self.nbytes > self._budget_bytes or count > _MOST_STATES

    def _drop_one(self) -> bool:
        """What is missed least: short ends, states in the middle, roomy buffers, whole histories.

        Of these the least recent first, and the latest history last.
        """
        if short := self._short_ends():
            self._forget(self._stretch(short[0]))
            return True
        latest, ends = self._latest(), self._other_ends()
        for end in ends:
            line = [branch for branch in end.line() if branch not in latest]
            if _count(line) > _STATES_AT_REST:
                return _give_up_one(line, line[0].start)
        if _count(latest) > _STATES_IN_USE:
            return _give_up_one(latest, 0)
        if len(self.paths) > 1:
            self._release(self.paths[0])
            return True
        if ends:
            self._forget(self._stretch(ends[0]))
            return True
        return _give_up_one(latest, 0)

    def _latest(self) -> list[Branch]:
        return self.paths[-1].line() if self.paths else []

    def _other_ends(self) -> list[Branch]:
        """Where histories end, but for the latest; the least recent first."""
        latest = self._latest()
        ends = [branch for branch in self.branches() if not branch.children]
        return sorted((end for end in ends if end not in latest), key=lambda branch: branch.used)

    def _short_ends(self) -> list[Branch]:
        """Those of them that save only a few tokens."""
        return [end for end in self._other_ends() if self._saved_tokens(end) < _FEW_TOKENS]

    def _saved_tokens(self, end: Branch) -> int:
        """How many more tokens would be read again without the history that ends there."""
        stretch = self._stretch(end)
        above = [branch for branch in end.line() if branch not in stretch]
        return _longest(stretch) - _longest(above)

    def _stretch(self, end: Branch) -> list[Branch]:
        """The part of the history that ends with `end` which is no other's."""
        stretch, latest = [end], self._latest()
        while (above := stretch[0].parent) is not None:
            if above is self._root or above in latest or len(above.children) > 1:
                break
            stretch.insert(0, above)
        return stretch

    def _forget(self, stretch: list[Branch]) -> None:
        for branch in stretch:
            branch.kept.clear()
        for path in [path for path in self.paths if path.end in stretch]:
            self._release(path)
        if stretch[0].parent is not None:
            self._take_out(stretch[0])

    def _take_out(self, branch: Branch) -> None:
        """Remove it; what parted there is one branch again, if its rows are in the same buffers."""
        parent = branch.parent
        branch.remove()
        if parent is None or parent is self._root or len(parent.children) != 1:
            return
        (child,) = parent.children.values()
        holders = [[path for path in self.paths if one in path.line()] for one in (parent, child)]
        if holders[0] and holders[0] == holders[1]:
            parent.absorb(child)
            for path in holders[0]:
                path.end = parent if path.end is child else path.end


def _along(above: Branch, keys: Keys) -> Iterator[tuple[Branch, int]]:
    """The branches below `above` that `keys` run through, and how many of each one's tokens.

    The last of them may be cut there by whoever looks at it.
    """
    while len(keys) and (branch := above.children.get(int(keys[0]))) is not None:
        count = shared_length(branch.keys, keys)
        is_whole = count == len(branch.keys)
        yield branch, count
        if not is_whole:
            return
        above, keys = branch, keys[count:]


def _beginning(branch: Branch, count: int) -> Branch:
    """Its first `count` tokens as a branch of their own, if it has more."""
    return branch if count == len(branch.keys) else branch.split(branch.start + count)


def _longest(branches: list[Branch]) -> int:
    return max((length for branch in branches for length in branch.kept), default=0)


def _count(branches: list[Branch]) -> int:
    return sum(len(branch.kept) for branch in branches)


def _give_up_one(line: list[Branch], start: int) -> bool:
    """Drop the state that is missed least of a stretch of history; False if there is none."""
    kept = {length: branch for branch in line for length in branch.kept}
    if not kept:
        return False
    lengths = sorted(kept)
    passing = [length for length in lengths[:-1] if not kept[length].kept[length].lasting]
    if passing:
        length = passing[0]
    else:
        length = lengths[least_missed(lengths, start)] if len(lengths) > 1 else lengths[0]
    del kept[length].kept[length]
    return True


def _last_common(one: list[Branch], other: list[Branch], root: Branch) -> Branch:
    common = root
    for a, b in zip(one, other, strict=False):
        if a is not b:
            break
        common = a
    return common


def _with_descendants(branch: Branch) -> Iterator[Branch]:
    yield branch
    for child in branch.children.values():
        yield from _with_descendants(child)
