"""The sentences and figures shown about a reply."""

import pytest

from app.inference.wording import ending_sentence, footnote, progress_fraction, progress_sentence
from mlx_model.events import Progress, ReplyStats


def test_progress_says_what_is_looked_at() -> None:
    assert progress_sentence(Progress("looking", 2, 5), "the clip") == "Looking at the clip, 40 %"
    assert (
        progress_sentence(Progress("looking", 0, 5), "") == "Looking at the earlier pictures, 0 %"
    )
    assert progress_sentence(Progress("reading", 400, 1000), "the clip") == "Reading, 40 %"


@pytest.mark.parametrize(("done", "total", "fraction"), [(0, 0, 0.0), (3, 2, 1.0), (1, 4, 0.25)])
def test_progress_stays_between_nothing_and_all(done: int, total: int, fraction: float) -> None:
    assert progress_fraction(Progress("reading", done, total)) == fraction


def test_the_footnote_uses_the_words_of_the_window() -> None:
    stats = ReplyStats(
        prompt_tokens=2990,
        read_tokens=41,
        generated_tokens=120,
        time_to_first_token_s=0.42,
        decode_tokens_per_s=24.3,
    )
    assert footnote(stats) == "read 41 of 2,990 · first word 0.4 s · 24 tokens/s"


def test_the_footnote_leaves_out_what_is_not_known() -> None:
    assert footnote(ReplyStats(prompt_tokens=50, read_tokens=50)) == "read 50 of 50"
    one = ReplyStats(prompt_tokens=9, read_tokens=9, generated_tokens=1, time_to_first_token_s=12.3)
    assert footnote(one) == "read 9 of 9 · first word 12 s"
    slow = ReplyStats(prompt_tokens=9, read_tokens=9, generated_tokens=5, decode_tokens_per_s=2.34)
    assert footnote(slow) == "read 9 of 9 · first word 0.0 s · 2.3 tokens/s"


def test_there_is_no_footnote_before_anything_was_counted() -> None:
    assert footnote(ReplyStats()) == ""
    assert footnote(ReplyStats(prompt_tokens=1_000_000)) == ""


def test_only_an_answer_that_was_cut_says_how_it_ended() -> None:
    stats = ReplyStats(generated_tokens=1024)
    assert ending_sentence("stop", stats) is None
    assert ending_sentence("cancelled", stats) is None
    cut = ending_sentence("length", stats)
    assert cut is not None
    assert "1,024 tokens" in cut
    assert "of 1 token " in (ending_sentence("length", ReplyStats(generated_tokens=1)) or "")
    full = ending_sentence("context_full", stats)
    assert full is not None
    assert "new chat" in full
