"""What the tests of the window share: nothing may be left running after any of them."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QThread, QThreadPool, QTimer
from pytestqt.qtbot import QtBot
from pytestqt.wait_signal import SignalBlocker
from shiboken6 import isValid

from app.composition import Composition
from app.inference.controller import ReplyController
from app.inference.library_places import LibraryPlaces
from app.inference.worker import OnOpening, Opener, OpenJob
from app.main_window import MainWindow
from app.resources import DEMO_MODEL_DIR
from app.theme_source import ThemeSource
from mlx_model import Patience
from tests.app.person import Open, Person, open_echo
from tests.app.scripted_engine import Script, ScriptedEngine
from tests.hub_server.server import HubServer

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

PATIENCE_MS = 30_000


class PatientBot(QtBot):
    """Waits longer than the plugin would: no test here judges how fast a machine is."""

    def waitSignal(
        self,
        signal: Any,
        *,
        timeout: int = PATIENCE_MS,
        raising: bool | None = None,
        check_params_cb: Callable[..., bool] | None = None,
    ) -> SignalBlocker:
        return super().waitSignal(
            signal, timeout=timeout, raising=raising, check_params_cb=check_params_cb
        )

    def waitUntil(self, callback: Callable[[], bool | None], *, timeout: int = PATIENCE_MS) -> None:
        super().waitUntil(callback, timeout=timeout)


@pytest.fixture
def qtbot(qapp: object, request: pytest.FixtureRequest) -> QtBot:
    """The plugin's fixture, with patience."""
    return PatientBot(request)


@pytest.fixture
def make_controller(qapp: object) -> Iterator[Callable[[ScriptedEngine], ReplyController]]:
    """Controllers with a real thread around a scripted engine, closed after the test."""
    made: list[ReplyController] = []

    def make(engine: ScriptedEngine) -> ReplyController:
        def open_scripted(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
            return engine

        controller = ReplyController(open_scripted)
        made.append(controller)
        return controller

    yield make
    for controller in made:
        assert controller.close(10_000), "the inference thread did not end"


@pytest.fixture
def make_composition(
    qtbot: QtBot, tmp_path: Path
) -> Iterator[Callable[[Script], tuple[Composition, ScriptedEngine]]]:
    """The whole program, window and all, around a scripted engine; its model is open already."""
    made: list[Composition] = []

    def make(script: Script) -> tuple[Composition, ScriptedEngine]:
        engine = ScriptedEngine(script)

        def open_scripted(job: OpenJob, on_progress: OnOpening) -> ScriptedEngine:
            return engine

        composition = Composition(DEMO_MODEL_DIR, tmp_path / "data", open_scripted)
        qtbot.addWidget(composition.window)
        made.append(composition)
        with qtbot.waitSignal(composition.controller.model_opened):
            composition.start()
        return composition, engine

    yield make
    for composition in made:
        assert composition.close(10_000), "a thread did not end"


@pytest.fixture
def open_window(qtbot: QtBot, tmp_path: Path) -> Iterator[Open]:
    """Opens the program; the hub's cache and everything else lie below the test's folder."""
    made: list[Composition] = []

    def make(
        server: HubServer | None = None, opener: Opener = open_echo, model: Path | None = None
    ) -> Person:
        places = LibraryPlaces(
            server.endpoint if server else "http://127.0.0.1:9",
            Patience(stall_s=10, first_wait_s=0.01, longest_wait_s=0.01, tries=3),
            tmp_path / "cache",
            tmp_path / "own",
            tmp_path,
        )
        composition = Composition(model, tmp_path / "data", opener, places)
        qtbot.addWidget(composition.window)
        made.append(composition)
        composition.start()
        qtbot.waitUntil(lambda: composition.controller.state == "idle")
        return Person(composition, qtbot)

    yield make
    for composition in made:
        assert composition.close(20_000), "a thread did not end"


@pytest.fixture
def themes(qapp: object) -> ThemeSource:
    """The light theme with the bundled fonts, whatever the desktop says."""
    source = ThemeSource()
    source.set_choice("light")
    return source


@pytest.fixture
def window(qtbot: QtBot, themes: ThemeSource) -> MainWindow:
    """A window without a session behind it, on the (offscreen) screen and active."""
    made = MainWindow(themes)
    qtbot.addWidget(made)
    made.set_model_label("Demo model", "coloured shapes only")
    with qtbot.waitExposed(made):
        made.show()
    made.activateWindow()
    qtbot.waitUntil(made.isActiveWindow)
    return made


@pytest.fixture(scope="session", autouse=True)
def imports_set_aside() -> Iterator[None]:
    """Keep what the imports made, which is most objects, out of every later look through them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a pool job or a timer alive."""
    yield
    if QCoreApplication.instance() is None:
        return
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    left = []
    for candidate in gc.get_objects():
        if not isinstance(candidate, QThread | QTimer | QThreadPool) or not isValid(candidate):
            continue
        if isinstance(candidate, QThread):
            if candidate.isRunning() and candidate is not QThread.currentThread():
                left.append(f"thread {candidate.objectName()!r}")
        elif isinstance(candidate, QTimer):
            if candidate.isActive():
                left.append(f"timer of {candidate.parent()!r}, {candidate.interval()} ms")
        elif candidate.activeThreadCount():
            left.append("a job in a thread pool")
    assert not left, f"{request.node.name} left running: {', '.join(left)}"
