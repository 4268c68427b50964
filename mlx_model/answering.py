"""One reply from its first token to its last: what is shown of it, and what brings it to an end.

Owns the thinking budget and the sentences about replies without an answer; knows ids and text, no
model and no conversation.
"""

import time
from collections.abc import Generator, Sequence

from tokenizers import Tokenizer

from mlx_model.detokenizer import Detokenizer
from mlx_model.events import Event, FinishReason, Notice, TextDelta, ThinkingDelta
from mlx_model.generation import Tokens
from mlx_model.reply_parser import ReplyParser

Steps = Generator[Event, None, FinishReason]

_NO_ANSWER = {
    "stop": "The model stopped after thinking, without an answer. Ask again, or without thinking.",
    "length": (
        "The model was still thinking when it reached the longest reply allowed, so there is no "
        "answer. Allow a longer reply, or ask without thinking."
    ),
    "context_full": (
        "The model was still thinking when the conversation became as long as it can read, so "
        "there is no answer. Start a new chat, or ask without thinking."
    ),
}
_NO_WORD = "The model ended its reply without a word. Ask again in other words."

# What the model reads when its thinking is ended for it: the words that Qwen recommends for this
# (docs/source/getting_started/thinking_budget.md in QwenLM/Qwen3), then the template's own lines.
_LAST_THOUGHT = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the "
    "thinking directly now.\n</think>\n\n"
)
# The same for a thinking that has not begun: what the template writes when thinking is off.
_NO_THOUGHT = "\n\n</think>\n\n"


class ThinkingBudget:
    """Counts the tokens of the thinking and says what ends it when they are spent."""

    def __init__(self, tokens: int | None, tokenizer: Tokenizer) -> None:
        """`tokens` None is no bound."""
        self.tokens = tokens
        self._tokenizer = tokenizer
        self._spent = 0

    def ending(self, parser: ReplyParser, goes_on: bool) -> Sequence[int]:
        """The token ids that end the thinking now; none while there is no need.

        Call it after each token; `goes_on`: the token belongs to a thinking that was open before.
        """
        self._spent += goes_on
        if self.tokens is None or not parser.thinking or self._spent < self.tokens:
            return ()
        text = _LAST_THOUGHT if parser.thought else _NO_THOUGHT
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Answer:
    """Turns the tokens of one reply into events.

    Attributes:
        generated_tokens: how many the model has drawn.
        token_times_s: when the first and the latest of them came, None before the first.
    """

    def __init__(
        self, tokens: Tokens, text: Detokenizer, parser: ReplyParser, budget: ThinkingBudget
    ) -> None:
        self._tokens = tokens
        self._text = text
        self._parser = parser
        self._budget = budget
        self._asked_to_think = parser.thinking
        self.generated_tokens = 0
        self.token_times_s: tuple[float, float] | None = None

    def events(self) -> Steps:
        """Everything from the first token to the last; returns why the reply ended."""
        try:
            reason = yield from self._shown_tokens()
        finally:
            self._tokens.close()
        if self._parser.stopped:
            return reason
        rest = self._parser.finish()
        if rest is not None:
            yield rest
        sentence = self._missing_answer(reason)
        if sentence is not None:
            yield Notice(sentence)
        return reason

    def _shown_tokens(self) -> Steps:
        sent: Sequence[int] = ()
        while True:
            try:
                token_id = self._tokens.send(sent or None)
            except StopIteration as end:
                reason: FinishReason = end.value
                if sent and reason == "stop":  # any other end came before these were read
                    yield from self._ended_thinking(sent)
                return reason
            self._count()
            if sent:
                yield from self._ended_thinking(sent)
            was_thinking = self._parser.thinking
            delta = self._shown(token_id)
            if delta is not None:
                yield delta
            if self._parser.stopped:
                return "stop"
            sent = self._budget.ending(self._parser, goes_on=was_thinking)

    def _shown(self, token_id: int) -> ThinkingDelta | TextDelta | None:
        return self._parser.feed(token_id, self._text.feed(token_id))

    def _ended_thinking(self, sent: Sequence[int]) -> Generator[Event, None, None]:
        """The words that were put into the model's mouth belong to its thinking."""
        thought = self._parser.thought
        self._text.drop_unfinished()
        for token_id in sent:
            delta = self._shown(token_id)
            if delta is not None:
                yield delta
        if thought:
            limit = "1 token" if self._budget.tokens == 1 else f"{self._budget.tokens:,} tokens"
            yield Notice(f"The thinking was ended at its limit of {limit}.")

    def _missing_answer(self, reason: FinishReason) -> str | None:
        """What to say about a reply that never came to its answer."""
        parser = self._parser
        if parser.answered or reason == "cancelled" or not (parser.thinking or reason == "stop"):
            return None
        return _NO_ANSWER[reason] if parser.thinking or self._asked_to_think else _NO_WORD

    def _count(self) -> None:
        now_s = time.perf_counter()
        first_s = self.token_times_s[0] if self.token_times_s else now_s
        self.token_times_s = (first_s, now_s)
        self.generated_tokens += 1
