"""The queue of downloads by itself: what a state says at each event."""

import threading
from collections.abc import Iterator

from pytestqt.qtbot import QtBot

from app.inference.download_worker import FetchJob
from app.inference.downloads import Downloads
from app.model_entry import Transfer
from mlx_model import DownloadEvent, DownloadFinished, DownloadProgress, DownloadTrouble


def test_nothing_is_said_of_the_whole_while_it_is_being_listed(qtbot: QtBot) -> None:
    go_on = threading.Event()

    def fetch(job: FetchJob) -> Iterator[DownloadEvent]:
        yield DownloadProgress("listing", "config.json", 900, 900)
        yield DownloadTrouble("A pause for breath.", 0)
        assert go_on.wait(30)
        yield DownloadProgress("downloading", "model.safetensors", 1000, 10_000)
        yield DownloadTrouble("Another one.", 1000)
        assert job.stop.wait(30)
        yield DownloadFinished(None)

    downloads = Downloads(fetch)
    try:
        downloads.start("a", "ready")
        qtbot.waitUntil(lambda: downloads.states["a"].problem == "A pause for breath.")
        assert downloads.states["a"].transfer is None, "the config is not the model"
        go_on.set()
        qtbot.waitUntil(lambda: downloads.states["a"].problem.startswith("Another"))
        state = downloads.states["a"]
        assert state.problem == "Another one. Trying again within 17 minutes."
        assert state.transfer == Transfer(1000, 10_000)
    finally:
        go_on.set()
        assert downloads.close(20_000)
