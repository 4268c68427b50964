"""Streaming ids to text: whole characters, the same text as decoding at once, linear time."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_model.detokenizer import Detokenizer, TokenBytes
from tests.mlx_model.byte_tokenizer import END, THINK, byte_tokenizer

TOKENIZER = byte_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER)
VOCABULARY = TOKENIZER.get_vocab_size()


def pieces(token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(TOKEN_BYTES)
    return [detokenizer.feed(token_id) for token_id in token_ids]


@pytest.mark.parametrize(
    "text",
    ["plain words", "déjà vu €5", "日本語のテキスト", "🙂 👩‍👩‍👧 🇨🇦", "a\u0301", "\n\n\t  x "],
)
def test_text_comes_out_as_it_went_in(text: str) -> None:
    assert "".join(pieces(TOKENIZER.encode(text).ids)) == text


def test_an_emoji_of_four_bytes_appears_at_once() -> None:
    ids = TOKENIZER.encode("🙂").ids
    assert len(ids) == 3
    assert pieces(ids) == ["", "", "🙂"]


def test_an_unfinished_character_is_never_shown() -> None:
    ids = TOKENIZER.encode("ok €").ids
    for cut in range(1, len(ids)):
        assert "\ufffd" not in "".join(pieces(ids[:cut]))
    assert "".join(pieces(ids[:-1])) == "ok "


def test_bytes_that_cannot_become_a_character_are_replaced() -> None:
    euro = TOKENIZER.encode("€").ids
    letter = TOKENIZER.encode("x").ids
    assert "".join(pieces(euro[:-1] + letter)) == "\ufffdx"


def test_an_unfinished_character_can_be_dropped() -> None:
    detokenizer = Detokenizer(TOKEN_BYTES)
    for token_id in TOKENIZER.encode("🙂").ids[:-1]:
        assert detokenizer.feed(token_id) == ""
    detokenizer.drop_unfinished()
    assert detokenizer.feed(TOKENIZER.encode("x").ids[0]) == "x"


def test_control_tokens_are_silent_and_ordinary_added_tokens_are_their_text() -> None:
    end, think = TOKENIZER.token_to_id(END), TOKENIZER.token_to_id(THINK)
    assert pieces([end, think, VOCABULARY + 5]) == ["", THINK, ""]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=40))
def test_any_ids_give_what_decoding_at_once_gives(token_ids: list[int]) -> None:
    streamed = "".join(pieces(token_ids))
    whole = TOKENIZER.decode(token_ids, skip_special_tokens=True)
    assert whole in (streamed, streamed + "\ufffd")  # the last character may be unfinished


def test_time_grows_with_the_length_not_with_its_square() -> None:
    ids = TOKENIZER.encode("the cat sat on the mat, 日本. " * 400).ids

    def seconds(token_ids: list[int]) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            pieces(token_ids)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(ids * 8) < 40 * seconds(ids)  # 8 times the work; the square would be 64
