"""Stop strings: what is shown, what is held back, whatever the pieces the text comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_model.stopping import StopStrings


def plain(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the text before the first complete stop string, and whether one is.

    White space alone is no stop string ahead of the text.
    """
    ahead = len(text) - len(text.lstrip())
    for end in range(len(text) + 1):
        ended = [
            stop
            for stop in stops
            if text[:end].endswith(stop) and (stop.strip() or end - len(stop) >= ahead)
        ]
        if ended:
            return text[: end - len(max(ended, key=len))], True
    return text, False


def read(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    """What is shown after each piece and at the end, and whether a stop string was found."""
    reader = StopStrings(stops)
    shown = []
    for piece in pieces:
        shown.append(reader.feed(piece))
        if reader.found:
            break
    return [*shown, reader.finish()], reader.found


@pytest.mark.parametrize(
    ("pieces", "stops", "shown", "found"),
    [
        (["one two three"], [], "one two three", False),
        (["one ", "two ", "three"], ["two"], "one ", True),
        (["one t", "w", "o three"], ["two"], "one ", True),
        (["one t", "wenty"], ["two"], "one twenty", False),
        (["one tw"], ["two"], "one tw", False),
        (["two", " three"], ["two"], "", True),
        (["two"], ["two"], "", True),
        (["xaab"], ["aab", "ab"], "x", True),
        (["x", "a", "a", "b"], ["ab", "aab"], "x", True),
        (["xab"], ["aab", "ab"], "x", True),
        (["abcd"], ["bcd", "c"], "ab", True),  # the first to be complete
        (["a", "b", "c", "d"], ["bcd", "c"], "ab", True),
        (["aaaab"], ["aab"], "aa", True),
        (["aa", "aa", "b"], ["aab"], "aa", True),
        (["abab", "abc"], ["ababc"], "ab", True),
        (["caf", "é", " noir"], ["é n"], "caf", True),
        (["🙂", "🙃"], ["🙃"], "🙂", True),
        (["\n\nUser: hi"], ["\nUser:"], "\n", True),
        (["\n\nRed.", "\n", "\n", "Blue."], ["\n\n"], "\n\nRed.", True),
        (["  Red."], [" "], "  Red.", False),
        (["\n\nU", "s"], ["\n\nUser", "\n\n"], "\n\nUs", False),  # held back ahead of the text
    ],
)
def test_what_is_shown(pieces: list[str], stops: list[str], shown: str, found: bool) -> None:
    parts, was_found = read(pieces, stops)
    assert ("".join(parts), was_found) == (shown, found)
    assert plain("".join(pieces), stops) == (shown, found)


def test_a_beginning_is_held_back_until_it_is_none() -> None:
    assert read(["see ", "U", "se", "d", "."], ["User:"]) == (
        ["see ", "", "", "Used", ".", ""],
        False,
    )
    assert read(["a", "aa", "aac"], ["aab"]) == (["", "a", "aaaac", ""], False)
    assert read(["Us", "er"], ["User:"]) == (["", "", "User"], False)


TEXT = st.text("ab \n", min_size=1, max_size=12).filter(str.strip)
STOPS = st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=4)
CUTS = st.lists(st.integers(1, 5), max_size=12)


@given(TEXT, STOPS, CUTS)
def test_any_pieces_give_what_the_plain_reading_gives(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    first = len(text) - len(text.lstrip()) + 1  # the first piece brings something visible
    pieces, rest = [text[:first]], text[first:]
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    parts, found = read([*pieces, rest], stops)
    assert ("".join(parts), found) == plain(text, stops)


@given(TEXT, STOPS)
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stops: list[str]) -> None:
    reader = StopStrings(stops)
    first = len(text) - len(text.lstrip()) + 1
    shown = ""
    for end in range(first, len(text) + 1):
        shown += reader.feed(text[:first] if end == first else text[end - 1])
        if reader.found:
            return
        beginnings = [
            length
            for length in range(1, end + 1)
            if any(stop.startswith(text[end - length : end]) for stop in stops)
        ]
        assert shown == text[: end - max(beginnings, default=0)]
