"""One chat in one window: takes what the window submits, asks for replies, keeps the turns.

Lives in the GUI thread. Owns the conversation; knows no engine and no thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal, Slot
from PySide6.QtGui import QImage

from app.conversation.conversation import Conversation
from app.conversation.detail import PictureDetail
from app.conversation.message import Attachment, ChatMessage
from app.draft_files import DraftFiles
from app.inference.controller import ReplyController
from app.inference.inspection import Inspection
from app.inference.inspector import Inspector
from app.main_window import MainWindow

# Longer than any disk takes that is awake, shorter than anybody would press Send again.
_PATIENCE_MS = 300
_WAITS = "Sends as soon as the files are read. Esc takes that back."


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A sample to try from the first screen: a file and a question about it."""

    path: Path
    question: str


class ChatSession(QObject):
    """Carries one conversation between the window, the inspector and the controller.

    Signals:
        question_asked(ChatMessage): a question left the composer.
        question_taken_back(ChatMessage): it is in the composer again, before anybody read it.
        answer_ended(ChatMessage): its answer is complete, was stopped, or broke off.
        attachment_refused(Path, str): a file of the draft cannot be sent; the sentence says why.
        attachments_known(): nothing in the draft is being inspected any more.
        model_offered(Path): what was taken for a file is a folder with a model.
    """

    question_asked = Signal(object)
    question_taken_back = Signal(object)
    answer_ended = Signal(object)
    attachment_refused = Signal(object, str)
    attachments_known = Signal()
    model_offered = Signal(object)

    def __init__(
        self,
        window: MainWindow,
        controller: ReplyController,
        inspector: Inspector,
        suggestions: Mapping[str, Suggestion],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._window = window
        self._controller = controller
        self._inspector = inspector
        self._suggestions = suggestions
        self._conversation = Conversation()
        self._files = DraftFiles(window, inspector, self)
        self._files.refused.connect(self.attachment_refused)
        self._files.settled.connect(self.on_files_settled)
        # What the answer was that is being made again.
        self._answer_before: ChatMessage | None = None
        # True after Send while an attachment is still being inspected.
        self._send_when_ready = False
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(_PATIENCE_MS)
        self._patience.timeout.connect(self.on_patience_over)

    @property
    def conversation(self) -> Conversation:
        """The turns so far."""
        return self._conversation

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What was found out about the draft's attachments so far."""
        return self._files.attachments

    @property
    def inspecting(self) -> bool:
        """True while an attachment of the draft is being inspected."""
        return self._files.reading

    def show_suggestions(self) -> None:
        """Fill the cards of the first screen as soon as the samples have been read."""
        for suggestion in self._suggestions.values():
            self._inspector.inspect(suggestion.path)

    @Slot(object)
    def on_files_offered(self, paths: Iterable[Path]) -> None:
        """Files were dropped, pasted or chosen: make chips of those that have none."""
        self._files.offer(paths)

    @Slot(object)
    def on_image_pasted(self, image: QImage) -> None:
        """A picture without a file was pasted."""
        self._files.paste(image)

    @Slot(object)
    def on_attachment_removed(self, path: Path) -> None:
        """A chip was taken away; a message that waited for it is not sent by itself any more."""
        self._files.remove(path)
        self._wait(False)
        # Whatever the status said of the files, it was said of others than these.
        self._window.set_status("")
        self._work_ahead()

    @Slot(object, object)
    def on_inspected(self, path: Path, found: Inspection) -> None:
        """What a file is has been found out: one of the draft's, or a sample."""
        for kind, suggestion in self._suggestions.items():
            if suggestion.path == path and found.thumbnail is not None:
                images = list(found.filmstrip) or [found.thumbnail]
                self._window.set_suggestion(kind, suggestion.question, images)
        if found.is_model and path in self._files.paths:
            self._files.remove(path)
            self._window.remove_chip(path)
            self.model_offered.emit(path)
            return
        self._files.take(path, found)

    @Slot()
    def on_files_settled(self) -> None:
        """Nothing in the draft is being read any more: send what waits for that."""
        self.attachments_known.emit()
        if self._send_when_ready:
            self._wait(False)
            self._window.composer.on_send_pressed()
        self._work_ahead()

    @Slot()
    def on_patience_over(self) -> None:
        """What should have been a glance at the disk takes its time: say what is waited for."""
        self._window.set_status(_WAITS)

    @Slot(str, object, bool)
    def on_message_submitted(self, text: str, attachments: object, thinking: bool) -> None:
        """Send was pressed: take the draft if every attachment can be read, else leave it all."""
        if self._controller.state == "replying" or not (
            text.strip() or self.inspecting or self._files
        ):
            return
        readiness = self._files.check()
        if readiness == "ready":
            self._ask(text.strip(), thinking)
        elif readiness == "waiting":
            self._wait(True)

    @Slot(str)
    def on_detail_chosen(self, detail: PictureDetail) -> None:
        """The pictures of this chat are to be looked at that closely."""
        self._files.set_detail(detail)
        self._work_ahead()

    @Slot()
    def on_stop_requested(self) -> None:
        """Stop was pressed: what nobody has begun to read goes back into the composer."""
        if self._send_when_ready:
            self._wait(False)
        elif self._controller.waits_for_model:
            self._take_back()
        else:
            self._controller.stop()

    @Slot()
    def on_regenerate_requested(self) -> None:
        """Again was pressed: ask the last question once more."""
        if self._controller.state == "replying":
            return
        turn = self._conversation.reopen(self._window.composer.think_button.isChecked())
        if turn is None:
            return
        self._answer_before = turn.answer
        self._wait(False)
        if self._draft_is(turn.question):
            # A question that failed went back to the draft; it is being asked now.
            self._clear_draft()
        self._window.remove_reply()
        self._request_reply()

    @Slot()
    def on_new_chat_requested(self) -> None:
        """New chat was chosen; the draft stays, and is not sent there by itself."""
        self._wait(False)
        self._controller.abandon()
        self._conversation.clear()
        self._window.clear()
        self._window.set_busy(False)
        self._window.set_status("")
        self._work_ahead()

    @Slot(str)
    def on_suggestion_chosen(self, kind: str) -> None:
        """A sample of the first screen was clicked: ask about it, as soon as it is read.

        A question that somebody has begun to write is kept: the sample only joins it.
        """
        suggestion = self._suggestions.get(kind)
        if suggestion is None or self._controller.state == "replying":
            return
        self.on_files_offered([suggestion.path])
        if self._draft_text() in ("", suggestion.question):
            self._window.set_draft(suggestion.question)
            self._window.composer.on_send_pressed()

    @Slot()
    def on_model_changed(self) -> None:
        """Another model answers from now on: its counts of tokens are others."""
        self._files.read_again()

    @Slot()
    def on_model_opened(self) -> None:
        """A model is ready: let it read what is there."""
        self._work_ahead()

    @Slot()
    def on_draft_read(self) -> None:
        """The model has read the files of the draft."""
        self._files.set_read()

    @Slot(str, float)
    def on_progress_changed(self, sentence: str, fraction: float) -> None:
        """Something is being done before the first word."""
        self._window.set_progress(sentence, fraction if fraction >= 0 else None)

    @Slot(object)
    def on_reply_finished(self, message: ChatMessage) -> None:
        """The reply ended."""
        if message.stopped and not message.text and self._bring_back():
            return
        self._conversation.answer(message)
        self._window.finish_reply(message)
        self._end_reply(message)

    @Slot(object)
    def on_reply_failed(self, message: ChatMessage) -> None:
        """The reply broke off."""
        if not message.text and self._bring_back():
            self._window.set_status(message.problem or "")
            return
        self._conversation.answer(message)
        self._window.fail_reply(message.problem or "")
        self._end_reply(message)

    @Slot(object)
    def on_files_left_out(self, paths: tuple[Path, ...]) -> None:
        """Files of earlier questions have gone since; the answer does without them."""
        turns = self._conversation.turns
        names = {item.path: item.name for turn in turns for item in turn.question.attachments}
        gone = ", ".join(names[path] for path in paths if path in names)
        what = "is no longer there and was" if len(paths) == 1 else "are no longer there and were"
        self._window.set_status(f"{gone} {what} left out.")

    def _bring_back(self) -> bool:
        """Show the answer again in whose place nothing came; False if there was none."""
        before = self._answer_before
        if before is None or not before.text:
            return False
        self._conversation.answer(before)
        self._window.remove_reply()
        self._window.begin_reply()
        self._window.finish_reply(before)
        self._end_reply(before)
        return True

    def _end_reply(self, message: ChatMessage) -> None:
        self._answer_before = None
        self._window.set_busy(False)
        turn = self._conversation.last
        if turn is not None and turn.failed:
            self._give_back(turn.question)
        self.answer_ended.emit(message)
        self._work_ahead()

    def _work_ahead(self) -> None:
        """Let the model use the time until Send: the draft's files, the answer in its next form."""
        if not self._files.reading:
            good = [item for item in self.attachments if item.problem is None]
            turns = self._conversation.turns_to_read
            self._controller.work_ahead(turns, good, self._files.detail)

    def _give_back(self, question: ChatMessage) -> None:
        """Put a question that was not answered back into the composer, unless it is in use."""
        if not self._draft_text() and not self._files:
            self._return_to_draft(question)

    def _take_back(self) -> None:
        """Before the model is loaded a question can still be changed: back with it."""
        self._controller.abandon()
        if self._bring_back():
            return
        question = self._conversation.withdraw().question
        self._window.take_back_question()
        self._window.set_busy(False)
        self._return_to_draft(question)
        self.question_taken_back.emit(question)

    def _return_to_draft(self, question: ChatMessage) -> None:
        """Put a question before whatever has been written since."""
        since = self._draft_text()
        self._window.set_draft(f"{question.text}\n{since}" if since else question.text)
        self._files.offer(attachment.path for attachment in question.attachments)

    def _draft_text(self) -> str:
        return self._window.composer.draft.toPlainText().strip()

    def _draft_is(self, question: ChatMessage) -> bool:
        paths = [attachment.path for attachment in question.attachments]
        return self._draft_text() == question.text and self._files.paths == paths

    def _wait(self, waiting: bool) -> None:
        if waiting != self._send_when_ready:
            self._send_when_ready = waiting
            self._window.set_waiting(waiting)
            self._window.set_status(_WAITS if waiting and self._files.pending else "")
            if waiting:
                self._patience.start()
            else:
                self._patience.stop()

    def _ask(self, text: str, thinking: bool) -> None:
        question = ChatMessage("user", text, attachments=self.attachments)
        thumbnails = self._files.thumbnails()
        self._conversation.ask(question, thinking)
        self._answer_before = None
        self._clear_draft()
        self._window.set_status("")
        self._window.add_user_message(question, thumbnails)
        self.question_asked.emit(question)
        self._request_reply()

    def _request_reply(self) -> None:
        self._window.begin_reply()
        self._window.set_busy(True)
        self._controller.start_reply(self._conversation.turns_to_read, self._files.detail)

    def _clear_draft(self) -> None:
        self._files.clear()
        self._window.clear_composer()
