"""What goes wrong with models in the window, and the way out of it: real clicks, a real hub."""

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock
from PySide6.QtCore import QObject, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices
from pytestqt.qtbot import QtBot

from app.inference.download_worker import FetchJob
from app.inference.library_places import LibraryPlaces
from app.inference.worker import OnOpening, OpenJob, ReplyEngine
from app.resources import DEMO_MODEL_DIR
from app.terminal.hand import drop_files
from mlx_model import DownloadEvent, DownloadProgress
from tests.app.person import SMALL, WEIGHTS, Gate, Open, checkpoint, echo, ready_repository
from tests.app.scripted_engine import ScriptedEngine, wait_for_stop
from tests.hub_server.faults import Fault
from tests.hub_server.repository import Content, Repository
from tests.hub_server.server import HubServer
from tests.keychain import Keychain
from tests.mlx_model.goldens import copy_checkpoint


@pytest.fixture
def keychain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Keychain]:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = keyring.get_keyring()
    chain = Keychain()
    keyring.set_keyring(chain)
    yield chain
    keyring.set_keyring(before)


def test_a_token_is_kept_when_it_is_accepted_and_forgotten_when_it_is_not(
    open_window: Open, qtbot: QtBot, keychain: Keychain
) -> None:
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository(gated=True)}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "failed")
        qtbot.keyClicks(card.question.field, "hf_wrong")
        qtbot.keyClick(card.question.field, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: "does not accept" in card.problem.text())
        assert keychain.kept == {}
        assert keychain.ever_kept == [], "it may be a slip, and the one before the right one"
        qtbot.keyClicks(card.question.field, server.token)
        qtbot.keyClick(card.question.field, Qt.Key.Key_Return)
        person.see(SMALL, "here")
        qtbot.waitUntil(lambda: list(keychain.kept.values()) == [server.token])


def test_a_token_that_is_no_longer_accepted_does_not_stand_in_the_way(
    open_window: Open, qtbot: QtBot, keychain: Keychain
) -> None:
    keychain.set_password("Fireside", "huggingface.co", "hf_revoked")
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "failed")
        assert "try again without any" in card.problem.accessibleName()
        person.click(card.main_button)  # Try again
        person.see(SMALL, "here")
        assert keychain.kept == {}


def test_a_wrong_token_in_the_middle_of_a_download_is_not_kept(
    open_window: Open, qtbot: QtBot, keychain: Keychain
) -> None:
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        server.faults.add(Fault("status", "resolve", WEIGHTS, status=401))
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        # The first of the two places refuses in the middle, the second is not there.
        person.click(card.main_button)
        person.see(SMALL, "failed")
        assert card.entry.transfer is not None, "something has arrived"
        qtbot.keyClicks(card.question.field, "hf_wrong")
        qtbot.keyClick(card.question.field, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: "does not accept" in card.problem.text())
        person.click(card.question.no_button)
        person.click(card.main_button)  # Try again
        person.see(SMALL, "here")
        assert keychain.ever_kept == []


def test_a_download_that_cannot_be_used_says_why_and_can_be_deleted(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    nonsense = Content.of_bytes(b"\x08" + 7 * b"\0" + b"nonsense")
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository(nonsense)}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "broken")
        assert WEIGHTS in card.problem.text()
        assert card.problem.isVisible()
        assert not card.main_button.isVisible()
        person.click(card.side_button)
        person.click(card.question.yes_button)
        person.see(SMALL, "absent")
        assert not card.problem.isVisible()
        assert not (tmp_path / "cache" / f"models--mlx-community--{SMALL}-4bit").exists()


def test_what_another_program_has_begun_to_download_is_offered_as_a_download(
    open_window: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / f"models--mlx-community--{SMALL}-4bit" / "snapshots" / "abc"
    checkpoint(folder)
    (folder / WEIGHTS).unlink()
    studio = checkpoint(tmp_path / ".lmstudio" / "models" / "somebody" / "shapes")
    person = open_window()
    card = person.go_to_models()
    person.see(str(studio), "here")  # the look is over
    assert card.entry.state == "absent"
    assert card.main_button.text().startswith("Download")


@pytest.mark.parametrize("name", ["model-q4.gguf", "adapter_config.json"])
def test_a_model_of_another_kind_says_so_wherever_it_is_dropped(
    open_window: Open, qtbot: QtBot, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / name).write_bytes(b"{}")
    person = open_window()
    drop_files(person.window, [folder])
    card = person.see(str(folder), "broken")
    assert person.window.shows_models
    assert name in card.problem.text()
    assert card.entry.purpose == ""
    assert person.window.composer.chips.chips == []
    person.click(card.side_button)
    qtbot.waitUntil(lambda: len(person.window.models_page.cards) == 5)


def test_an_opening_model_can_be_left_for_the_one_before(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    first, second = checkpoint(tmp_path / "first"), checkpoint(tmp_path / "second")

    def opener(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
        if job.folder == second:
            on_progress("checking", 2, 5)
            wait_for_stop(job.cancel, 30)
            raise RuntimeError("given up")
        return ScriptedEngine(echo)

    person = open_window(opener=opener)
    person.composition.library.offer_folders([first, second])
    person.click(person.see(str(first), "here").main_button)
    person.see(str(first), "in_use")
    assert person.ask("one") == "one"
    card = person.see(str(second), "here")
    person.window.show_models()
    person.click(card.main_button)
    qtbot.waitUntil(lambda: card.progress.sentence == "Checking the model, 40 %")
    assert card.progress.fraction == 0.4
    person.click(card.main_button)  # Cancel
    person.see(str(first), "in_use")
    assert person.see(str(second), "here").problem.text() == ""
    assert person.composition.preferences.model_folder == first
    assert person.ask("two") == "two"
    assert len(person.composition.session.conversation.turns) == 2


def test_a_conversion_can_be_stopped_and_done_later(
    open_window: Open, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, times = LibraryPlaces.fetch, iter(["first"])

    def slowly(self: LibraryPlaces, job: FetchJob) -> Iterator[DownloadEvent]:
        """So small a model is converted before anybody can stop it."""
        for event in fetch(self, job):
            yield event
            converting = isinstance(event, DownloadProgress) and event.stage == "converting"
            if converting and next(times, None):
                job.stop.wait(30)

    monkeypatch.setattr(LibraryPlaces, "fetch", slowly)
    original = copy_checkpoint("untied", tmp_path / "raw").folder
    with HubServer({f"Qwen/{SMALL}": Repository.of_folder(original)}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.click(card.main_button)
        person.see(SMALL, "converting")
        person.click(card.main_button)  # Stop
        person.see(SMALL, "absent")
        qtbot.waitUntil(lambda: card.main_button.text() == "Convert here")
        assert not (tmp_path / "own" / f"{SMALL}-4bit").exists()
        server.requests.clear()
        person.click(card.main_button)
        person.see(SMALL, "here")
        assert server.body_requests(WEIGHTS) == [], "the original is not fetched again"


def test_a_download_that_waits_says_for_how_long_and_no_speed(
    open_window: Open, qtbot: QtBot
) -> None:
    gate = Gate(DEMO_MODEL_DIR / WEIGHTS)
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository(gate.content())}) as server:
        wait = {"Retry-After": "1000"}
        server.faults.add(Fault("status", name=WEIGHTS, status=429, headers=wait))
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        qtbot.waitUntil(card.problem.isVisible)
        assert card.problem.text().endswith("many requests. Trying again within 17 minutes.")
        assert "/s" not in card.progress.sentence
        person.click(card.main_button)  # Pause
        person.see(SMALL, "paused")
        assert not card.problem.isVisible()
        gate.opened.set()
        person.click(card.main_button)  # Resume
        person.see(SMALL, "here")


def test_a_download_says_when_another_program_is_at_it(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    content = Content.of_file(DEMO_MODEL_DIR / WEIGHTS)
    name = f"models--mlx-community--{SMALL}-4bit"
    lock = tmp_path / "cache" / ".locks" / name / f"{content.sha256}.lock"
    lock.parent.mkdir(parents=True)
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        with WeakFileLock(lock):
            person.click(card.main_button)
            qtbot.waitUntil(card.problem.isVisible)
            assert card.problem.text().startswith("Another program is downloading the same")
        person.see(SMALL, "here")


class Browser(QObject):
    """Opens nothing and tells what it was asked for."""

    asked = Signal(str)

    @Slot(QUrl)
    def open(self, url: QUrl) -> None:
        self.asked.emit(url.toString())


def test_an_address_in_a_sentence_can_be_clicked(open_window: Open, qtbot: QtBot) -> None:
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        server.faults.add(Fault("status", "resolve", WEIGHTS, status=403))
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "failed")
        page = f"{server.endpoint}/mlx-community/{SMALL}-4bit"
        assert f"Open {page}, accept" in card.problem.accessibleName()
        browser = Browser()
        QDesktopServices.setUrlHandler("http", browser, "open")
        with qtbot.waitSignal(browser.asked) as heard:
            card.problem.setFocus()
            qtbot.keyClick(card.problem, Qt.Key.Key_Tab)
            qtbot.keyClick(card.problem, Qt.Key.Key_Return)
        QDesktopServices.unsetUrlHandler("http")
        assert heard.args == [page]
