"""The files of the draft: which there are, what is known of each, and whether they can be sent.

Lives in the GUI thread. Keeps the window's chips in step; knows no conversation and no reply.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtGui import QImage

from app.conversation.detail import DETAILS, DetailChoice, PictureDetail
from app.conversation.message import Attachment
from app.inference.inspection import FileStamp, Inspection
from app.inference.inspector import Inspector
from app.main_window import MainWindow

Readiness = Literal["ready", "waiting", "refused"]

# More pictures than any model reads in one question, and few enough to look through.
MOST_FILES = 100


class DraftFiles(QObject):
    """The attachments of the next question, in the order of their chips.

    Signals:
        refused(Path, str): a file cannot be sent; the sentence says why.
        settled(): nothing is being read any more.
    """

    refused = Signal(object, str)
    settled = Signal()

    def __init__(
        self, window: MainWindow, inspector: Inspector, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._window = window
        self._inspector = inspector
        # None while a file is being inspected.
        self._findings: dict[Path, Inspection | None] = {}
        # Pictures that were pasted and are not files yet.
        self._pastes = 0
        self._detail: PictureDetail = "normal"
        # The number of the look at the disk that has not come back yet.
        self._look: int | None = None
        # True while the files are known to be on disk as they were read.
        self._confirmed = False
        inspector.pasted_kept.connect(self.on_pasted_kept)
        inspector.pasting_failed.connect(self.on_pasting_failed)
        inspector.looked_again.connect(self.on_looked_again)

    def __bool__(self) -> bool:
        return bool(self._findings)

    @property
    def paths(self) -> list[Path]:
        """Where the files are."""
        return list(self._findings)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What was found out so far."""
        return tuple(found.attachment for found in self._findings.values() if found is not None)

    @property
    def detail(self) -> PictureDetail:
        """How closely the pictures are to be looked at."""
        return self._detail

    @property
    def reading(self) -> bool:
        """True while something about the files is being found out."""
        return self._look is not None or self.pending

    @property
    def pending(self) -> bool:
        """True while a file is being read."""
        return bool(self._pastes) or any(found is None for found in self._findings.values())

    def thumbnails(self) -> dict[Path, list[QImage]]:
        """What each file looks like: one picture, or the frames of a clip."""
        return {
            path: list(found.filmstrip) or [found.thumbnail]
            for path, found in self._findings.items()
            if found is not None and found.thumbnail is not None
        }

    def offer(self, paths: Iterable[Path]) -> None:
        """Make chips of files that have none, as many as one question takes."""
        fresh = [path for path in dict.fromkeys(paths) if path not in self._findings]
        taken = fresh[: max(0, MOST_FILES - len(self._findings))]
        for path in taken:
            self._window.add_chip(path)
            self._inspect(path)
        left_out = len(fresh) - len(taken)
        if left_out:
            verb = "was" if left_out == 1 else "were"
            self._window.set_status(
                f"One question takes up to {MOST_FILES} files; {left_out:,} {verb} left out."
            )

    def paste(self, image: QImage) -> None:
        """Take a picture that has no file yet."""
        self._pastes += 1
        self._inspector.keep_pasted(image)

    @Slot(object)
    def on_pasted_kept(self, path: Path) -> None:
        """The pasted picture has a file now."""
        self._pastes -= 1
        self.offer([path])
        self._tell_settled()

    @Slot(str)
    def on_pasting_failed(self, sentence: str) -> None:
        """The pasted picture could not be kept."""
        self._pastes -= 1
        self._tell_settled()
        self._window.set_status(sentence)

    def set_detail(self, detail: PictureDetail) -> None:
        """Look at the pictures that closely, until something else is chosen."""
        self._detail = detail
        for path, found in tuple(self._findings.items()):
            if found is not None and found.attachment.problem is None:
                self._show(path, found)
        self._offer_details()

    def remove(self, path: Path) -> None:
        """A chip was taken away."""
        self._findings.pop(path, None)
        self._inspector.forget([path])
        self._look = None
        self._offer_details()

    def set_read(self) -> None:
        """The model has read all of them: nobody will wait for that."""
        for path in self._findings:
            self._window.set_chip_read(path)

    def read_again(self) -> None:
        """Another model looks at the files: what they cost is to be found out anew."""
        for path in tuple(self._findings):
            self._inspect(path)

    def clear(self) -> None:
        """The files were sent; whoever sent them takes the chips away."""
        self._inspector.forget(self._findings)
        self._findings.clear()
        self._look = None
        self._offer_details()

    def take(self, path: Path, found: Inspection) -> None:
        """What one of the files is has been found out; other files are ignored."""
        if path not in self._findings:
            return
        twin = self._twin(path, found.stamp)
        if twin is not None:
            twice = max(path, twin, key=list(self._findings).index)
            self._findings[path] = found
            self.remove(twice)
            self._window.remove_chip(twice)
            if twice == path:
                self._tell_settled()
                return
        problem = found.attachment.problem
        if problem is not None:
            self._findings[path] = found
            self._window.set_chip_problem(path, problem)
            self.refused.emit(path, problem)
        else:
            self._show(path, found)
        self._tell_settled()

    def check(self) -> Readiness:
        """Whether all can be sent; what changed on disk since it was read, is read again.

        "waiting" ends with `settled`, when it has to be asked again. Where a file cannot be sent,
        the window says so.
        """
        if not self.reading and self._findings and not self._confirmed:
            self._look = self._inspector.look_again(self._findings)
        if self.reading:
            return "waiting"
        bad = [found for found in self.attachments if found.problem is not None]
        if not bad:
            return "ready"
        which = bad[0].name if len(bad) == 1 else f"{len(bad)} files"
        self._window.offer_removal(
            f"{which} cannot be sent.", "Remove it" if len(bad) == 1 else "Remove them"
        )
        return "refused"

    @Slot(int, object)
    def on_looked_again(self, number: int, stamps: dict[Path, FileStamp | None]) -> None:
        """How the files are now: read again what is not as it was."""
        if number != self._look:
            return
        self._look = None
        for path, found in tuple(self._findings.items()):
            if found is not None and found.stamp != stamps[path]:
                self._inspect(path)
        self._confirmed = not self.reading
        self._tell_settled()
        self._confirmed = False

    def _twin(self, path: Path, stamp: FileStamp | None) -> Path | None:
        """Another chip of the same file, by another name or spelling."""
        for other, found in self._findings.items():
            if other != path and found and stamp and stamp.is_of_same_file(found.stamp):
                return other
        return None

    def _show(self, path: Path, found: Inspection) -> None:
        """Keep a good file with what it costs now, and put that on its chip."""
        found = self._findings[path] = self._inspector.counted(found, self._detail)
        if found.thumbnail is not None:
            self._window.update_chip(path, found.attachment, found.thumbnail, list(found.filmstrip))

    def _offer_details(self) -> None:
        """Let the person choose where the choice makes a difference."""
        good = [item for item in self._findings.values() if item and not item.attachment.problem]
        choices = [
            DetailChoice(
                detail,
                sum(self._inspector.counted(f, detail).attachment.token_count or 0 for f in good),
            )
            for detail in DETAILS
        ]
        differ = len({choice.token_count for choice in choices}) > 1
        self._window.set_detail_choices(choices if differ else [], self._detail)

    def _inspect(self, path: Path) -> None:
        self._findings[path] = None
        self._inspector.inspect(path)

    def _tell_settled(self) -> None:
        if not self.reading:
            self._offer_details()
            self.settled.emit()
