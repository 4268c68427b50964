"""All models as the window knows them: finds, downloads and deletes them, and tells what changed.

Lives in the GUI thread and never waits there except in `close`: disks and keychains are asked on a
pool thread, the network on the thread of the downloads. Which model answers is told to it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, QTimer, Signal, Slot

from app.inference.downloads import Downloads, DownloadState
from app.inference.library_places import LibraryPlaces, chip_name
from app.inference.shelf import (
    DEMO_KEY,
    MachineRoom,
    Opening,
    Refusal,
    ShelfFacts,
    found_by_key,
    make_shelf,
)
from app.model_entry import ModelShelf, Transfer
from app.preferences import Preferences
from mlx_model import FiresideError

if TYPE_CHECKING:
    from mlx_model import FoundModel

_log = logging.getLogger("fireside.library")

# Whatever changes within this time is told at once.
_TELL_AFTER_MS = 30
_UNEXPECTED = "Something went wrong inside the program. If it happens again, please report it."
TOKEN_NOTE = (
    "A token is a password for programs. Once it has been accepted, it is kept in the keychain."
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What looking through this machine has brought, for the GUI thread.

    `pointed` are the folders that somebody pointed at, with those of the models there.
    """

    pointed: dict[Path, tuple[Path, ...]]
    models: "tuple[FoundModel, ...]"
    arrived_bytes: dict[str, int]
    demo_bytes: int


class ModelLibrary(QObject):
    """Keeps the facts behind the models page. Everything here runs in the GUI thread.

    Signals:
        shelf_changed(ModelShelf): what is to be shown; soon after any number of changes.
        use_requested(Path, bool): somebody wants this model to answer, and may insist.
        stay_requested(): the model that waits, or is being opened, is not wanted any more.
        noticed(str): something about no model in particular; empty when it is over.
        added(str): the key of a model that somebody pointed at.
    """

    shelf_changed = Signal(object)
    use_requested = Signal(object, bool)
    stay_requested = Signal()
    noticed = Signal(str)
    added = Signal(str)

    # From pool threads to the slots below.
    _found = Signal(object)
    _chip_known = Signal(str)
    _failed = Signal(str)
    _done = Signal()
    _not_deleted = Signal(object, str)

    def __init__(
        self,
        places: LibraryPlaces,
        preferences: Preferences,
        demo_folder: Path,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._places = places
        self._preferences = preferences
        self._facts = ShelfFacts(
            places.catalogue, demo_folder, ways=preferences.ways, token_note=TOKEN_NOTE
        )
        self._chip = ""
        self._token: str | None = None
        # Whose downloads show whether it is accepted.
        self._trying_token: set[str] = set()
        # Complete downloads that have not been found on the disk yet.
        self._arriving: dict[str, DownloadState] = {}
        self._pointed: list[Path] = []
        # Of models that are being deleted.
        self._doomed: set[Path] = set()
        self._refreshing = False
        self._refresh_again = False
        self._leaving = False
        self.downloads = Downloads(places.fetch, self)
        self.downloads.changed.connect(self.on_download_changed)
        self.downloads.arrived.connect(self.on_download_arrived)
        self.downloads.let_go.connect(self.on_download_let_go)
        self._pool = QThreadPool()
        self._pool.setMaxThreadCount(1)
        queued = Qt.ConnectionType.QueuedConnection
        self._found.connect(self.on_found, queued)
        self._chip_known.connect(self.on_chip_known, queued)
        self._failed.connect(self.on_job_failed, queued)
        self._done.connect(self.on_job_done, queued)
        self._not_deleted.connect(self.on_not_deleted, queued)
        self._tell_timer = QTimer(self)
        self._tell_timer.setSingleShot(True)
        self._tell_timer.setInterval(_TELL_AFTER_MS)
        self._tell_timer.timeout.connect(self.tell)

    @property
    def shelf(self) -> ModelShelf:
        """What is to be shown now."""
        downloads = self._arriving | self.downloads.states
        return make_shelf(replace(self._facts, downloads=downloads))

    @Slot()
    def start(self) -> None:
        """Show what is known without looking, and begin to look."""
        known = {model.name for model in self._places.catalogue}
        for key, way in self._preferences.unfinished.items():
            if key in known:
                self.downloads.put_paused(key, way, None)
        self._run(lambda: self._chip_known.emit(chip_name()))
        self.refresh()
        self.tell()

    @Slot()
    def refresh(self) -> None:
        """Look through this machine again."""
        if self._refreshing:
            self._refresh_again = True
            return
        self._refreshing = True
        folders = tuple(dict.fromkeys([*self._preferences.added_folders, *self._pointed]))
        unfinished = {key: state.way for key, state in self.downloads.states.items()}
        self._run(lambda: self._look(folders, unfinished))

    def set_room(self, memory_bytes: int, working_set_bytes: int) -> None:
        """How much memory this machine has, and how much of it models may use."""
        self._set(machine=MachineRoom(self._chip, memory_bytes, working_set_bytes))

    def set_answering(self, folder: Path | None, opening: Opening | None) -> None:
        """Which model answers, and which is on its way to."""
        self._set(answering=folder, opening=opening)

    def set_refusal(self, folder: Path, refusal: Refusal | None) -> None:
        """A model could not be opened; None when it could."""
        refusals = {path: why for path, why in self._facts.refusals.items() if path != folder}
        if refusal is not None:
            refusals[folder] = refusal
        self._set(refusals=refusals)

    @Slot(str, str)
    def command(self, verb: str, key: str) -> None:
        """Do with a model what its card says."""
        self.noticed.emit("")
        match verb:
            case "download":
                self._download(key)
            case "pause":
                self.downloads.pause(key)
            case "cancel":
                self.downloads.give_up(key)
            case "use" | "use_anyway":
                folder = self._folder(key)
                if folder is not None:
                    self.use_requested.emit(folder, verb == "use_anyway")
            case "stay":
                self.stay_requested.emit()
            case "delete":
                self._delete(key)
            case "forget":
                self._forget(key)

    @Slot(str, str)
    def choose_way(self, key: str, way: str) -> None:
        """How a model is to be got; what arrived in another way is let go of."""
        state = self.downloads.states.get(key)
        if state is not None and state.way != way:
            self.downloads.give_up(key)
        ways = {**self._facts.ways, key: way}
        self._preferences.ways = ways
        self._set(ways=ways)

    @Slot(str, str)
    def give_token(self, key: str, token: str) -> None:
        """Go on with a download as somebody; the keychain keeps a token that is accepted."""
        self._token = token
        self._trying_token.add(key)
        self._download(key)

    @Slot(object)
    def offer_folders(self, folders: Sequence[Path]) -> None:
        """Somebody pointed at folders that may hold models, or at a file in one."""
        self.noticed.emit("")
        for folder in map(_model_folder, folders):
            if folder not in self._pointed:
                self._pointed.append(folder)
        self.refresh()

    def close(self, limit_ms: int) -> bool:
        """Stop everything, for later; False when something was still busy after `limit_ms`."""
        self._leaving = True
        self._tell_timer.stop()
        self._pool.clear()
        downloads_ended = self.downloads.close(limit_ms)
        return self._pool.waitForDone(limit_ms) and downloads_ended

    @Slot()
    def tell(self) -> None:
        """Say what is to be shown."""
        self._tell_timer.stop()
        if not self._leaving:
            self.shelf_changed.emit(self.shelf)

    @Slot(object)
    def on_found(self, found: _Found) -> None:
        """This machine was looked through."""
        self._refreshing = False
        if not self._refresh_again:
            self._arriving.clear()
        for key, done_bytes in found.arrived_bytes.items():
            state = self.downloads.states.get(key)
            if state is not None:
                transfer = self._transfer(key, state.way, done_bytes)
                self.downloads.put_paused(key, state.way, transfer)
        kept = {
            folder
            for pointed in (*self._preferences.added_folders, *self._pointed)
            for folder in found.pointed.get(pointed, ())
        }
        # It may have been taken off the list, or begun to be deleted, since the look began.
        self._set(
            demo_bytes=found.demo_bytes,
            found=tuple(
                each
                for each in found.models
                if each.folder not in self._doomed
                and (each.source != "folder" or each.folder in kept)
            ),
        )
        self._take_pointed(found.pointed)
        if self._refresh_again:
            self._refresh_again = False
            self.refresh()

    @Slot(str)
    def on_chip_known(self, chip: str) -> None:
        """What this machine computes with."""
        self._chip = chip
        if self._facts.machine is not None:
            self._set(machine=replace(self._facts.machine, chip=chip))

    @Slot(str)
    def on_job_failed(self, sentence: str) -> None:
        """Something on a pool thread did not work; the page says what."""
        self.noticed.emit(sentence)

    @Slot(object, str)
    def on_not_deleted(self, found: "FoundModel", sentence: str) -> None:
        """A model is still there: whoever reads why can do something about it at once."""
        self._doomed.discard(found.folder)
        if found not in self._facts.found:
            self._set(found=(*self._facts.found, found))
        self.noticed.emit(sentence)

    @Slot()
    def on_job_done(self) -> None:
        """Something was deleted, or could not be: see what there is now."""
        self._doomed.clear()
        self.refresh()

    @Slot(str)
    def on_download_changed(self, key: str) -> None:
        """A download is in another state; which ones there are is remembered."""
        unfinished = {key: state.way for key, state in self.downloads.states.items()}
        if unfinished != self._preferences.unfinished:
            self._preferences.unfinished = unfinished
        self._judge_token(key)
        self._tell_soon()

    @Slot(str, object)
    def on_download_arrived(self, key: str, folder: Path) -> None:
        """A model is complete: look for it where it is now."""
        _log.info("%s is in %s", key, folder)
        self._arriving[key] = DownloadState("arrived", self._way(key))
        self.refresh()

    @Slot(str, str)
    def on_download_let_go(self, key: str, way: str) -> None:
        """A download was given up: delete what has arrived, and see what there is without it."""
        self._run(lambda: self._places.discard(key, way), then=self._done.emit)

    def _download(self, key: str) -> None:
        state = self.downloads.states.get(key)
        self.downloads.start(key, state.way if state else self._way(key), self._token)

    def _judge_token(self, key: str) -> None:
        """Keep a token with which files arrive; go without one with which they do not."""
        state = self.downloads.states.get(key) or self._arriving.get(key)
        token = self._token
        if state is None or token is None:
            return
        if state.needs_token:
            self._token = None
        elif key in self._trying_token and (
            state.phase == "arrived" or (state.transfer and state.transfer.bytes_per_s is not None)
        ):
            self._trying_token.discard(key)
            self._run(lambda: _keep_token(token))

    def _way(self, key: str) -> str:
        return "ready" if self._facts.ways.get(key) == "ready" else "convert"

    def _delete(self, key: str) -> None:
        found = found_by_key(self._facts).get(key)
        if found is None or found.folder == self._facts.answering:
            return
        # Out of sight at once.
        self._set(found=tuple(each for each in self._facts.found if each != found))
        self._doomed.add(found.folder)
        self._run(
            lambda: _delete_model(found),
            then=self._done.emit,
            on_failure=lambda sentence: self._not_deleted.emit(found, sentence),
        )

    def _forget(self, key: str) -> None:
        folder = self._folder(key)
        kept = [each for each in self._preferences.added_folders if each != folder]
        self._preferences.added_folders = kept
        self._set(found=tuple(each for each in self._facts.found if each.folder != folder))

    def _take_pointed(self, looked_in: dict[Path, tuple[Path, ...]]) -> None:
        """Remember the models that were pointed at and have been looked for since."""
        pointed = [model for path in self._pointed for model in looked_in.get(path, ())]
        self._pointed = [path for path in self._pointed if path not in looked_in]
        if not pointed:
            return
        by_folder = {found.folder: key for key, found in found_by_key(self._facts).items()}
        by_real_folder = {folder.resolve(): key for folder, key in by_folder.items()}
        keys = [by_folder.get(path) or by_real_folder.get(path.resolve()) for path in pointed]
        added = [path for path in pointed if path in by_folder]
        self._preferences.added_folders = list(
            dict.fromkeys([*self._preferences.added_folders, *added])
        )
        self.tell()
        for key in keys:
            if key is not None:
                self.added.emit(key)

    def _folder(self, key: str) -> Path | None:
        if key == DEMO_KEY:
            return self._facts.demo_folder
        found = found_by_key(self._facts).get(key)
        return None if found is None else found.folder

    def _transfer(self, key: str, way: str, done_bytes: int) -> Transfer | None:
        model = next((model for model in self._facts.catalogue if model.name == key), None)
        if model is None or not done_bytes:
            return None
        weights = model.ready if way == "ready" else model.raw
        return Transfer(done_bytes, weights.size_bytes)

    def _set(self, **facts: object) -> None:
        self._facts = replace(self._facts, **facts)  # type: ignore[arg-type]
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._leaving and not self._tell_timer.isActive():
            self._tell_timer.start()

    def _run(
        self,
        work: Callable[[], object],
        then: Callable[[], object] | None = None,
        on_failure: Callable[[str], object] | None = None,
    ) -> None:
        if not self._leaving:
            self._pool.start(_Job(work, then, on_failure or self._failed.emit))

    def _look(self, folders: tuple[Path, ...], unfinished: dict[str, str]) -> None:
        """On the pool thread."""
        models: tuple[FoundModel, ...] = ()
        demo_bytes = 0
        arrived: dict[str, int] = {}
        pointed: dict[Path, tuple[Path, ...]] = {folder: (folder,) for folder in folders}
        try:
            for key, way in unfinished.items():
                arrived[key] = self._places.arrived_bytes(key, way)
            pointed = {folder: self._places.models_at(folder) for folder in folders}
            models = self._places.find(folders)
            demo_bytes = self._places.size_bytes(self._facts.demo_folder)
        finally:
            self._found.emit(_Found(pointed, models, arrived, demo_bytes))


class _Job(QRunnable):
    """Work for the pool thread; what goes wrong becomes a sentence. `then` follows in any case."""

    def __init__(
        self,
        work: Callable[[], object],
        then: Callable[[], object] | None,
        on_failure: Callable[[str], object],
    ) -> None:
        super().__init__()
        self._work = work
        self._then = then
        self._on_failure = on_failure

    def run(self) -> None:
        try:
            self._work()
        except FiresideError as error:
            self._on_failure(str(error))
        except Exception:  # noqa: BLE001 - nobody above would hear of it
            _log.exception("unexpected error in a job of the library")
            self._on_failure(_UNEXPECTED)
        if self._then is not None:
            self._then()


def _model_folder(path: Path) -> Path:
    """Weights and config stand for the folder that they are in."""
    of_model = path.suffix == ".safetensors" or path.name == "config.json"
    return path.parent if of_model else path


def _keep_token(token: str) -> None:
    from mlx_model import keep_access_token

    keep_access_token(token)


def _delete_model(found: "FoundModel") -> None:
    from mlx_model import delete_model

    delete_model(found)
