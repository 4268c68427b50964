"""Which model answers: changes it in mid-conversation, and goes back when the new one fails.

Lives in the GUI thread. Owns the order of things: an answer that is being written ends first, and a
choice is remembered only when the model has opened.
"""

import logging
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from app.inference.controller import ReplyController
from app.inference.worker import ModelCard, OpenProblem
from app.main_window import MainWindow
from app.preferences import Preferences

_log = logging.getLogger("fireside.models")


class ModelSwitch(QObject):
    """Opens models one after another.

    Signals:
        changed(): `answering`, `wanted` or `waits` is another now.
        opened(Path): the model in this folder answers from now on.
        refused(Path, str, bool): it could not be opened, why, and whether a person may insist.
    """

    changed = Signal()
    opened = Signal(object)
    refused = Signal(object, str, bool)

    def __init__(
        self,
        window: MainWindow,
        controller: ReplyController,
        preferences: Preferences,
        demo_folder: Path,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._window = window
        self._controller = controller
        self._preferences = preferences
        self._demo_folder = demo_folder
        self._answering: ModelCard | None = None
        self._wanted: Path | None = None
        self._anyway = False
        # Where to go back to; None when there is nothing better than what failed.
        self._former: Path | None = None
        # Whether a person chose it here, which is remembered.
        self._chosen = False
        # What was said last of a model that could not be opened.
        self._complaint = ""
        controller.model_opened.connect(self.on_model_opened)
        controller.model_failed.connect(self.on_model_failed)
        controller.opening_progressed.connect(self.on_opening_progressed)
        controller.state_changed.connect(self.on_state_changed)

    @property
    def answering(self) -> Path | None:
        """Where the model is that answers now; None while none does."""
        return self._answering.folder if self._answering else None

    @property
    def wanted(self) -> Path | None:
        """Where the model is that will answer next; None while nothing changes."""
        return self._wanted

    @property
    def waits(self) -> bool:
        """Whether the next model waits for the end of an answer."""
        return self._wanted is not None and self._answering is not None

    def start(self, folder: Path) -> None:
        """Open the first model; when it fails, the demo model answers instead."""
        self._former = self._demo_folder
        self._want(folder, anyway=False, chosen=False)

    @Slot(object, bool)
    def use(self, folder: Path, anyway: bool = False) -> None:
        """Let the model in `folder` answer, after the answer that is being written.

        Asked for a second time, it does not wait for that answer any longer. `anyway` is a person
        who insists.
        """
        if folder == self.answering and self._wanted is None:
            return
        if folder == self._wanted:
            if self.waits:
                self._controller.stop()
            return
        if self._answering is not None:
            self._former = self._answering.folder
        self._want(folder, anyway=anyway, chosen=True)

    @Slot()
    def stay(self) -> None:
        """Let the model go on answering that has answered so far, be the next one half open."""
        if self.waits:
            self._wanted = None
            self.changed.emit()
            return
        former, self._former = self._former or self._demo_folder, None
        if self._wanted not in (None, former):
            self._want(former, anyway=True, chosen=False)

    @Slot(str)
    def on_state_changed(self, state: str) -> None:
        """An answer has ended: what waited for that goes on."""
        if state == "idle" and self.waits:
            self._open()

    @Slot(str, str, float)
    def on_opening_progressed(self, stage: str, sentence: str, fraction: float) -> None:
        """It is being loaded, or checked before anybody is told what it says."""
        self._window.set_model_label(sentence, "")

    @Slot(object)
    def on_model_opened(self, card: ModelCard) -> None:
        """It answers from now on."""
        if self._chosen:
            is_demo = card.folder == self._demo_folder
            self._preferences.model_folder = None if is_demo else card.folder
            if self._window.composer.status.text() == self._complaint:
                self._window.set_status("")
        self._answering = card
        self._wanted = None
        self._window.set_model_label(card.name, card.note)
        self.opened.emit(card.folder)
        self.changed.emit()

    @Slot(object)
    def on_model_failed(self, problem: OpenProblem) -> None:
        """Say what to do, and go back to the model before, where there is one."""
        self._wanted = None
        former, self._former = self._former, None
        self.refused.emit(problem.folder, problem.sentence, problem.can_override)
        self._complaint = problem.sentence
        self._window.set_status(problem.sentence)
        if former is None or former == problem.folder:
            self._window.set_model_label("No model", "")
            self.changed.emit()
            return
        _log.warning("%s was not opened: %s", problem.folder, problem.sentence)
        self._want(former, anyway=True, chosen=False)

    def _want(self, folder: Path, *, anyway: bool, chosen: bool) -> None:
        self._wanted, self._anyway, self._chosen = folder, anyway, chosen
        if self._controller.state == "replying" and not self._controller.waits_for_model:
            self.changed.emit()
        else:
            self._open()

    def _open(self) -> None:
        assert self._wanted is not None
        self._answering = None
        self._window.set_model_label("Opening the model", "")
        self.changed.emit()
        self._controller.open_model(self._wanted, anyway=self._anyway)
