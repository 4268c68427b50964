"""Inspects attached files on a small pool of threads and tells the window what was found.

Lives in the GUI thread, which it never blocks. Owns the pool, the processor that counts tokens, and
which findings are still wanted: those for a file that was taken away again are dropped.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, Signal, Slot
from PySide6.QtGui import QImage

from app.conversation.detail import PictureDetail
from app.inference.inspection import Inspection, attachment_name, counted, stamp_of
from app.inference.pasted_pictures import keep_picture
from app.inference.requests import MAX_IMAGE_TOKENS
from mlx_model.errors import FiresideError
from mlx_model.messages import ReplySettings

if TYPE_CHECKING:
    from mlx_model.processor import Processor

_log = logging.getLogger("fireside.inspection")

_THREADS = 2
_PASTE_REFUSED = "The pasted picture could not be kept. Is the disk full?"


@dataclass(frozen=True, slots=True)
class _Finding:
    """A job's result on its way to the GUI thread."""

    ticket: int
    path: Path
    inspection: Inspection


class Inspector(QObject):
    """Inspects files in the background. Methods and slots run in the GUI thread.

    Signals:
        inspected(Path, Inspection): what was found out about a file that is still wanted.
        looked_again(int, dict): the stamps of the files by their paths, None where there is none.
        pasted_kept(Path): a pasted picture became this file.
        pasting_failed(str): it could not; the sentence says why.
    """

    inspected = Signal(object, object)
    looked_again = Signal(int, object)
    pasted_kept = Signal(object)
    pasting_failed = Signal(str)

    # From pool threads to the slot below.
    _found = Signal(object)

    def __init__(
        self, model_folder: Path, pasted_folder: Path, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._pasted_folder = pasted_folder
        self._processor = LazyProcessor(model_folder)
        self._settings = ReplySettings()
        self._tickets = 0
        self._wanted: dict[Path, _Ticket] = {}
        self._pool = QThreadPool()
        self._pool.setMaxThreadCount(_THREADS)
        self._found.connect(self.on_found, Qt.ConnectionType.QueuedConnection)

    def inspect(self, path: Path) -> None:
        """Look at `path`, again if it was looked at before; `inspected` follows."""
        self.forget([path])
        self._tickets += 1
        ticket = _Ticket(self._tickets, threading.Event())
        self._wanted[path] = ticket
        self._pool.start(_InspectionJob(self, path, ticket))

    def use_model(self, folder: Path) -> bool:
        """Count tokens as the model in `folder` does, from the next file on; False if they are."""
        if folder == self._processor.folder:
            return False
        self._processor = LazyProcessor(folder)
        return True

    def forget(self, paths: Iterable[Path]) -> None:
        """Nobody wants to know about these files any more."""
        for path in paths:
            ticket = self._wanted.pop(path, None)
            if ticket is not None:
                ticket.cancel.set()

    def keep_pasted(self, image: QImage) -> None:
        """Make a file of a pasted picture; `pasted_kept` or `pasting_failed` follows."""
        self._pool.start(_PasteJob(self, image))

    def look_again(self, paths: Iterable[Path]) -> int:
        """See in which state the files are now; `looked_again` follows with the number returned.

        Not in the GUI thread: a network volume that has gone may take a minute to say so.
        """
        self._tickets += 1
        self._pool.start(_LookJob(self, self._tickets, tuple(paths)))
        return self._tickets

    def counted(self, inspection: Inspection, detail: PictureDetail) -> Inspection:
        """The same finding with what the file costs when it is looked at that closely.

        Only arithmetic, once the processor is loaded, as it is after the first finding.
        """
        attachment = inspection.attachment
        if attachment.token_count is None:
            return inspection
        tokens = MAX_IMAGE_TOKENS[detail]
        return replace(inspection, attachment=counted(attachment, self._processor.get(), tokens))

    def close(self, limit_ms: int) -> bool:
        """Drop what waits and give what runs this long to end; False when it did not."""
        self.forget(tuple(self._wanted))
        self._pool.clear()
        return self._pool.waitForDone(limit_ms)

    @Slot(object)
    def on_found(self, finding: _Finding) -> None:
        """A job ended: pass its findings on if they are still wanted."""
        ticket = self._wanted.get(finding.path)
        if ticket is not None and ticket.number == finding.ticket:
            del self._wanted[finding.path]
            self.inspected.emit(finding.path, finding.inspection)

    def run_inspection(self, path: Path, ticket: "_Ticket") -> None:
        """The work of one job, on a pool thread."""
        from app.inference.attachment_reader import inspect_file

        if ticket.cancel.is_set():
            return
        name = attachment_name(path, self._pasted_folder)
        found = inspect_file(path, name, self._processor.get, self._settings, ticket.cancel)
        if not ticket.cancel.is_set():
            self._found.emit(_Finding(ticket.number, path, found))

    def run_look(self, number: int, paths: tuple[Path, ...]) -> None:
        """The work of one look at the disk, on a pool thread."""
        self.looked_again.emit(number, {path: stamp_of(path) for path in paths})

    def run_paste(self, image: QImage) -> None:
        """The work of one paste, on a pool thread."""
        try:
            path = keep_picture(image, self._pasted_folder)
        except (OSError, ValueError):
            _log.exception("a pasted picture could not be kept")
            self.pasting_failed.emit(_PASTE_REFUSED)
            return
        self.pasted_kept.emit(path)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """One order to inspect a file."""

    number: int
    cancel: threading.Event


class LazyProcessor:
    """The processor of a checkpoint folder, loaded by the first thread that needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._loaded = False
        self._processor: Processor | None = None

    def get(self) -> "Processor | None":
        """The processor; None when the folder has none that can be read."""
        with self._lock:
            if not self._loaded:
                self._loaded = True
                from mlx_model.processor import load_processor

                try:
                    self._processor = load_processor(self.folder)
                except FiresideError as error:
                    # The window already says so: the engine fails to open the same folder.
                    _log.warning("no token counts: %s", error)
            return self._processor


class _InspectionJob(QRunnable):
    def __init__(self, inspector: Inspector, path: Path, ticket: _Ticket) -> None:
        super().__init__()
        self._inspector = inspector
        self._path = path
        self._ticket = ticket

    def run(self) -> None:
        self._inspector.run_inspection(self._path, self._ticket)


class _LookJob(QRunnable):
    def __init__(self, inspector: Inspector, number: int, paths: tuple[Path, ...]) -> None:
        super().__init__()
        self._inspector = inspector
        self._number = number
        self._paths = paths

    def run(self) -> None:
        self._inspector.run_look(self._number, self._paths)


class _PasteJob(QRunnable):
    def __init__(self, inspector: Inspector, image: QImage) -> None:
        super().__init__()
        self._inspector = inspector
        self._image = image

    def run(self) -> None:
        self._inspector.run_paste(self._image)
