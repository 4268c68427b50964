"""A terminal in place of the screen: each line is typed into the window's real composer.

Lives in the GUI thread. Knows commands and lines; the window and the session do the rest.
"""

import os.path
import shlex
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot

from app.conversation.message import ChatMessage
from app.main_window import MainWindow
from app.session import ChatSession
from app.terminal.hand import ask, drop_files
from app.terminal.line_reader import LineReader
from app.terminal.narrator import Narrator

HELP = (
    "There is no screen, so the window runs unseen and this terminal is its composer.\n"
    "Type a question, or: /attach PATH   /stop   /new   /quit"
)

# Asks only after the session has finished what it is doing.
_QUEUED = Qt.ConnectionType.QueuedConnection


class TerminalComposer(QObject):
    """Feeds lines to the window; a question typed during a reply is asked after it.

    Signals:
        quit_requested(): the person wants to leave.
    """

    quit_requested = Signal()

    def __init__(
        self, window: MainWindow, session: ChatSession, narrator: Narrator, reader: LineReader
    ) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self._narrator = narrator
        self._replying = False
        self._waiting: list[str] = []
        session.question_asked.connect(self.on_question_asked)
        session.question_taken_back.connect(self.on_question_taken_back)
        session.answer_ended.connect(self.on_answer_ended)
        session.attachment_refused.connect(self.on_attachment_refused)
        session.attachments_known.connect(self.on_attachments_known, _QUEUED)
        reader.line_read.connect(self.on_line_read)
        reader.ended.connect(self.quit_requested)
        narrator.say(HELP)

    @Slot(str)
    def on_line_read(self, line: str) -> None:
        """Obey a command, or ask."""
        text = line.strip()
        command, _, rest = text.partition(" ")
        match command:
            case "":
                pass
            case "/quit":
                self.quit_requested.emit()
            case "/stop":
                self._waiting.clear()
                self._window.stop_requested.emit()
            case "/new":
                self._waiting.clear()
                self._replying = False
                self._window.new_chat_requested.emit()
                self._narrator.say("New chat.")
            case "/attach":
                self._attach(rest.strip())
            case _ if command.startswith("/") and not _is_there(Path(text)):
                self._narrator.say(f"There is no command {command}.\n{HELP}")
            case _:
                self._waiting.append(text)
                self._ask_next()

    @Slot(object)
    def on_question_asked(self, question: ChatMessage) -> None:
        """A reply is being made."""
        self._replying = True

    @Slot(object)
    def on_question_taken_back(self, question: ChatMessage) -> None:
        """Stop came before the model was there to read it; its files stay attached."""
        self._replying = False
        self._narrator.say("  (Taken back: the model is still loading.)")

    @Slot(object)
    def on_answer_ended(self, answer: ChatMessage) -> None:
        """Ask what was typed meanwhile."""
        self._replying = False
        self._ask_next()

    @Slot()
    def on_attachments_known(self) -> None:
        """Ask what waited for a file to be read."""
        self._ask_next()

    @Slot(object, str)
    def on_attachment_refused(self, path: Path, sentence: str) -> None:
        """A terminal has no chip to show the sentence on, nor one to remove."""
        self._narrator.say(sentence)
        self._window.composer.chips.on_remove_requested(path)

    def _ask_next(self) -> None:
        if self._waiting and not self._replying and not self._session.inspecting:
            ask(self._window, self._waiting.pop(0))

    def _attach(self, name: str) -> None:
        if not name:
            self._narrator.say("Which file? /attach PATH")
            return
        path = _typed_path(name)
        if not _is_there(path):
            self._narrator.say(f"There is no file {path}.")
        elif not drop_files(self._window, [path]):
            self._narrator.say(f"{path.name} was not accepted.")


def _typed_path(name: str) -> Path:
    """The file meant by a name as a person types it or a terminal pastes it: quoted or escaped."""
    plain = Path(os.path.expanduser(name)).absolute()
    if _is_there(plain):
        return plain
    try:
        words = shlex.split(name)
    except ValueError:  # an apostrophe in the name
        return plain
    return Path(os.path.expanduser(" ".join(words))).absolute()


def _is_there(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have counts as no."""
    # Path.exists raises for a name that is too long.
    return os.path.exists(path)
