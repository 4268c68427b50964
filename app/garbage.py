"""Runs Python's cycle collector in the GUI thread, in quiet moments, and nowhere else.

Left alone, a collection starts in whichever thread allocates next: in the inference thread it may
destroy a widget there, which Qt forbids, and a full one stalls the window in the middle of a reply.
"""

import gc

from PySide6.QtCore import QObject, QTimer, Slot

_INTERVAL_MS = 2000
# Python's own thresholds for the youngest generation and for the one above it.
_YOUNG_OBJECTS = 700
_MIDDLE_ROUNDS = 10


class GarbageCollector(QObject):
    """Collects cycles every two seconds, the old generation only while no reply is arriving.

    Lives in the GUI thread; automatic collection is off from construction to `close`.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._quiet = True
        gc.disable()
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self.collect)
        self._timer.start()

    @Slot()
    def collect(self) -> None:
        """Collect what is due."""
        young, middle, old = gc.get_count()
        if self._quiet and old > 0:
            gc.collect(2)
        elif middle > _MIDDLE_ROUNDS:
            gc.collect(1)
        elif young > _YOUNG_OBJECTS:
            gc.collect(0)

    @Slot(str)
    def on_state_changed(self, state: str) -> None:
        """A reply began or ended."""
        self._quiet = state != "replying"

    @Slot()
    def settle(self) -> None:
        """Leave what is alive now out of later collections: it stays as long as the program.

        Loading a model brings in some 100,000 such objects, which every full collection would walk.
        """
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """Hand collection back to Python."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()
