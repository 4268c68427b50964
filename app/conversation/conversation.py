"""One conversation: the questions asked and what became of each.

Plain data with the few rules about turns. Knows neither Qt, nor the engine, nor how a turn looks.
"""

from dataclasses import dataclass, replace

from app.conversation.message import ChatMessage


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, whether it was asked with thinking, and the answer once there is one."""

    question: ChatMessage
    thinking: bool = False
    answer: ChatMessage | None = None

    @property
    def failed(self) -> bool:
        """True when nothing was answered because something went wrong; the model never reads it."""
        answer = self.answer
        return answer is not None and answer.problem is not None and not answer.text


class Conversation:
    """The turns of one chat, oldest first. Only the last one may be waiting for its answer."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, failed ones too."""
        return tuple(self._turns)

    @property
    def last(self) -> Turn | None:
        """The newest turn."""
        return self._turns[-1] if self._turns else None

    @property
    def turns_to_read(self) -> tuple[Turn, ...]:
        """The turns that a model should read for the next answer."""
        return tuple(turn for turn in self._turns if not turn.failed)

    def ask(self, question: ChatMessage, thinking: bool) -> None:
        """Begin a turn. The one before it must have ended."""
        if self._turns and self._turns[-1].answer is None:
            raise ValueError("the last question has no answer yet")
        self._turns.append(Turn(question, thinking))

    def answer(self, answer: ChatMessage) -> None:
        """End the last turn with an answer, a part of one, or one that carries only a problem."""
        if not self._turns or self._turns[-1].answer is not None:
            raise ValueError("no question is waiting for an answer")
        self._turns[-1] = replace(self._turns[-1], answer=answer)

    def withdraw(self) -> Turn:
        """Take the last question back before it is answered; raises ValueError when it was."""
        if not self._turns or self._turns[-1].answer is not None:
            raise ValueError("no question is waiting for an answer")
        return self._turns.pop()

    def reopen(self, thinking: bool) -> Turn | None:
        """Take the last answer back, so that its question can be asked again; None when empty.

        Returns the turn as it was.
        """
        if not self._turns:
            return None
        turn = self._turns[-1]
        self._turns[-1] = replace(turn, thinking=thinking, answer=None)
        return turn

    def clear(self) -> None:
        """Forget every turn."""
        self._turns.clear()
