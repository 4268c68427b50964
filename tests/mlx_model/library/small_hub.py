"""A small model on a test hub: everything a published one has, a few hundred kilobytes of weights.

The weights are noise, so that every byte at a wrong place shows.
"""

import json
import random
import threading
from collections.abc import Mapping
from pathlib import Path

from mlx_model.library.download_events import DownloadEvent, DownloadFinished, DownloadTrouble
from mlx_model.library.hub import Hub, download_repository
from mlx_model.library.persistence import Patience
from tests.hub_server.repository import Repository
from tests.hub_server.server import HubServer

REPOSITORY = "Qwen/Qwen3.5-0.8B"
# As the published one is called: no pattern of names finds it, the index does.
WEIGHTS = "model.safetensors-00001-of-00001.safetensors"
DEMO = Path(__file__).resolve().parents[3] / "assets" / "demo_model"

FILES: dict[str, bytes] = {
    name: (DEMO / name).read_bytes()
    for name in ("config.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json")
}
FILES[WEIGHTS] = random.Random(7).randbytes(300_000)
FILES["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": WEIGHTS}}).encode()
# What nobody should fetch.
SUPERFLUOUS = {
    "README.md": b"words",
    "pytorch_model.bin": b"\x80\x02pickle",
    "modeling_qwen.py": b"import os",
    "model-extra.safetensors": b"not in the index",
    "onnx/model.onnx": b"another form",
}


def small_repository(changed: Mapping[str, bytes] | None = None) -> Repository:
    """The model, some of whose files may be others."""
    return Repository.of(FILES | SUPERFLUOUS | dict(changed or {}))


class Waits:
    """Lets no time pass and remembers how long it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, _stop: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)


def hub_at(server: HubServer, cache: Path, token: str | None = None, tries: int = 3) -> Hub:
    """The test hub with a patience that costs no time."""
    return Hub(server.endpoint, token, cache, Patience(stall_s=5, tries=tries, wait=Waits()))


def waits_of(hub: Hub) -> list[float]:
    """The seconds that downloads from `hub` would have waited."""
    wait = hub.patience.wait
    assert isinstance(wait, Waits)
    return wait.seconds


def fetched(hub: Hub, repository: str = REPOSITORY) -> tuple[Path, list[DownloadEvent]]:
    """Download to the end: the folder, and everything that was told."""
    events = list(download_repository(repository, hub, threading.Event()))
    last = events[-1]
    assert isinstance(last, DownloadFinished)
    assert last.folder is not None
    return last.folder, events


def troubles(events: list[DownloadEvent]) -> list[DownloadTrouble]:
    """What went wrong on the way."""
    return [event for event in events if isinstance(event, DownloadTrouble)]


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the files in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
