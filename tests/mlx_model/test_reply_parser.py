"""Thinking and answer come apart at the marks, however the text is cut into tokens."""

import pytest

from mlx_model.events import TextDelta, ThinkingDelta
from mlx_model.reply_parser import ReplyParser

OPEN, CLOSE, WORD = 1, 2, 3
MARKS = {"<think>": OPEN, "</think>": CLOSE}


def read(thinking: bool, tokens: list[str]) -> tuple[str, str]:
    """Feed tokens given as text; a bare mark is the control token."""
    parser = ReplyParser(thinking, (OPEN, CLOSE))
    thought, said = "", ""
    for token in tokens:
        delta = parser.feed(MARKS.get(token, WORD), token)
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
