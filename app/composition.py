"""The one place that builds the program's objects and connects their signals."""

import sys
from pathlib import Path

from app.garbage import GarbageCollector
from app.inference.controller import ReplyController
from app.inference.inspector import Inspector
from app.inference.worker import Opener, open_model
from app.main_window import MainWindow
from app.resources import SAMPLES_DIR
from app.session import ChatSession, Suggestion
from app.theme_source import ThemeSource

SUGGESTIONS = {
    "picture": Suggestion(SAMPLES_DIR / "shapes.png", "List the shapes from left to right."),
    "clip": Suggestion(SAMPLES_DIR / "clip.mp4", "Which way does the circle move?"),
}

# How long the window may wait for the thread that writes down the model's next step. Python's own
# 5 ms would be a third of a frame.
_SWITCH_INTERVAL_S = 0.001


class Composition:
    """Everything that lives as long as the program. Build, use and close it in the GUI thread.

    `data_folder` keeps what belongs to the person, such as pasted pictures.
    """

    def __init__(
        self,
        model_folder: Path,
        data_folder: Path,
        opener: Opener = open_model,
    ) -> None:
        self._model_folder = model_folder
        self.garbage = GarbageCollector()
        self.themes = ThemeSource()
        self.window = MainWindow(self.themes)
        self.controller = ReplyController(opener)
        self.inspector = Inspector(model_folder, data_folder / "attachments")
        self.session = ChatSession(self.window, self.controller, self.inspector, SUGGESTIONS)
        self._connect_window()
        self._connect_controller()
        self.inspector.inspected.connect(self.session.on_inspected)

    def start(self) -> None:
        """Show the window and begin to load the model."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self.window.set_model_label("Opening the model", "")
        self.window.show()
        self.controller.open_model(self._model_folder)
        self.session.show_suggestions()

    def close(self, limit_ms: int) -> bool:
        """Stop everything; False when something was still busy after `limit_ms`."""
        inference_ended = self.controller.close(limit_ms)
        inspection_ended = self.inspector.close(limit_ms)
        self.garbage.close()
        return inference_ended and inspection_ended

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

    def _connect_controller(self) -> None:
        controller, session, window = self.controller, self.session, self.window
        controller.state_changed.connect(self.garbage.on_state_changed)
        controller.opening_progressed.connect(session.on_opening_progressed)
        controller.model_opened.connect(session.on_model_opened)
        controller.model_opened.connect(self.garbage.settle)
        controller.model_failed.connect(session.on_model_failed)
        controller.progress_changed.connect(session.on_progress_changed)
        controller.files_left_out.connect(session.on_files_left_out)
        controller.thinking_arrived.connect(window.append_thinking)
        controller.text_arrived.connect(window.append_text)
        controller.reply_finished.connect(session.on_reply_finished)
        controller.reply_failed.connect(session.on_reply_failed)
