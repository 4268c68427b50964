"""Thinking and answer come apart at the marks, however the text is cut into tokens."""

from collections.abc import Sequence

import pytest

from mlx_model.events import TextDelta, ThinkingDelta
from mlx_model.reply_parser import ReplyParser

OPEN, CLOSE, WORD = 1, 2, 3
MARKS = {"<think>": OPEN, "</think>": CLOSE}


def read(thinking: bool, tokens: list[str], stop: Sequence[str] = ()) -> tuple[str, str]:
    """Feed tokens given as text; a bare mark is the control token."""
    parser = ReplyParser(thinking, (OPEN, CLOSE), stop)
    thought, said = "", ""
    deltas = []
    for token in tokens:
        deltas.append(parser.feed(MARKS.get(token, WORD), token))
        if parser.stopped:
            break
    for delta in [*deltas, parser.finish()]:
        if isinstance(delta, ThinkingDelta):
            thought += delta.text
        elif isinstance(delta, TextDelta):
            said += delta.text
    return thought, said


@pytest.mark.parametrize(
    ("thinking", "tokens", "thought", "said"),
    [
        (False, ["Red", "."], "", "Red."),
        (False, ["\n\n", "Red", ".", "\n", "\n"], "", "Red."),
        (True, ["It is", " red", "\n", "</think>", "\n\n", "Red."], "It is red", "Red."),
        (True, ["\n", "\n one", "\n\n", "two", "\n\n", "</think>", "2"], " one\n\ntwo", "2"),
        (True, ["never", " closes"], "never closes", ""),
        (True, ["hm", "  ", "</think>", "Red."], "hm", "Red."),
        (True, ["</think>", "\n\n", "Red."], "", "Red."),
        (True, ["\n\n", "</think>", "\n\n", "Red."], "", "Red."),
        (True, ["<think>", "\n", "hm", "</think>", "ok"], "hm", "ok"),
        (False, ["<think>", "hm", "</think>", "ok"], "hm", "ok"),
        (False, ["</think>", "\n\n", "ok"], "", "ok"),
        (False, ["\n", "  indented", "\n", "  more"], "", "  indented\n  more"),
        (False, ["a\n", "\n", "\nb "], "", "a\n\n\nb"),
        (False, [" ", "", "x"], "", " x"),
        (False, [], "", ""),
    ],
)
def test_split(thinking: bool, tokens: list[str], thought: str, said: str) -> None:
    assert read(thinking, tokens) == (thought, said)


def test_marks_after_the_answer_began_are_text() -> None:
    tokens = ["It writes ", "<think>", " and ", "</think>", " around it"]
    assert read(False, tokens) == ("", "It writes <think> and </think> around it")


def test_an_opening_mark_inside_the_thinking_is_text() -> None:
    tokens = ["Tag ", "<think>", " opens.", "</think>", "Yes."]
    assert read(True, tokens) == ("Tag <think> opens.", "Yes.")


def test_marks_spelled_with_ordinary_tokens_are_text() -> None:
    tokens = ["The tag </th", "ink> closes", "</think>", "Yes."]
    assert read(True, tokens) == ("The tag </think> closes", "Yes.")


def test_half_a_character_before_the_mark_is_dropped_with_it() -> None:
    parser = ReplyParser(True, (OPEN, CLOSE))
    assert parser.feed(WORD, "hm") == ThinkingDelta("hm")
    assert parser.feed(CLOSE, "\ufffd</think>") is None
    assert parser.feed(WORD, "ok") == TextDelta("ok")


def test_the_state_is_known() -> None:
    parser = ReplyParser(True, (OPEN, CLOSE))
    parser.feed(WORD, "hm")
    assert (parser.thinking, parser.answered) == (True, False)
    parser.feed(CLOSE, "</think>")
    assert (parser.thinking, parser.answered) == (False, False)
    parser.feed(WORD, "ok")
    assert (parser.thinking, parser.answered) == (False, True)


@pytest.mark.parametrize(
    ("thinking", "tokens", "stop", "thought", "said"),
    [
        (False, ["Red", ". ", "B", "lue"], "Blue", "", "Red."),
        (False, ["Red", ". ", "B", "rown"], "Blue", "", "Red. Brown"),
        (False, ["Red", "\n", " B", "l"], "Blue", "", "Red\n Bl"),
        (False, ["\n", "\n", "Red", "\n", "\n", "Blue"], "\n\n", "", "Red"),
        (False, ["\n", "Q", ":"], "\nQ:", "", ""),
        (False, ["\n", "Q", "!"], "\nQ:", "", "Q!"),
        (True, ["Bl", "ue", "</think>", "\n\n", "Red", "Blue"], "Blue", "Blue", "Red"),
        (True, ["Bl", "</think>", "ue"], "Blue", "Bl", "ue"),
        (False, ["It is ", "<think>"], "<think>", "", "It is"),
        (False, ["B", "</think>", "lue"], "B</think>", "", ""),  # held back, yet begun
    ],
)
def test_stop_strings(
    thinking: bool, tokens: list[str], stop: str, thought: str, said: str
) -> None:
    assert read(thinking, tokens, [stop]) == (thought, said)


def test_an_answer_is_begun_by_what_is_held_back() -> None:
    parser = ReplyParser(False, (OPEN, CLOSE), ["Blue"])
    assert parser.feed(WORD, "Bl") is None
    assert not parser.answered
    assert parser.feed(OPEN, "<think>") == TextDelta("Bl<think>")
    assert parser.answered


def test_it_says_when_a_stop_string_is_complete() -> None:
    parser = ReplyParser(False, (OPEN, CLOSE), ["Blue"])
    parser.feed(WORD, "Blu")
    assert not parser.stopped
    parser.feed(WORD, "e")
    assert parser.stopped
    assert parser.finish() is None


def test_it_knows_whether_there_was_any_thinking() -> None:
    parser = ReplyParser(True, (OPEN, CLOSE))
    parser.feed(WORD, "\n")
    assert not parser.thought
    parser.feed(WORD, "hm")
    assert parser.thought
    parser.feed(CLOSE, "</think>")
    assert not parser.thought
