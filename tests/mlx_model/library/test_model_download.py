"""From the hub to a model that loads: raw with a conversion, or ready."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_model.config import load_config
from mlx_model.errors import DownloadError, FiresideError
from mlx_model.library.catalogue import StoredWeights, catalogue_model
from mlx_model.library.conversion import ConversionError, convert_apart
from mlx_model.library.download_events import DownloadEvent, DownloadFinished, DownloadProgress
from mlx_model.library.model_download import converted_folder, get_model
from mlx_model.weights import load_model
from tests.hub_server.faults import Fault
from tests.hub_server.repository import Repository
from tests.hub_server.server import HubServer
from tests.mlx_model.goldens import copy_checkpoint
from tests.mlx_model.library.small_hub import (
    DEMO,
    REPOSITORY,
    WEIGHTS,
    hub_at,
    small_repository,
)

MODEL = catalogue_model("0.8B")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small checkpoint as published."""
    return copy_checkpoint("untied", tmp_path / "raw").folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def folder_of(events: list[DownloadEvent]) -> Path | None:
    last = events[-1]
    assert isinstance(last, DownloadFinished)
    assert not any(isinstance(event, DownloadFinished) for event in events[:-1])
    return last.folder


def test_a_raw_model_is_converted_once(raw: Path, own: Path, tmp_path: Path) -> None:
    with HubServer({REPOSITORY: Repository.of_folder(raw)}) as server:
        hub = hub_at(server, tmp_path / "cache")
        events = list(get_model(MODEL, hub, threading.Event(), own_folder=own))
        folder = folder_of(events)
        assert folder == own / "Qwen3.5-0.8B-4bit" == converted_folder(MODEL, own)
        server.requests.clear()
        again = list(get_model(MODEL, hub, threading.Event(), own_folder=own))
        assert again == [DownloadFinished(folder)]
        assert server.requests == []
    told = [e for e in events if isinstance(e, DownloadProgress) and e.stage == "converting"]
    assert told[0] == DownloadProgress("converting")
    assert told[-1].done_bytes == told[-1].total_bytes > 0
    assert folder is not None
    config = load_config(folder)
    assert config.quantization is not None
    assert config.quantization.bits == 4
    load_model(folder)


def nothing_half(own: Path) -> bool:
    """Nothing is left, or all: the other process may have been quicker than the stop."""
    left = list(own.iterdir())
    return not left or (left == [own / "m"] and load_model(own / "m") is not None)


def test_a_conversion_that_is_stopped_leaves_nothing_half(raw: Path, own: Path) -> None:
    stop = threading.Event()
    events = []
    for event in convert_apart(raw, own / "m", stop):
        events.append(event)
        if isinstance(event, DownloadProgress) and event.done_bytes:
            stop.set()
    assert folder_of(events) is None
    assert nothing_half(own)


def test_a_conversion_that_is_abandoned_leaves_nothing_half(raw: Path, own: Path) -> None:
    events = convert_apart(raw, own / "m", threading.Event())
    for event in events:
        if isinstance(event, DownloadProgress) and event.done_bytes:
            break
    events.close()  # type: ignore[attr-defined]
    assert nothing_half(own)


def test_why_a_conversion_failed_is_told(own: Path) -> None:
    with pytest.raises(ConversionError, match="is quantised already"):
        list(convert_apart(DEMO, own / "m", threading.Event()))


def test_a_stop_while_it_downloads_does_not_convert(own: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with HubServer({REPOSITORY: small_repository()}) as server:
        events = []
        for event in get_model(MODEL, hub_at(server, tmp_path), stop, own_folder=own):
            events.append(event)
            stop.set()
    assert folder_of(events) is None
    assert not own.exists()


def test_room_for_the_conversion_is_looked_for_before_the_download(
    own: Path, tmp_path: Path
) -> None:
    huge = replace(MODEL, converted=StoredWeights(9 * 10**15, 4.5))
    with HubServer({REPOSITORY: small_repository()}) as server:
        hub = hub_at(server, tmp_path / "cache")
        with pytest.raises(DownloadError, match=r"needs 9000000\.\d GB more") as raised:
            list(get_model(huge, hub, threading.Event(), own_folder=own))
        assert str(raised.value).endswith(
            ", or take the ready-made one, which needs 626.0 MB in all."
        )
        assert not server.body_requests(WEIGHTS)


@pytest.mark.parametrize("index", [0, 1])
def test_the_first_ready_repository_that_is_there(index: int, tmp_path: Path) -> None:
    name = MODEL.ready_repositories[index]
    with HubServer({name: Repository.of_folder(DEMO)}) as server:
        hub = hub_at(server, tmp_path)
        folder = folder_of(list(get_model(MODEL, hub, threading.Event(), ready=True)))
    assert folder is not None
    assert folder.parent.parent == hub.cache_of(name).folder
    assert load_config(folder).quantization is not None


def test_no_ready_repository_is_said(tmp_path: Path) -> None:
    with (
        HubServer({}) as server,
        pytest.raises(DownloadError, match=r"4bit only to people with an access token"),
    ):
        list(get_model(MODEL, hub_at(server, tmp_path), threading.Event(), ready=True))


def test_a_refusal_other_than_absence_is_not_passed_over(tmp_path: Path) -> None:
    first, second = MODEL.ready_repositories
    with HubServer({name: Repository.of_folder(DEMO) for name in (first, second)}) as server:
        server.faults.add(Fault("status", "api", first, status=403))
        with pytest.raises(FiresideError, match="accept its conditions"):
            list(get_model(MODEL, hub_at(server, tmp_path), threading.Event(), ready=True))
