"""Prints questions and answers of a chat as they come.

Lives in the GUI thread; listens, and changes nothing.
"""

from typing import TextIO

from PySide6.QtCore import QObject, Slot

from app.conversation.message import ChatMessage
from app.inference.controller import ReplyController
from app.inference.worker import ModelCard, OpenProblem
from app.session import ChatSession

_BACK_TO_AN_EMPTY_LINE = "\r\033[2K"


class Narrator(QObject):
    """Writes the chat to `output`: questions with their files, answers as they stream."""

    def __init__(self, controller: ReplyController, session: ChatSession, output: TextIO) -> None:
        super().__init__(session)
        self._output = output
        self._in_thinking = False
        self._shows_progress = False
        session.question_asked.connect(self.on_question_asked)
        session.answer_ended.connect(self.on_answer_ended)
        controller.model_opened.connect(self.on_model_opened)
        controller.model_failed.connect(self.on_model_failed)
        controller.progress_changed.connect(self.on_progress_changed)
        controller.thinking_arrived.connect(self.on_thinking_arrived)
        controller.text_arrived.connect(self.on_text_arrived)

    @Slot(object)
    def on_model_opened(self, card: ModelCard) -> None:
        """Say which model answers."""
        self.say(f"{card.name} ({card.note})" if card.note else card.name)

    @Slot(object)
    def on_model_failed(self, problem: OpenProblem) -> None:
        """Say why it does not."""
        self.say(problem.sentence)

    @Slot(str)
    def say(self, line: str) -> None:
        """Print a line of its own."""
        self._clear_progress()
        print(line, file=self._output, flush=True)

    @Slot(object)
    def on_question_asked(self, question: ChatMessage) -> None:
        """Show the question and what is attached to it."""
        files = "".join(f"[{attachment.name}] " for attachment in question.attachments)
        self.say(f"\n> {files}{question.text}")

    @Slot(str, float)
    def on_progress_changed(self, sentence: str, fraction: float) -> None:
        """Show progress in place, where the output is a terminal."""
        if self._output.isatty():
            self._write(sentence)
            self._shows_progress = True

    @Slot(str)
    def on_thinking_arrived(self, text: str) -> None:
        """Print more of the reasoning."""
        if not self._in_thinking:
            self._in_thinking = True
            self.say("Thinking:")
        self._write(text)

    @Slot(str)
    def on_text_arrived(self, text: str) -> None:
        """Print more of the answer."""
        if self._in_thinking:
            self._in_thinking = False
            self._write("\n\n")
        self._write(text)

    @Slot(object)
    def on_answer_ended(self, answer: ChatMessage) -> None:
        """Print how it ended and the figures."""
        self._in_thinking = False
        self._write("\n" if answer.text or answer.thinking else "")
        for line in (answer.problem, "Stopped." if answer.stopped else None, answer.footnote):
            if line:
                self.say(f"  ({line})")

    def _write(self, text: str) -> None:
        self._clear_progress()
        print(text, end="", file=self._output, flush=True)

    def _clear_progress(self) -> None:
        if self._shows_progress:
            self._shows_progress = False
            print(_BACK_TO_AN_EMPTY_LINE, end="", file=self._output)
