"""Models held against machines: who fits, how tightly, and what is said about it."""

import pytest

from mlx_model.library.fit import FEWEST_TOKENS, GIB, RESERVE_BYTES, USUAL_TOKENS, check_fit
from mlx_model.library.memory_needs import MemoryNeeds

# Close to the 4B: 3.1 GB of weights, 32 KiB a token.
NEEDS = MemoryNeeds(weights_bytes=3 * GIB, state_bytes=GIB // 16, bytes_a_token=32 * 1024)
FIXED = 3 * GIB + GIB // 16 + RESERVE_BYTES


def room_for(tokens: int) -> int:
    return FIXED + tokens * NEEDS.bytes_a_token


def test_with_room_for_a_usual_chat_a_model_fits() -> None:
    fit = check_fit(NEEDS, room_for(USUAL_TOKENS))
    assert fit.verdict == "fits"
    assert fit.needed_bytes == fit.allowed_bytes == room_for(USUAL_TOKENS)
    assert fit.tokens == USUAL_TOKENS
    assert fit.sentence == (
        "It needs 4.2 GB of memory for a chat of 4,096 tokens, and may use 4.2 GB here."
    )


def test_a_byte_less_is_tight_and_says_for_how_much_there_is_room() -> None:
    fit = check_fit(NEEDS, room_for(USUAL_TOKENS) - 1)
    assert (fit.verdict, fit.tokens) == ("tight", USUAL_TOKENS - 1)
    assert "chats of up to 4,095 tokens" in fit.sentence
    assert "Choose a smaller model" in fit.sentence


def test_without_room_for_a_conversation_it_is_too_large() -> None:
    assert check_fit(NEEDS, room_for(FEWEST_TOKENS)).verdict == "tight"
    fit = check_fit(NEEDS, room_for(FEWEST_TOKENS) - 1)
    assert fit.verdict == "too large"
    assert fit.sentence == (
        "It needs 4.2 GB of memory for a chat of 4,096 tokens, and 4.1 GB may be used here. "
        "Choose a smaller model."
    )


def test_what_other_programs_hold_counts_and_is_said() -> None:
    fit = check_fit(NEEDS, working_set_bytes=12 * GIB, free_bytes=2 * GIB)
    assert (fit.verdict, fit.tokens, fit.by_others) == ("too large", 0, True)
    assert "2.0 GB are free at the moment. Close other programs." in fit.sentence
    fit = check_fit(NEEDS, working_set_bytes=12 * GIB, free_bytes=room_for(1000))
    assert (fit.verdict, fit.tokens, fit.by_others) == ("tight", 1000, True)


def test_free_memory_that_the_engine_may_not_use_helps_nobody() -> None:
    fit = check_fit(NEEDS, working_set_bytes=2 * GIB, free_bytes=60 * GIB)
    assert (fit.verdict, fit.by_others) == ("too large", False)


@pytest.mark.parametrize("max_context", [256, 2048])
def test_a_model_made_for_short_chats_need_not_fit_longer_ones(max_context: int) -> None:
    fit = check_fit(NEEDS, room_for(max_context), max_context=max_context)
    assert (fit.verdict, fit.tokens) == ("fits", max_context)


def test_a_chat_is_never_longer_than_the_model_was_made_for() -> None:
    assert check_fit(NEEDS, 64 * GIB, max_context=4096).tokens == 4096
