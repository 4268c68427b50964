"""The splitter: the same blocks however the text arrives, and a tail that does not flicker."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.markdown_blocks import LONG_LIST_CHARS, MarkdownBlock, MarkdownSplitter

SAMPLE = (
    "Hello **wor\nld**\n\n- a\n- b\n\n  para\n\n```py\nprint(1)\n\n- x\n```\nafter\n\n"
    "1. x\n   ```\n   - no\n\n   ```\n2. y\n\n~~~~\n~~~\n~~~~\n| a |\n|---|\n| 1 |\n\nend"
)


def split(*pieces: str) -> list[MarkdownBlock]:
    splitter = MarkdownSplitter()
    blocks: list[MarkdownBlock] = []
    for piece in pieces:
        blocks += splitter.feed(piece)
    return blocks + splitter.finish()


def test_paragraphs_lists_and_code_are_told_apart() -> None:
    assert [(block.kind, block.language, block.text) for block in split(SAMPLE)] == [
        ("text", "", "Hello **wor\nld**"),
        ("text", "", "- a\n- b\n\n  para"),
        ("code", "py", "print(1)\n\n- x"),
        ("text", "", "after"),
        ("text", "", "1. x\n   ```\n   - no\n\n   ```\n2. y"),
        ("code", "", "~~~"),
        ("text", "", "| a |\n|---|\n| 1 |"),
        ("text", "", "end"),
    ]


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=30))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(SAMPLE)]
    pieces = [SAMPLE[a:b] for a, b in itertools.pairwise(edges)]
    assert split(*pieces) == split(SAMPLE)


@given(st.text(alphabet="ab`~*-1. \n#|>", max_size=80), st.integers(1, 7))
def test_nothing_is_lost_whatever_the_text(text: str, step: int) -> None:
    whole = split(text)
    assert split(*[text[i : i + step] for i in range(0, len(text), step)]) == whole
    kept = "".join(block.text for block in whole)
    for letter in "ab1":
        in_fence_lines = sum(
            line.count(letter) for line in text.split("\n") if "```" in line or "~~~" in line
        )
        assert kept.count(letter) >= text.count(letter) - in_fence_lines


def test_windows_line_ends_are_plain_line_ends() -> None:
    assert split("a\r\n\r\n```\r\nx\r\n```\r\n") == split("a\n\n```\nx\n```\n")


def test_unclosed_code_is_code() -> None:
    assert split("```python\nx = 1") == [MarkdownBlock("code", "x = 1", "python")]


def test_finished_blocks_come_at_once() -> None:
    splitter = MarkdownSplitter()
    assert splitter.feed("one\n") == []
    assert splitter.feed("\ntwo") == [MarkdownBlock("text", "one")]
    assert splitter.tail == MarkdownBlock("text", "two")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **bo", "a **bo**"),
        ("a **", "a "),
        ("a `co", "a `co`"),
        ("a\n``", "a"),
        ("a\n```py", "a"),
        ("a\n--", "a"),
        ("a\n1.", "a"),
        ("- x\n\ny", "- x\n\ny"),
    ],
)
def test_tail_holds_back_what_may_become_something_else(text: str, shown: str) -> None:
    splitter = MarkdownSplitter()
    splitter.feed(text)
    assert splitter.tail is not None
    assert splitter.tail.text == shown


def test_tail_of_code_hides_the_closing_fence() -> None:
    splitter = MarkdownSplitter()
    splitter.feed("```js\nlet a;\n``")
    assert splitter.tail == MarkdownBlock("code", "let a;", "js")


def test_long_list_is_cut_between_items() -> None:
    item = "- " + "word " * 40 + "\n"
    blocks = split(item * 20)
    assert len(blocks) > 1
    assert [block.joined for block in blocks] == [False] + [True] * (len(blocks) - 1)
    assert max(len(block.text) for block in blocks) < LONG_LIST_CHARS + 2 * len(item)
    assert "\n".join(block.text for block in blocks) == (item * 20).rstrip("\n")
