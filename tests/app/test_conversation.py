"""The rules about turns."""

import pytest

from app.conversation.conversation import Conversation
from app.conversation.message import ChatMessage


def question(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def answer(text: str, problem: str | None = None, stopped: bool = False) -> ChatMessage:
    return ChatMessage("assistant", text, problem=problem, stopped=stopped)


def test_a_question_needs_the_one_before_it_answered() -> None:
    conversation = Conversation()
    conversation.ask(question("one"), thinking=False)
    with pytest.raises(ValueError, match="no answer yet"):
        conversation.ask(question("two"), thinking=False)
    conversation.answer(answer("1"))
    conversation.ask(question("two"), thinking=True)
    assert [turn.question.text for turn in conversation.turns] == ["one", "two"]
    assert conversation.last is not None
    assert conversation.last.thinking


def test_an_answer_needs_a_question() -> None:
    conversation = Conversation()
    with pytest.raises(ValueError, match="no question"):
        conversation.answer(answer("1"))
    conversation.ask(question("one"), thinking=False)
    conversation.answer(answer("1"))
    with pytest.raises(ValueError, match="no question"):
        conversation.answer(answer("2"))


def test_the_model_never_reads_a_turn_that_failed_without_an_answer() -> None:
    conversation = Conversation()
    for text, reply in (
        ("fine", answer("yes")),
        ("failed", answer("", problem="The file is gone.")),
        ("cut", answer("half of", problem="The answer was cut.")),
        ("stopped", answer("", stopped=True)),
    ):
        conversation.ask(question(text), thinking=False)
        conversation.answer(reply)
    read = [turn.question.text for turn in conversation.turns_to_read]
    assert read == ["fine", "cut", "stopped"]
    assert len(conversation.turns) == 4


def test_asking_again_takes_only_the_last_answer_back() -> None:
    conversation = Conversation()
    assert conversation.reopen(thinking=False) is None
    for text in ("one", "two"):
        conversation.ask(question(text), thinking=False)
        conversation.answer(answer(text.upper()))
    turn = conversation.reopen(thinking=True)
    assert turn is not None
    assert turn.question.text == "two"
    assert [t.answer and t.answer.text for t in conversation.turns] == ["ONE", None]
    conversation.answer(answer("again"))
    assert conversation.turns[1].answer == answer("again")
    assert [t.thinking for t in conversation.turns] == [False, True]


def test_a_new_chat_is_empty() -> None:
    conversation = Conversation()
    conversation.ask(question("one"), thinking=False)
    conversation.clear()
    assert conversation.turns == ()
    assert conversation.last is None
