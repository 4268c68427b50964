"""The tree of histories against a model that keeps everything, with lists for arrays."""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_model.state.history_tree import HistoryTree

ROW_BYTES, STATE_BYTES = 1, 10
PLENTY = 10**9


@dataclass(frozen=True)
class ListRows:
    keys: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return ROW_BYTES * len(self.keys)

    def part(self, start: int, stop: int) -> "ListRows":
        return ListRows(self.keys[start:stop])


@dataclass(frozen=True)
class ListState:
    """A state that remembers what was read."""

    keys: tuple[int, ...]
    nbytes: int = STATE_BYTES

    @property
    def length(self) -> int:
        return len(self.keys)


@dataclass
class ListSequence:
    """A sequence whose rows are the keys, and whose state is all the keys before it."""

    rows: list[int] = field(default_factory=list)
    state: tuple[int, ...] = ()
    copied: int = 0

    def restore(self, checkpoint: ListState) -> None:
        self.state = checkpoint.keys

    def rest(self) -> None:
        self.state = ()

    def copy_rows(self, start: int, stop: int) -> ListRows:
        assert stop <= len(self.rows)
        self.copied += stop - start
        return ListRows(tuple(self.rows[start:stop]))

    def write_rows(self, start: int, segment: ListRows) -> None:
        assert start <= len(self.rows)
        self.rows[start : start + len(segment.keys)] = segment.keys
        self.copied += len(segment.keys)

    def read(self, keys: list[int]) -> None:
        self.rows[len(self.state) :] = keys
        self.state += tuple(keys)

    @property
    def row_bytes(self) -> int:
        return ROW_BYTES * len(self.rows)


Tree = HistoryTree[ListSequence]


def read(tree: Tree, keys: list[int], marks: set[int], said: int = 0) -> int:
    """Read a prompt as the engine does; checks what was found, and returns how much that was.

    States are kept at the lengths in `marks` and at the end of the prompt, and a passing one at
    the end of what is `said` after it.
    """
    sequence = tree.resume(np.array(keys, np.int64))
    found = len(sequence.state)
    assert sequence.state == tuple(keys[:found]), "another history's state"
    assert sequence.rows[:found] == keys[:found], "another history's rows"
    assert tree.length == found
    for stop in sorted({mark for mark in marks if found < mark < len(keys)} | {len(keys)}):
        if stop > tree.length:
            new = keys[tree.length : stop]
            sequence.read(new)
            tree.advance(np.array(new, np.int64))
            tree.keep(ListState(sequence.state))
    if said:
        answer = [1000 + n for n in range(said)]
        sequence.read(answer)
        tree.advance(np.array(answer, np.int64))
        tree.keep(ListState(sequence.state), lasting=False)
    check(tree)
    return found


def check(tree: Tree) -> None:
    """Every branch is where it says, and has its rows in one kind of place."""
    lines = [path.line() for path in tree.paths]
    for branch in tree.branches():
        line = branch.line()
        keys = [int(key) for part in line for key in part.keys]
        assert len(keys) == branch.stop
        assert branch.keys.size > 0
        assert branch.parent is not None
        assert branch.parent.children[int(branch.keys[0])] is branch
        holders = [path for path, held in zip(tree.paths, lines, strict=True) if branch in held]
        assert (branch.rows is None) == bool(holders)
        for holder in holders:
            assert holder.sequence.rows[: branch.stop] == keys
        if branch.rows is not None:
            assert branch.rows == ListRows(tuple(keys[branch.start :]))
            assert branch.children or branch.kept, "rows that nothing can come back to"
        for length, kept in branch.kept.items():
            assert branch.start < length <= branch.stop
            assert kept.state == ListState(tuple(keys[:length]))


def tree_of(budget: int = PLENTY) -> Tree:
    return HistoryTree(ListSequence, budget)


# Words of so many tokens that no end is a short one.
WORD = 16
words = st.integers(0, 2).map(lambda word: [100 * word + place for place in range(WORD)])
texts = st.lists(words, min_size=1, max_size=12).map(lambda text: [*chain.from_iterable(text)])
prompts = st.lists(
    st.tuples(
        texts,
        st.sets(st.integers(1, 12).map(lambda place: WORD * place), max_size=4),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)
# Words of any length, so that some ends are short ones.
any_words = st.tuples(st.integers(0, 2), st.sampled_from((1, 2, 5, 20))).map(
    lambda word: [100 * word[0] + place for place in range(word[1])]
)
any_texts = st.lists(any_words, min_size=1, max_size=12).map(
    lambda text: [*chain.from_iterable(text)]
)
any_prompts = st.lists(
    st.tuples(any_texts, st.sets(st.integers(1, 120), max_size=4), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(prompts)
def test_the_longest_lasting_state_is_found_whatever_was_read_between(
    histories: list[tuple[list[int], set[int], int]],
) -> None:
    tree, kept = tree_of(), set[tuple[int, ...]]()
    for keys, marks, said in histories:
        best = max((len(k) for k in kept if tuple(keys[: len(k)]) == k), default=0)
        found = read(tree, keys, marks, said)
        assert found >= best
        kept |= {tuple(keys[:mark]) for mark in {*marks, len(keys)} if found < mark <= len(keys)}


@settings(max_examples=80, deadline=None)
@given(prompts | any_prompts, st.integers(0, 120 * WORD))
def test_the_budget_is_kept_and_what_is_found_is_still_right(
    histories: list[tuple[list[int], set[int], int]], budget: int
) -> None:
    tree = tree_of(budget)
    for keys, marks, said in histories:
        read(tree, keys, marks, said)
        assert tree.nbytes <= budget


@settings(max_examples=80, deadline=None)
@given(prompts | any_prompts)
def test_abandoning_a_history_leaves_the_others(
    histories: list[tuple[list[int], set[int], int]],
) -> None:
    tree, others = tree_of(), list[list[int]]()
    for number, (keys, marks, said) in enumerate(histories):
        read(tree, keys, marks, said)
        if number % 3 != 1:
            others.append(keys)
            continue
        apart = [other for other in others if other[0] != keys[0]]
        known = found(tree, apart)
        tree.abandon()
        check(tree)
        assert found(tree, apart) == known


def conversation(tree: Tree, turns: int) -> list[list[int]]:
    """Each prompt parts from the one before it two tokens before that one's end."""
    prompts: list[list[int]] = []
    history: list[int] = []
    for turn in range(turns):
        history = [*history, *range(100 * turn, 100 * turn + 40)]
        prompts.append([*history, 1000 + turn, 1001 + turn])
        read(tree, prompts[-1], {len(history)}, said=5)
    return prompts


def found(tree: Tree, prompts: list[list[int]]) -> list[int]:
    return [tree.known_length(np.array(prompt)) for prompt in prompts]


def test_short_ends_are_given_up_before_anything_else() -> None:
    tree = tree_of()
    prompts = conversation(tree, 3)
    assert found(tree, prompts) == [42, 82, 122]
    tree = tree_of(tree.nbytes - 1)
    assert found(tree, conversation(tree, 3)) == [40, 82, 122]


def test_a_short_side_of_something_long_is_no_short_end() -> None:
    tree = tree_of(10**4)
    message = list(range(1000))
    for ending in ([1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]):
        read(tree, [*message, *ending], set())
    assert tree.known_length(np.array([*message, 1, 2])) == 1002


def test_the_latest_short_ends_stay_and_those_before_leave_no_trace() -> None:
    tree = tree_of()
    prompts = conversation(tree, 20)
    lengths = found(tree, prompts)
    assert lengths[-5:] == [len(prompt) for prompt in prompts[-5:]]
    assert lengths[:-5] == [len(prompt) - 2 for prompt in prompts[:-5]]
    assert len(list(tree.branches())) <= 11, "what no longer parts is one branch again"


def test_a_history_with_branches_is_thinned_out_before_another_is_dropped() -> None:
    def read_all(budget: int) -> list[int]:
        tree = tree_of(budget)
        small = [9000, *range(40)]
        read(tree, small, set())
        trunk = list(range(400))
        sides = [[*trunk, *range(first, first + 30)] for first in (5000, 6000)]
        for side in sides:
            read(tree, side, set(range(20, 401, 20)))
        latest = [8000, *range(50)]
        read(tree, latest, set())
        return found(tree, [small, *sides, latest])

    assert read_all(PLENTY) == read_all(700 + 10 * STATE_BYTES) == [41, 430, 430, 51]


def test_room_for_rows_to_come_is_given_up_before_a_history() -> None:
    class RoomySequence(ListSequence):
        @property
        def row_bytes(self) -> int:
            return 5 * super().row_bytes

    chats = [[chat, *range(100, 160)] for chat in range(3)]
    tree: Tree = HistoryTree(RoomySequence, 3 * (61 + STATE_BYTES))
    for chat in chats:
        read(tree, chat, set())
    assert found(tree, chats) == [61, 61, 61]


def test_going_on_where_the_last_one_ended_copies_nothing() -> None:
    tree = tree_of()
    keys = list(range(100))
    for stop in (20, 40, 60, 100):
        assert read(tree, keys[:stop], {stop}) == {20: 0, 40: 20, 60: 40, 100: 60}[stop]
    assert [path.sequence.copied for path in tree.paths] == [0]


def test_back_and_forth_between_two_branches_reads_nothing_twice() -> None:
    tree = tree_of()
    a, b = list(range(60)), [*range(40), *range(500, 530)]
    read(tree, a, {40, 60})
    assert read(tree, b, {40, 70}) == 40
    for _ in range(3):
        assert read(tree, a, {40, 60}) == 60
        assert read(tree, b, {40, 70}) == 70
    assert len(tree.paths) == 1


def test_a_conversation_that_shares_little_gets_buffers_of_its_own() -> None:
    tree = tree_of()
    a, b = list(range(60)), [*range(10), *range(500, 530)]
    read(tree, a, {10, 60})
    assert read(tree, b, {10, 40}) == 10
    assert len(tree.paths) == 2
    assert sum(path.sequence.copied for path in tree.paths) == 20  # ten out of one, into another
    assert read(tree, a, {10, 60}) == 60
    assert sum(path.sequence.copied for path in tree.paths) == 20  # ten out of one, into another


def test_many_conversations_wait_in_rows_of_their_length() -> None:
    tree = tree_of()
    chats = [[chat, *range(100, 120)] for chat in range(12)]
    for chat in chats:
        read(tree, chat, {21})
    assert len(tree.paths) <= 4
    for chat in chats:
        assert read(tree, chat, {21}) == 21


def test_passing_states_do_not_outlive_another_way() -> None:
    tree = tree_of()
    keys = list(range(60))
    answered = [*keys, *range(1000, 1008)]
    read(tree, keys, {50}, said=8)
    assert tree.known_length(np.array(answered)) == 68
    assert read(tree, [*keys[:50], 7, 8], {50, 52}) == 50
    assert tree.known_length(np.array(answered)) == 60, "the end of the prompt stays"


def test_others_go_before_the_latest_and_the_least_recent_first() -> None:
    tree = tree_of(10 * STATE_BYTES)
    chats = [[chat, *range(100 + chat, 120 + chat)] for chat in range(3)]
    for chat in chats:
        read(tree, chat, {5, 10, 21})
    assert read(tree, chats[2], set()) == 21
    assert read(tree, chats[1], set()) == 21
    assert read(tree, chats[0], set()) == 0


def test_histories_are_thinned_out_before_one_is_dropped() -> None:
    chats = [[chat, *range(100 * chat, 100 * chat + 40)] for chat in range(1, 6)]
    rows = 5 * 41
    tree = tree_of(rows + 18 * STATE_BYTES)
    for _ in range(3):
        for chat in chats:
            read(tree, chat, set(range(4, 41, 4)) | {41})
    for chat in chats:
        assert read(tree, chat, set()) == 41
    assert read(tree, [*chats[0][:40], 7], set()) >= 36, "the state before the end is kept, too"


def test_a_long_prompt_keeps_more_states_near_its_end() -> None:
    tree = tree_of(6 * STATE_BYTES)
    keys = list(range(640))
    read(tree, keys, set(range(10, 641, 10)))
    lengths = sorted(length for branch in tree.branches() for length in branch.kept)
    assert len(lengths) == 6
    gaps = np.diff([0, *lengths])
    assert lengths[-1] == 640
    assert gaps[-1] == 10
    assert gaps[0] > 100
    assert all(gap <= 640 - length + gap for gap, length in zip(gaps, lengths, strict=True))


def test_a_state_belongs_to_the_end_of_the_latest_history() -> None:
    tree = tree_of()
    read(tree, [1, 2, 3], {3})
    with pytest.raises(ValueError, match="end of the latest"):
        tree.keep(ListState((1, 2)))


@settings(max_examples=40, deadline=None)
@given(prompts)
def test_what_was_read_elsewhere_is_gone_on_with(
    histories: list[tuple[list[int], set[int], int]],
) -> None:
    """Every branch of one tree, put into another beside what was read there."""
    source, tree = tree_of(), tree_of()
    for keys, marks, said in histories[::2]:
        read(source, keys, marks, said)
    for keys, marks, said in histories[1::2]:
        read(tree, keys, marks, said)
    for branch in source.branches():
        if not branch.kept:
            continue
        keys = np.concatenate([part.keys for part in branch.line()])[: max(branch.kept)]
        segments = [(part.start, source.rows_of(part)) for part in branch.line()[:-1]]
        segments.append((branch.start, source.rows_of(branch).part(0, len(keys) - branch.start)))
        assert tree.graft(keys, segments, [kept.state for kept in branch.kept.values()])
        if tree.paths:
            check(tree)
    for branch in source.branches():
        for length, kept in branch.kept.items():
            whole = [int(key) for part in branch.line() for key in part.keys]
            assert read(tree, whole[:length], set()) == length, kept


def test_without_the_rows_before_it_a_history_is_not_put_in() -> None:
    tree, keys = tree_of(), list(range(20))
    states = [ListState(tuple(keys[:15])), ListState(tuple(keys))]
    rows = ListRows(tuple(keys))
    assert not tree.graft(np.array(keys), [(10, rows.part(10, 20))], states)
    assert not list(tree.branches())
    assert tree.graft(np.array(keys), [(0, rows.part(0, 10)), (10, rows.part(10, 20))], states)
    assert read(tree, [*keys[:17], 5, 5, 5, 5], set()) == 15
    assert read(tree, keys, set()) == 20
    with pytest.raises(ValueError, match="at its end"):
        tree.graft(np.array(keys), [(0, rows)], states[:1])
