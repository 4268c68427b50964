"""Getting, using and deleting models from the window: real clicks, a real hub on 127.0.0.1."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.inference.library_places import LibraryPlaces
from app.inference.shelf import COMPUTER
from app.inference.worker import OnOpening, OpenJob, ReplyEngine, open_model
from app.library.wording import size
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from mlx_model.errors import SelfCheckError
from mlx_model.events import Event, TextDelta
from mlx_model.messages import ReplyRequest
from tests.app.person import (
    MIDDLE,
    SMALL,
    SMALL_FILES,
    WEIGHTS,
    Gate,
    Open,
    checkpoint,
    echo,
    ready_repository,
)
from tests.app.scripted_engine import ScriptedEngine, finished, wait_for_stop
from tests.hub_server.faults import Fault
from tests.hub_server.repository import Repository
from tests.hub_server.server import HubServer
from tests.mlx_model.goldens import copy_checkpoint

DEMO_MODEL_BYTES = sum(file.stat().st_size for file in DEMO_MODEL_DIR.iterdir())
# Its README is not fetched from a hub.
FETCHED_BYTES = DEMO_MODEL_BYTES - (DEMO_MODEL_DIR / "README.md").stat().st_size


def test_a_model_is_downloaded_paused_resumed_and_used_in_mid_conversation(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    gate = Gate(DEMO_MODEL_DIR / WEIGHTS)
    repository = ready_repository(gate.content())
    with HubServer({f"mlx-community/{SMALL}-4bit": repository}) as server:
        person = open_window(server, open_model)
        assert drop_files(person.window, [SAMPLES_DIR / "shapes.png"])
        qtbot.waitUntil(lambda: not person.composition.session.inspecting)
        assert "red circle" in person.ask("List the shapes from left to right.")

        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "downloading")
        qtbot.waitUntil(lambda: (card.progress.fraction or 0) > SMALL_FILES)
        assert (card.progress.fraction or 0) < 0.4
        arrived = tuple(f"{mb} of {size(FETCHED_BYTES)}" for mb in (1, 2, 3))
        assert card.progress.sentence.startswith(arrived)

        person.click(card.main_button)  # Pause
        person.see(SMALL, "paused")
        assert card.progress.sentence.startswith("Paused at ")
        gate.opened.set()
        qtbot.waitUntil(lambda: not person.composition.library.downloads.is_busy)
        server.requests.clear()
        person.click(card.main_button)  # Resume
        person.see(SMALL, "here")
        (rest,) = server.body_requests(WEIGHTS)[-1:]
        assert rest.headers["range"].startswith("bytes="), "what had arrived is not fetched again"

        person.click(card.main_button)  # Use
        person.see(SMALL, "in_use")
        assert person.see("demo", "here")
        qtbot.keyClick(person.window.models_page, Qt.Key.Key_Escape)
        assert "yes" in person.ask("Is there a yellow triangle?").lower()
        conversation = person.composition.session.conversation
        assert [turn.question.text for turn in conversation.turns] == [
            "List the shapes from left to right.",
            "Is there a yellow triangle?",
        ]
        folder = person.composition.switch.answering
        assert folder is not None
        assert (tmp_path / "cache") in folder.parents
    again = open_window(opener=open_model)
    assert again.composition.switch.answering == folder, "remembered at the next start"


def test_a_server_that_drops_is_told_and_can_be_tried_again(
    open_window: Open, qtbot: QtBot
) -> None:
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        server.faults.add(Fault("drop", name=WEIGHTS, times=3))
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "failed")
        assert "connection was interrupted (3 times in a row)" in card.problem.text()
        assert card.problem.isVisible()
        assert not card.question.isVisible(), "no token would help"
        person.click(card.main_button)  # Try again
        person.see(SMALL, "here")
        assert not card.problem.isVisible()


def test_downloads_wait_for_one_another_and_can_be_given_up(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    gate = Gate(DEMO_MODEL_DIR / WEIGHTS)
    repositories = {
        f"mlx-community/{SMALL}-4bit": ready_repository(gate.content()),
        f"mlx-community/{MIDDLE}-4bit": ready_repository(),
    }
    with HubServer(repositories) as server:
        person = open_window(server)
        first, second = person.go_to_models(), person.card(MIDDLE)
        for card in (first, second):
            person.choose_ready(card.entry.key)
            person.click(card.main_button)
        person.see(MIDDLE, "queued")
        person.see(SMALL, "downloading")
        qtbot.waitUntil(lambda: first.entry.transfer is not None)
        person.click(first.side_button)
        if first.question.isVisible():
            person.click(first.question.yes_button)
        person.see(SMALL, "absent")
        gate.opened.set()
        person.see(MIDDLE, "here")
        left = tmp_path / "cache" / f"models--mlx-community--{SMALL}-4bit" / "blobs"
        qtbot.waitUntil(lambda: not list(left.glob("*")))


def test_a_token_is_asked_for_and_used(open_window: Open, qtbot: QtBot) -> None:
    repository = ready_repository(gated=True)
    with HubServer({f"mlx-community/{SMALL}-MLX-4bit": repository}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "failed")
        assert "token" in card.problem.text()
        qtbot.keyClicks(card.question.field, "hf_wrong")
        person.click(card.question.yes_button)
        qtbot.waitUntil(lambda: "does not accept" in card.problem.text())
        qtbot.keyClicks(card.question.field, server.token)
        qtbot.keyClick(card.question.field, Qt.Key.Key_Return)
        person.see(SMALL, "here")


def test_an_unfinished_download_is_offered_at_the_next_start(
    open_window: Open, qtbot: QtBot
) -> None:
    gate = Gate(DEMO_MODEL_DIR / WEIGHTS)
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository(gate.content())}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        qtbot.waitUntil(lambda: (card.progress.fraction or 0) > SMALL_FILES)
        closing = threading.Timer(0.2, gate.opened.set)
        closing.start()
        assert person.composition.close(20_000)
        closing.join()
        again = open_window(server)
        card = again.go_to_models()
        again.see(SMALL, "paused")
        qtbot.waitUntil(lambda: card.entry.transfer is not None)
        again.click(card.main_button)  # Resume
        again.see(SMALL, "here")


def test_a_model_is_deleted_after_a_question(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository()}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "here")
        repository = tmp_path / "cache" / f"models--mlx-community--{SMALL}-4bit"
        assert repository.is_dir()
        person.click(card.side_button)
        assert f"frees {size(FETCHED_BYTES)}" in card.question.sentence.text()
        assert repository.is_dir(), "nothing is deleted unasked"
        person.click(card.question.yes_button)
        person.see(SMALL, "absent")
        qtbot.waitUntil(lambda: not repository.exists())


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_dropped_on_the_chat_is_offered_as_a_model(
    open_window: Open, qtbot: QtBot, tmp_path: Path, what: str
) -> None:
    folder = checkpoint(tmp_path / "mine")
    person = open_window()
    drop_files(person.window, [folder / WEIGHTS if what == "file" else folder])
    person.see(str(folder), "here")
    qtbot.waitUntil(lambda: person.window.shows_models)
    assert person.window.composer.chips.chips == []
    card = person.card(str(folder))
    assert str(folder) in card.figures.text()
    person.click(card.main_button)
    person.see(str(folder), "in_use")
    assert not card.side_button.isVisible()
    assert person.composition.preferences.added_folders == [folder]
    person.click(person.card("demo").main_button)
    person.see("demo", "in_use")
    person.click(card.side_button)
    qtbot.waitUntil(lambda: len(person.window.models_page.cards) == 5)
    assert folder.is_dir(), "only the card goes"
    assert person.composition.preferences.added_folders == []


def test_a_dropped_folder_that_holds_no_model_says_why(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    empty = tmp_path / "holiday"
    empty.mkdir()
    person = open_window()
    person.go_to_models()
    drop_files(person.window, [empty])
    card = person.see(str(empty), "broken")
    assert "holiday" in card.problem.text()
    assert not card.main_button.isVisible()


def test_a_dropped_folder_with_several_models_offers_each(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    one, other = checkpoint(folder / "one"), checkpoint(folder / "other")
    person = open_window()
    drop_files(person.window, [folder])
    person.see(str(one), "here")
    person.see(str(other), "here")
    qtbot.waitUntil(lambda: person.composition.preferences.added_folders == [one, other])
    person.click(person.card(str(one)).side_button)
    qtbot.waitUntil(lambda: len(person.window.models_page.cards) == 6)
    assert person.composition.preferences.added_folders == [other]
    person.composition.library.refresh()
    person.click(person.card(str(other)).main_button)
    person.see(str(other), "in_use")
    assert str(one) not in {card.entry.key for card in person.window.models_page.cards}


def test_models_of_other_programs_are_found(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    studio = checkpoint(tmp_path / ".lmstudio" / "models" / "somebody" / "shapes")
    person = open_window()
    demo = person.go_to_models("demo")
    card = person.see(str(studio), "here")
    takes = size(DEMO_MODEL_BYTES)
    assert demo.figures.text().startswith(f"{takes} on this {COMPUTER}")
    assert "LM\N{NO-BREAK SPACE}Studio" in card.figures.text()
    assert not card.side_button.isVisible(), "it is not ours to delete"
    assert person.window.models_page.found_note.text() == "· found 1 in LM Studio"


def test_a_switch_waits_for_the_answer_or_stops_it_when_asked(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "mine")

    def endless(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta("half an answer")
        wait_for_stop(cancel, 30)
        yield finished("cancelled")

    def opener(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
        return ScriptedEngine(endless if job.folder == DEMO_MODEL_DIR else echo)

    person = open_window(opener=opener)
    person.composition.library.offer_folders([folder])
    person.see(str(folder), "here")
    person.window.show_chat()
    with qtbot.waitSignal(person.composition.controller.text_arrived):
        ask(person.window, "first")
    card = person.go_to_models(str(folder))
    person.click(card.main_button)  # Use
    person.see(str(folder), "next")
    assert card.progress.sentence == "Opens when the answer is finished"
    assert person.composition.controller.state == "replying"
    person.click(card.side_button)  # Stay
    person.see(str(folder), "here")
    person.click(card.main_button)
    person.see(str(folder), "next")
    person.click(card.main_button)  # Open now
    person.see(str(folder), "in_use")
    (turn,) = person.composition.session.conversation.turns
    assert turn.answer is not None
    assert turn.answer.text == "half an answer"
    assert person.ask("second") == "second"
    assert len(person.composition.session.conversation.turns) == 2


def test_a_model_that_fails_its_check_gives_way_to_the_former_one(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "mine")
    why = "mine failed its self-check: it repeats one word. Download it again."

    def opener(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
        if job.folder == folder and not job.anyway:
            on_progress("checking", 1, 2)
            raise SelfCheckError(why)
        return ScriptedEngine(echo)

    person = open_window(opener=opener)
    assert person.ask("first") == "first"
    person.composition.library.offer_folders([folder])
    card = person.see(str(folder), "here")
    person.click(card.main_button)
    qtbot.waitUntil(lambda: card.problem.text() == why)
    person.see("demo", "in_use")
    assert person.window.composer.status.text() == why
    assert person.ask("second") == "second"
    assert person.composition.preferences.model_folder is None
    person.window.show_models()
    person.click(card.main_button)
    assert "Use it all the same?" in card.question.sentence.text()
    person.click(card.question.yes_button)
    person.see(str(folder), "in_use")
    assert not card.problem.isVisible()
    assert person.window.composer.status.text() == "", "that is over"
    assert person.composition.preferences.model_folder == folder


def test_a_remembered_model_that_has_gone_is_told_and_the_demo_model_answers(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "mine")
    person = open_window()
    person.composition.library.offer_folders([folder])
    card = person.see(str(folder), "here")
    person.click(card.main_button)
    person.see(str(folder), "in_use")
    assert person.composition.close(20_000)
    shutil.rmtree(folder)
    again = open_window()
    assert again.composition.switch.answering == DEMO_MODEL_DIR
    assert again.window.composer.status.text() == "mine holds no model. Choose another folder."
    assert again.ask("hello") == "hello"


def test_an_original_is_converted_and_can_be_deleted_afterwards(
    open_window: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    original = copy_checkpoint("untied", tmp_path / "raw").folder
    with HubServer({f"Qwen/{SMALL}": Repository.of_folder(original)}) as server:
        person = open_window(server)
        card = person.go_to_models()
        sentences: list[str] = []
        person.composition.library.shelf_changed.connect(
            lambda shelf: sentences.append(person.card(SMALL).progress.sentence)
        )
        person.click(card.main_button)
        person.see(SMALL, "here")
        assert any(words.startswith("Converting to 4 bits") for words in sentences)
        folder = tmp_path / "own" / f"{SMALL}-4bit"
        person.click(card.main_button)
        person.see(SMALL, "in_use")
        assert person.composition.switch.answering == folder
        (raw,) = [c for c in person.window.models_page.cards if c.entry.name == f"Qwen/{SMALL}"]
        assert "the original, not needed any more" in raw.heading.accessibleName()
        person.click(raw.side_button)
        person.click(raw.question.yes_button)
        qtbot.waitUntil(lambda: not (tmp_path / "cache" / f"models--Qwen--{SMALL}").exists())
        assert (folder / "config.json").is_file()


def test_a_model_that_cannot_be_deleted_comes_back_and_says_why(
    open_window: Open, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "own" / f"{SMALL}-4bit")
    person = open_window()
    person.go_to_models()
    card = person.see(SMALL, "here")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    person.click(card.side_button)
    person.click(card.question.yes_button)
    notice = person.window.models_page.notice
    qtbot.waitUntil(notice.isVisible)
    assert "could not be deleted (Permission denied)" in notice.text()
    card = person.see(SMALL, "here")
    monkeypatch.undo()
    person.click(card.side_button)
    person.click(card.question.yes_button)
    person.see(SMALL, "absent")
    assert not notice.isVisible(), "what was said before is over"
    qtbot.waitUntil(lambda: not folder.exists())


def test_a_card_that_is_taken_off_the_list_stays_off_while_the_disk_is_slow(
    open_window: Open, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "mine")
    person = open_window()
    drop_files(person.window, [folder])
    card = person.see(str(folder), "here")
    looked, released = threading.Event(), threading.Event()
    find = LibraryPlaces.find

    def slowly(self: LibraryPlaces, folders: Sequence[Path]) -> object:
        found = find(self, folders)
        if folders:
            looked.set()
            assert released.wait(30)
        return found

    monkeypatch.setattr(LibraryPlaces, "find", slowly)
    person.window.show_chat()
    person.go_to_models()  # looks again
    qtbot.waitUntil(looked.is_set)
    person.click(card.side_button)
    qtbot.waitUntil(lambda: len(person.window.models_page.cards) == 5)
    with qtbot.waitSignal(person.composition.library.shelf_changed):
        released.set()
    assert len(person.window.models_page.cards) == 5


def test_a_model_that_arrives_while_the_disk_is_slow_never_looks_gone(
    open_window: Open, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, turns = threading.Event(), threading.Semaphore(0)
    find = LibraryPlaces.find

    def slowly(self: LibraryPlaces, folders: Sequence[Path]) -> object:
        found = find(self, folders)
        looked.set()
        assert turns.acquire(timeout=30)
        return found

    gate = Gate(DEMO_MODEL_DIR / WEIGHTS)
    with HubServer({f"mlx-community/{SMALL}-4bit": ready_repository(gate.content())}) as server:
        person = open_window(server)
        card = person.go_to_models()
        person.choose_ready(SMALL)
        person.click(card.main_button)
        person.see(SMALL, "downloading")
        monkeypatch.setattr(LibraryPlaces, "find", slowly)
        person.window.show_chat()
        person.go_to_models()  # looks again
        qtbot.waitUntil(looked.is_set)
        gate.opened.set()
        qtbot.waitUntil(lambda: not person.composition.library.downloads.states)
        with qtbot.waitSignal(person.composition.library.shelf_changed):
            turns.release()
        assert card.entry.state == "arrived", "it is here, and the next look will find it"
        turns.release()
        person.see(SMALL, "here")
