"""Plays a short tour through the real window with the real model, and judges the answers.

Lives in the GUI thread. Drops files, types and sends as a hand would; prints through the narrator
and leaves pictures of the window in a folder.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QDeadlineTimer, QObject, QSize, QTimer, Signal, Slot

from app.conversation.message import ChatMessage
from app.inference.controller import ReplyController
from app.main_window import MainWindow
from app.session import ChatSession
from app.terminal.hand import ask, drop_files
from app.terminal.narrator import Narrator
from app.terminal.tour_steps import TourStep, is_right
from app.theme_source import AppearanceChoice, ThemeSource

_POLL_MS = 20
# Long enough for a machine that is busy with other things; a tour takes a few seconds.
_PATIENCE_MS = 180_000
_WIDE = QSize(1180, 800)
_NARROW = QSize(480, 800)

_LAST_LOOKS: tuple[tuple[str, AppearanceChoice, QSize], ...] = (
    ("dark", "dark", _WIDE),
    ("dark-narrow", "dark", _NARROW),
    ("narrow", "light", _NARROW),
)


@dataclass(frozen=True, slots=True)
class _Until:
    """Something that the script waits for, and how to name it when it never comes."""

    condition: Callable[[], bool]
    what: str


_Script = Generator[_Until, None, None]


class Tour(QObject):
    """Runs once after `start`.

    Signals:
        ended(bool): true when every answer was right.
    """

    ended = Signal(bool)

    def __init__(
        self,
        window: MainWindow,
        session: ChatSession,
        controller: ReplyController,
        themes: ThemeSource,
        narrator: Narrator,
        steps: Sequence[TourStep],
        folder: Path,
    ) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self._controller = controller
        self._themes = themes
        self._narrator = narrator
        self._steps = steps
        self._folder = folder
        self._answer: ChatMessage | None = None
        self._right = 0
        self._pictures = 0
        self._script = self._play()
        self._waits_for: _Until | None = None
        self._deadline = QDeadlineTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self.on_poll)
        session.answer_ended.connect(self.on_answer_ended)

    def start(self) -> None:
        """Begin; `ended` follows."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("[0-9][0-9]-*.png"):
            old.unlink()
        self._timer.start()

    @Slot(object)
    def on_answer_ended(self, answer: ChatMessage) -> None:
        """The answer that the script waits for."""
        self._answer = answer

    @Slot()
    def on_poll(self) -> None:
        """Go on as soon as what the script waits for has come."""
        if self._waits_for is not None and not self._waits_for.condition():
            if self._deadline.hasExpired():
                self._end(f"Waited in vain for {self._waits_for.what}.")
            return
        try:
            self._waits_for = next(self._script)
        except StopIteration:
            self._end(f"{self._right} of {len(self._steps)} answers were right.")
            return
        self._deadline.setRemainingTime(_PATIENCE_MS)

    def _end(self, verdict: str) -> None:
        self._timer.stop()
        self._narrator.say(f"\n{verdict} Pictures of the window: {self._folder}")
        self.ended.emit(self._right == len(self._steps))

    def _play(self) -> _Script:
        self._show("light", _WIDE)
        yield _Until(lambda: self._controller.state in ("idle", "closed"), "the model to open")
        yield from self._settle()
        self._picture("first")
        for step in self._steps:
            yield from self._play_step(step)
        for name, appearance, size in _LAST_LOOKS:
            self._show(appearance, size)
            yield from self._settle()
            self._picture(name)

    def _play_step(self, step: TourStep) -> _Script:
        if step.file is not None:
            if not drop_files(self._window, [step.file]):
                self._narrator.say(f"The window refused {step.file.name}.")
            yield _Until(lambda: not self._session.inspecting, "the file to be read")
            self._window.set_draft(step.question)
            yield from self._settle()
            self._picture(f"{step.name}-draft")
        self._answer = None
        ask(self._window, step.question)
        yield _Until(lambda: self._answer is not None, f"the answer to “{step.question}”")
        yield from self._settle()
        self._picture(step.name)
        answer = self._answer
        if answer is not None and is_right(answer.text, step.expected):
            self._right += 1
        else:
            self._narrator.say(f"  Wrong: expected {', '.join(step.expected)}.")

    def _settle(self) -> _Script:
        """Let the window lay itself out and paint."""
        pause = QDeadlineTimer(150)
        yield _Until(pause.hasExpired, "the window to settle")

    def _show(self, appearance: AppearanceChoice, size: QSize) -> None:
        self._themes.set_choice(appearance)
        self._window.resize(size)

    def _picture(self, name: str) -> None:
        self._pictures += 1
        path = self._folder / f"{self._pictures:02d}-{name}.png"
        self._window.grab().save(str(path))
