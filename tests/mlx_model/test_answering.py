"""Replies of a model that is told what to say: stop strings, the thinking budget, every ending."""

import threading
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_model.answering import Answer, ThinkingBudget
from mlx_model.detokenizer import Detokenizer, TokenBytes
from mlx_model.events import Event, Notice, TextDelta, ThinkingDelta
from mlx_model.generation import decode
from mlx_model.messages import ReplySettings
from mlx_model.reply_parser import ReplyParser
from mlx_model.sampling import Sampler
from tests.mlx_model.byte_tokenizer import END, THINK, THINK_END, byte_tokenizer
from tests.mlx_model.scripted_model import SCRATCH_BYTES, ScriptedModel

TOKENIZER = byte_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER)
STOP = TOKENIZER.token_to_id(END)
MARKS = (TOKENIZER.token_to_id(THINK), TOKENIZER.token_to_id(THINK_END))
LAST_THOUGHT = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)
FORCED = f"{LAST_THOUGHT}\n</think>\n\n"


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


class Reply:
    """A model says `script` and stops; its thinking is open where the settings ask for it.

    `press_at`: Stop is pressed while that token of the reply is computed, counted from 1.

    Attributes:
        events, reason: what came of it, after `finish`.
        generated: how many tokens were drawn.
        held: how many tokens the cache counts.
    """

    def __init__(
        self,
        script: str | list[int],
        press_at: int | None = None,
        max_context: int = 10_000,
        **chosen: Any,
    ) -> None:
        chosen_settings = ReplySettings(**chosen)
        ids = ids_of(script) if isinstance(script, str) else script
        self.model = ScriptedModel([*ids, STOP], prompt_tokens=0)
        self.cancel = threading.Event()
        self.model.on_call = lambda number: self.cancel.set() if number == press_at else None
        self._cache = self.model.make_cache()
        first = mx.zeros((1, self.model.vocabulary)).at[0, self.model.script[0]].add(10.0)
        mx.eval(first)
        tokens = decode(
            self.model,
            self._cache,
            first,
            Sampler(chosen_settings, TOKENIZER.get_vocab_size()),
            frozenset({STOP}),
            chosen_settings.max_tokens,
            max_context,
            self.cancel,
        )
        self._answer = Answer(
            tokens,
            Detokenizer(TOKEN_BYTES),
            ReplyParser(chosen_settings.thinking, MARKS, chosen_settings.stop),
            ThinkingBudget(chosen_settings.thinking_budget, TOKENIZER),
        )
        self.events: list[Event] = []
        self.reason = ""

    def finish(self) -> "Reply":
        """Take all events."""
        steps = self._answer.events()
        while True:
            try:
                self.events.append(next(steps))
            except StopIteration as end:
                self.reason = end.value
                return self

    @property
    def generated(self) -> int:
        return self._answer.generated_tokens

    @property
    def held(self) -> int:
        return self._cache.length

    @property
    def said(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def thought(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ThinkingDelta))

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    @property
    def steps(self) -> list[list[int]]:
        """The token ids of each call of the model; the last may have been written down only."""
        return [call.ids for call in self.model.calls]


def reply(script: str | list[int], **options: Any) -> Reply:
    return Reply(script, **options).finish()


@pytest.mark.parametrize(
    ("script", "stop", "shown"),
    [
        ("One. Two. Three.", ["Two"], "One."),
        ("One. Two. Three.", ["Four"], "One. Two. Three."),
        ("One. Two. Three.", ["three", "Three"], "One. Two."),
        ("xaab", ["aab", "ab"], "x"),
        ("xaab", ["ab", "aab"], "x"),
        ("Stop", ["Stop"], ""),
        ("Stop and go", ["Stop"], ""),
        ("One. Tw", ["Two"], "One. Tw"),
        ("Un café noir", ["é"], "Un caf"),
        ("Un café noir", ["fé n"], "Un ca"),
        ("日本 🙂🙃 語", ["🙃"], "日本 🙂"),
        ("日本 🙂 語", ["🙃"], "日本 🙂 語"),  # their first three bytes are the same
        ("One.\n\nTwo.", ["\n\n"], "One."),
        ("One.\nTwo.\n\nThree.", ["\n\n"], "One.\nTwo."),
        ("\n\nOne.\n\nTwo.", ["\n\n"], "One."),  # blank lines before an answer are none of it
        ("\nUser: hm", ["\nUser:"], ""),
        ("One. <think> Two.", ["<think>"], "One."),
        ("One. \nTwo", ["T"], "One."),
        ("the the thee", ["thee"], "the the"),
    ],
)
def test_an_answer_ends_before_a_stop_string(script: str, stop: list[str], shown: str) -> None:
    result = reply(script, stop=tuple(stop))
    assert (result.said, result.reason, result.notices) == (shown, "stop", [])


def test_an_answer_that_is_all_stop_string_is_empty_without_a_complaint() -> None:
    assert reply("Stop", stop=("Stop",)).events == []
    assert reply("hm</think>\n\nStop", stop=("Stop",), thinking=True).notices == []


def test_nothing_is_computed_after_a_stop_string() -> None:
    # The first token needs no step of the model: its logits are the prompt's.
    stopped = Reply("abc", stop=("a",))
    going_on = Reply("abc", stop=("b",))
    for result, computes in ((going_on, True), (stopped, False)):
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        result.finish()
        assert (mx.get_peak_memory() - before >= SCRATCH_BYTES) is computes
    assert (stopped.generated, stopped.held) == (1, 0)
    assert (going_on.generated, going_on.held) == (2, 1)


def test_the_tokens_of_a_stop_string_stand_in_the_cache_but_for_the_last() -> None:
    result = reply("One. Two. Three.", stop=(". Th",))
    drawn = len(ids_of("One. Two. Th"))
    assert (result.said, result.generated, result.held) == ("One. Two", drawn, drawn - 1)


def test_a_possible_beginning_is_not_shown_before_it_is_clear() -> None:
    result = reply("Un, Us. Used User? User: x", stop=("User:",))
    assert result.said == "Un, Us. Used User?"
    seen = ""
    for event in result.events:
        assert isinstance(event, TextDelta)
        seen += event.text
        assert not seen.endswith(("U", "Us", "Use", "User"))


HELD_BACK = len(ids_of("It is Us"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_tokens": HELD_BACK}, "length"),
        ({"max_context": HELD_BACK}, "context_full"),
        ({"press_at": HELD_BACK}, "cancelled"),
    ],
)
def test_what_was_held_back_is_shown_whatever_ends_the_reply(
    options: dict[str, int], reason: str
) -> None:
    result = reply("It is Usual", stop=("User",), **options)
    assert (result.said, result.reason) == ("It is Us", reason)


def test_stop_strings_are_not_looked_for_in_the_thinking() -> None:
    result = reply("One. Two.\n</think>\n\nTwo. One.", thinking=True, stop=("Two", " One"))
    assert (result.thought, result.said) == ("One. Two.", "")
    result = reply("I say T</think>wo", thinking=True, stop=("Two", "y Two"))
    assert (result.thought, result.said) == ("I say T", "wo")


def test_a_stop_string_wins_over_the_last_allowed_token() -> None:
    drawn = len(ids_of("One. Two"))
    for limit in ({"max_tokens": drawn}, {"max_context": drawn}, {"press_at": drawn}):
        result = reply("One. Two. Three.", stop=("Two",), **limit)
        assert (result.said, result.reason) == ("One.", "stop")
    for limit, reason in (
        ({"max_tokens": drawn - 1}, "length"),
        ({"max_context": drawn - 1}, "context_full"),
        ({"press_at": drawn - 1}, "cancelled"),
    ):
        result = reply("One. Two. Three.", stop=("Two",), **limit)
        assert (result.said, result.reason) == ("One. Tw", reason)


WORDS = st.lists(st.sampled_from(["a", "b", "ab", "é", "🙂", "€", " ", "\n"]), max_size=12)
STOPS = st.lists(st.sampled_from(["ab", "aab", "b\n", "é", "🙂", "a🙂", "€ ", "\n\n"]), max_size=3)


@settings(deadline=None, max_examples=60)
@given(WORDS, STOPS, st.integers(1, 40))
def test_stop_strings_and_unfinished_characters_in_every_combination(
    words: list[str], stops: list[str], limit: int
) -> None:
    text = "".join(words)
    result = reply(text, stop=tuple(stops), max_tokens=limit)
    assert "\ufffd" not in result.said
    assert text.strip().startswith(result.said.strip())
    assert not any(stop in result.said for stop in stops)
    whole = len(ids_of(text)) < limit
    if whole and not any(stop in text for stop in stops):
        assert result.said.strip() == text.strip()


def test_only_bytes_that_are_no_character_are_replaced() -> None:
    euro, letter = ids_of("€"), ids_of("x")
    assert reply([*euro[:-1], *letter]).said == "\ufffdx"
    assert reply([*letter, *euro[:-1]]).said == "x"
    assert reply([*letter, *euro[:-1]], stop=("xy", "€")).said == "x"
    assert reply([*euro[:-1], *letter], stop=("\ufffdx",)).said == ""


THOUGHT = ids_of("Is it red? Or blue? Or green?")
FORCED_IDS = ids_of(FORCED)


def thinks_for(budget: int, answer: str) -> list[int]:
    """A script with room, which the model never gets to, for what ends its thinking."""
    return [*THOUGHT[:budget], *[STOP] * len(FORCED_IDS), *ids_of(answer)]


@pytest.mark.parametrize(
    ("budget", "limit"), [(1, "1 token"), (5, "5 tokens"), (len(THOUGHT), f"{len(THOUGHT)} tokens")]
)
def test_a_thinking_that_has_spent_its_budget_is_ended_and_answered(
    budget: int, limit: str
) -> None:
    result = reply(thinks_for(budget, "Red."), thinking=True, thinking_budget=budget)
    assert result.thought == TOKENIZER.decode(THOUGHT[:budget]) + LAST_THOUGHT
    assert (result.said, result.reason) == ("Red.", "stop")
    assert result.notices == [f"The thinking was ended at its limit of {limit}."]
    kinds = [type(event) for event in result.events]
    notice = kinds.index(Notice)
    assert set(kinds[:notice]) == {ThinkingDelta}
    assert set(kinds[notice + 1 :]) == {TextDelta}


def test_what_ends_the_thinking_is_read_in_one_step_and_counts_in_the_cache() -> None:
    result = reply(thinks_for(5, "Red."), thinking=True, thinking_budget=5)
    answer = ids_of("Red.")
    assert result.generated == 5 + len(answer)
    assert result.held == 5 + len(FORCED_IDS) + len(answer)
    (forced,) = [step for step in result.steps if len(step) > 1]
    assert forced == [THOUGHT[4], *FORCED_IDS]


def test_a_thinking_within_its_budget_is_left_alone() -> None:
    script = "Is it red?\n</think>\n\nRed."
    for budget in (None, len(ids_of("Is it red?\n")) + 1, 10_000):
        result = reply(script, thinking=True, thinking_budget=budget)
        assert (result.thought, result.said, result.notices) == ("Is it red?", "Red.", [])
        assert all(len(step) == 1 for step in result.steps)


def test_the_answer_has_no_budget() -> None:
    result = reply("hm</think>One two three four.", thinking=True, thinking_budget=4)
    assert result.said == "One two three four."
    result = reply("One two three four.", thinking_budget=0)
    assert (result.said, result.notices) == ("One two three four.", [])


def test_a_model_that_thinks_unasked_has_the_same_budget() -> None:
    opened = [MARKS[0], *THOUGHT[:3]]
    script = [*opened, *[STOP] * len(FORCED_IDS), *ids_of("Red.")]
    result = reply(script, thinking_budget=3)
    assert result.thought == TOKENIZER.decode(THOUGHT[:3]) + LAST_THOUGHT
    assert (result.said, result.reason) == ("Red.", "stop")


def test_no_budget_at_all_closes_a_thinking_before_it_begins() -> None:
    closed = ids_of("\n\n</think>\n\n")  # what the template writes when thinking is off
    result = reply([MARKS[0], *[STOP] * len(closed), *ids_of("Red.")], thinking_budget=0)
    assert (result.thought, result.said, result.notices) == ("", "Red.", [])
    assert result.steps[1] == [MARKS[0], *closed]


def test_a_character_that_the_budget_cuts_is_never_shown() -> None:
    script = ids_of("ok🙂 fine")
    cut = len(ids_of("ok🙂")) - 1
    script = [*script[:cut], *[STOP] * len(FORCED_IDS), *ids_of("Red.")]
    result = reply(script, thinking=True, thinking_budget=cut)
    assert result.thought == "ok" + LAST_THOUGHT
    assert result.said == "Red."


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_tokens": 5}, "length"),
        ({"press_at": 5}, "cancelled"),
        ({"max_context": 5}, "context_full"),
        ({"max_context": 5 + len(FORCED_IDS)}, "context_full"),
    ],
)
def test_a_reply_that_ends_with_its_budget_is_not_made_to_answer(
    options: dict[str, int], reason: str
) -> None:
    result = reply(thinks_for(5, "Red."), thinking=True, thinking_budget=5, **options)
    assert (result.reason, result.said) == (reason, "")
    assert result.thought == TOKENIZER.decode(THOUGHT[:5])
    assert (result.generated, result.held) == (5, 4)
    assert all(len(step) == 1 for step in result.steps)
    assert len(result.notices) == (reason != "cancelled")
    assert all("no answer" in sentence for sentence in result.notices)


def test_a_reply_may_end_right_after_its_thinking_was_ended() -> None:
    room = 5 + len(FORCED_IDS) + 1
    result = reply(thinks_for(5, "Red."), thinking=True, thinking_budget=5, max_context=room)
    assert (result.reason, result.said) == ("context_full", "R")
    result = reply(thinks_for(5, "Red."), thinking=True, thinking_budget=5, max_tokens=6)
    assert (result.reason, result.said) == ("length", "R")
    result = reply(thinks_for(5, "Red."), thinking=True, thinking_budget=5, stop=("R",))
    assert (result.reason, result.said) == ("stop", "")


def test_a_model_that_has_nothing_to_say_after_its_thinking_was_ended() -> None:
    result = reply(thinks_for(5, ""), thinking=True, thinking_budget=5)
    assert result.thought == TOKENIZER.decode(THOUGHT[:5]) + LAST_THOUGHT
    assert (result.reason, result.said, result.held) == ("stop", "", 5 + len(FORCED_IDS))
    limit, missing = result.notices
    assert "limit of 5" in limit
    assert "without an answer" in missing


def test_a_thinking_that_opens_again_is_closed_without_further_words() -> None:
    closed = ids_of("\n\n</think>\n\n")
    again = [MARKS[0], *[STOP] * len(closed)]
    script = [*THOUGHT[:2], *[STOP] * len(FORCED_IDS), *again, *again, *ids_of("Red.")]
    result = reply(script, thinking=True, thinking_budget=2)
    assert result.thought == TOKENIZER.decode(THOUGHT[:2]) + LAST_THOUGHT
    assert (result.said, result.reason, len(result.notices)) == ("Red.", "stop", 1)
    *_, second, third = [step for step in result.steps if len(step) > 1]
    assert second == third == [MARKS[0], *closed]


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("reason", ["stop", "length", "context_full", "cancelled"])
@pytest.mark.parametrize("said", range(1, 9))
def test_every_ending_in_every_phase(thinking: bool, reason: str, said: int) -> None:
    script = ids_of("hm</think>\n\nRed 🙂!") if thinking else ids_of("Red 🙂!!!")
    options = {"length": "max_tokens", "context_full": "max_context", "cancelled": "press_at"}
    if reason == "stop":
        result = reply(script[:said], thinking=thinking)
    else:
        result = reply(script, thinking=thinking, **{options[reason]: said})
    assert (result.reason, result.generated) == (reason, said)
    assert result.held == (said if reason == "stop" else said - 1)
    assert "\ufffd" not in result.said + result.thought
    missing = not result.said and reason != "cancelled"
    still_thinking = thinking and MARKS[1] not in script[:said]
    assert bool(result.notices) == (missing and (reason == "stop" or still_thinking))
