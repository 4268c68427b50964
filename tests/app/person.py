"""Somebody at the window's models: what they click and wait for, and hubs for them to get from."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.inference.worker import OnOpening, OpenJob, ReplyEngine
from app.library.model_card import ModelCardView
from app.resources import DEMO_MODEL_DIR
from app.terminal.hand import ask
from mlx_model.errors import CheckpointError
from mlx_model.events import Event, TextDelta
from mlx_model.messages import ReplyRequest, TextPart
from tests.app.scripted_engine import ScriptedEngine, finished
from tests.hub_server.repository import Content, Repository

SMALL, MIDDLE = "Qwen3.5-0.8B", "Qwen3.5-2B"
WEIGHTS = "model.safetensors"
# The share of the demo model that is not its weights.
SMALL_FILES = 0.015
# The server sends pieces of a megabyte.
FIRST_PIECES = 2 << 20


def echo(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    last = request.messages[-1].content[-1]
    yield TextDelta(last.text if isinstance(last, TextPart) else "nothing")
    yield finished()


def open_echo(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
    """An engine that opens any folder with a config."""
    if not (job.folder / "config.json").is_file():
        raise CheckpointError(f"{job.folder.name} holds no model. Choose another folder.")
    return ScriptedEngine(echo)


class Gate:
    """A repository's weights, of which the first pieces come, and the rest once it is opened."""

    def __init__(self, file: Path) -> None:
        self.opened = threading.Event()
        self._whole = Content.of_file(file)

    def content(self) -> Content:
        # The hash of the whole is known before anybody asks for bytes.
        self.opened.set()
        _ = self._whole.sha256
        content = Content(self._whole.size, self._read)
        _ = content.sha256
        self.opened.clear()
        return content

    def _read(self, start: int, count: int) -> bytes:
        if start >= FIRST_PIECES:
            assert self.opened.wait(30)
        elif not self.opened.is_set():
            time.sleep(0.15)  # longer than it takes until progress is told again
        return self._whole.read(start, count)


def ready_repository(weights: Content | None = None, gated: bool = False) -> Repository:
    """The demo model as somebody might have put it on the hub."""
    files: dict[str, Content | bytes] = {
        file.name: Content.of_file(file) for file in DEMO_MODEL_DIR.iterdir()
    }
    if weights is not None:
        files[WEIGHTS] = weights
    return Repository.of(files, gated)


class Person:
    """Somebody at the window."""

    def __init__(self, composition: Composition, qtbot: QtBot) -> None:
        self.composition = composition
        self.window = composition.window
        self.qtbot = qtbot

    def card(self, key: str) -> ModelCardView:
        return self.window.models_page.card(key)

    def click(self, button: QAbstractButton) -> None:
        self.qtbot.waitUntil(button.isVisible)
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def see(self, key: str, state: str) -> ModelCardView:
        """Wait until the card of a model is in this state."""
        self.qtbot.waitUntil(
            lambda: any(
                card.entry.key == key and card.entry.state == state
                for card in self.window.models_page.cards
            )
        )
        return self.card(key)

    def go_to_models(self, key: str = SMALL) -> ModelCardView:
        self.qtbot.waitUntil(lambda: bool(self.window.models_page.cards))
        self.click(self.window.header.pill)
        return self.card(key)

    def choose_ready(self, key: str) -> None:
        self.window.models_page.way_chosen.emit(key, "ready")
        self.qtbot.waitUntil(lambda: self.card(key).entry.chosen_way == "ready")

    def ask(self, question: str) -> str:
        with self.qtbot.waitSignal(self.composition.session.answer_ended) as ended:
            ask(self.window, question)
        return str(ended.args[0].text)


Open = Callable[..., Person]


def checkpoint(folder: Path) -> Path:
    """A folder with a model: a copy of the demo model."""
    return Path(shutil.copytree(DEMO_MODEL_DIR, folder))
