"""The one place that builds the program's objects and connects their signals."""

import sys
from pathlib import Path

from PySide6.QtCore import QObject, Slot

from app.garbage import GarbageCollector
from app.inference.controller import ReplyController
from app.inference.inspector import Inspector
from app.inference.library_places import LibraryPlaces
from app.inference.model_library import ModelLibrary
from app.inference.shelf import Opening, Refusal
from app.inference.worker import Opener, open_model
from app.main_window import MainWindow
from app.model_switch import ModelSwitch
from app.preferences import Preferences
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.session import ChatSession, Suggestion
from app.theme_source import ThemeSource

SUGGESTIONS = {
    "picture": Suggestion(SAMPLES_DIR / "shapes.png", "List the shapes from left to right."),
    "clip": Suggestion(SAMPLES_DIR / "clip.mp4", "Which way does the circle move?"),
}

# How long the window may wait for the thread that writes down the model's next step. Python's own
# 5 ms would be a third of a frame.
_SWITCH_INTERVAL_S = 0.001


class Composition(QObject):
    """Everything that lives as long as the program. Build, use and close it in the GUI thread.

    `data_folder` keeps what belongs to the person, such as pasted pictures. Without a
    `model_folder` the model answers that was chosen last. `places` are where models are looked for
    and come from, unless they are the account's own.
    """

    def __init__(
        self,
        model_folder: Path | None,
        data_folder: Path,
        opener: Opener = open_model,
        places: LibraryPlaces | None = None,
    ) -> None:
        self.preferences = Preferences(data_folder)
        self._model_folder = model_folder or self.preferences.model_folder or DEMO_MODEL_DIR
        super().__init__()
        self.garbage = GarbageCollector()
        self.themes = ThemeSource()
        self.window = MainWindow(self.themes)
        self.controller = ReplyController(opener)
        self.inspector = Inspector(self._model_folder, data_folder / "attachments")
        self.session = ChatSession(self.window, self.controller, self.inspector, SUGGESTIONS)
        self.switch = ModelSwitch(self.window, self.controller, self.preferences, DEMO_MODEL_DIR)
        self.library = ModelLibrary(places or LibraryPlaces(), self.preferences, DEMO_MODEL_DIR)
        self._library_started = False
        self._connect_window()
        self._connect_library()
        self._connect_controller()
        self.inspector.inspected.connect(self.session.on_inspected)

    def start(self) -> None:
        """Show the window and begin to load the model."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self.window.show()
        self.switch.start(self._model_folder)
        self.session.show_suggestions()

    def close(self, limit_ms: int) -> bool:
        """Stop everything; False when something was still busy after `limit_ms`."""
        self.library.downloads.stop()  # the network may take a while to let go
        inference_ended = self.controller.close(limit_ms)
        inspection_ended = self.inspector.close(limit_ms)
        library_ended = self.library.close(limit_ms)
        self.garbage.close()
        return inference_ended and inspection_ended and library_ended

    @Slot(object)
    def on_model_opened(self, folder: Path) -> None:
        """Another model looks at the files from now on."""
        self.library.set_refusal(folder, None)
        if self.inspector.use_model(folder):
            self.session.on_model_changed()

    @Slot(object, str, bool)
    def on_model_refused(self, folder: Path, sentence: str, can_override: bool) -> None:
        """The models say why this one does not answer."""
        self.library.set_refusal(folder, Refusal(sentence, can_override))

    @Slot()
    def on_switch_changed(self) -> None:
        """Another model answers, or is about to."""
        switch = self.switch
        opening = Opening(switch.wanted, switch.waits) if switch.wanted else None
        self.library.set_answering(switch.answering, opening)

    @Slot(str, str, float)
    def on_opening_progressed(self, stage: str, sentence: str, fraction: float) -> None:
        """The model that is about to answer has come further."""
        if self.switch.wanted is not None:
            done = fraction if fraction >= 0 else None
            opening = Opening(self.switch.wanted, done=done)
            self.library.set_answering(self.switch.answering, opening)

    @Slot()
    def on_first_model_settled(self) -> None:
        """What a person waits for is done: look for models now."""
        if not self._library_started:
            self._library_started = True
            self.controller.measure_machine()
            self.library.start()

    @Slot(object)
    def on_model_offered(self, folder: Path) -> None:
        """A folder with a model was dropped where files go."""
        self.library.offer_folders([folder])

    def _connect_window(self) -> None:
        window, session = self.window, self.session
        window.message_submitted.connect(session.on_message_submitted)
        window.stop_requested.connect(session.on_stop_requested)
        window.detail_chosen.connect(session.on_detail_chosen)
        window.new_chat_requested.connect(session.on_new_chat_requested)
        window.files_offered.connect(session.on_files_offered)
        window.image_pasted.connect(session.on_image_pasted)
        window.attachment_removed.connect(session.on_attachment_removed)
        window.suggestion_chosen.connect(session.on_suggestion_chosen)
        window.regenerate_requested.connect(session.on_regenerate_requested)

    def _connect_library(self) -> None:
        library, window, switch = self.library, self.window, self.switch
        window.model_commanded.connect(library.command)
        window.models_page.way_chosen.connect(library.choose_way)
        window.models_page.token_given.connect(library.give_token)
        window.folders_offered.connect(library.offer_folders)
        window.models_shown.connect(library.refresh)
        self.session.model_offered.connect(self.on_model_offered)
        library.shelf_changed.connect(window.set_shelf)
        library.noticed.connect(window.models_page.show_notice)
        library.added.connect(window.show_model_card)
        library.use_requested.connect(switch.use)
        library.stay_requested.connect(switch.stay)
        switch.opened.connect(self.on_model_opened)
        switch.refused.connect(self.on_model_refused)
        switch.changed.connect(self.on_switch_changed)
        self.controller.machine_measured.connect(library.set_room)
        self.controller.opening_progressed.connect(self.on_opening_progressed)
        self.controller.model_opened.connect(self.on_first_model_settled)
        self.controller.model_failed.connect(self.on_first_model_settled)

    def _connect_controller(self) -> None:
        controller, session, window = self.controller, self.session, self.window
        controller.state_changed.connect(self.garbage.on_state_changed)
        controller.model_opened.connect(self.garbage.settle)
        controller.model_opened.connect(session.on_model_opened)
        controller.draft_read.connect(session.on_draft_read)
        controller.progress_changed.connect(session.on_progress_changed)
        controller.files_left_out.connect(session.on_files_left_out)
        controller.thinking_arrived.connect(window.append_thinking)
        controller.text_arrived.connect(window.append_text)
        controller.reply_finished.connect(session.on_reply_finished)
        controller.reply_failed.connect(session.on_reply_failed)
