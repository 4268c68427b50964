"""Downloads from a hub on this machine, when all goes well and when things go wrong."""

import errno
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

from mlx_model.errors import CheckpointError, DownloadError
from mlx_model.library import hub as hub_module
from mlx_model.library.download_events import DownloadFinished, DownloadProgress
from mlx_model.library.hub import Hub, discard_download, download_repository, unfinished_bytes
from mlx_model.library.hub_cache import HubCache
from mlx_model.library.hub_listing import HubFile
from mlx_model.library.persistence import Patience
from tests.hub_server.faults import Fault
from tests.hub_server.repository import Content, Repository
from tests.hub_server.server import MIRROR, HubServer
from tests.mlx_model.library.small_hub import (
    FILES,
    REPOSITORY,
    WEIGHTS,
    contents,
    fetched,
    hub_at,
    small_repository,
    troubles,
    waits_of,
)

SIZE = len(FILES[WEIGHTS])

# Whole files that stay without a name until the weights are here.
BESIDE_WEIGHTS = sum(len(content) for name, content in FILES.items() if name != WEIGHTS)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer({REPOSITORY: small_repository()}) as running:
        yield running


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return hub_at(server, tmp_path / "cache")


def partial(hub: Hub) -> Path:
    """Where the weights arrive."""
    (file,) = hub.cache_of(REPOSITORY).folder.glob("blobs/*.incomplete")
    return file


def stopped_in_the_weights(hub: Hub, server: HubServer, after_bytes: int) -> None:
    """Download until so much of the weights is there, then stop."""
    server.faults.add(Fault("drop", name=WEIGHTS, after_bytes=after_bytes))
    stop = threading.Event()
    events = []
    for event in download_repository(REPOSITORY, hub, stop):
        events.append(event)
        if troubles([event]):
            stop.set()
    assert events[-1] == DownloadFinished(None)
    assert partial(hub).stat().st_size == after_bytes


def test_everything_that_is_needed_arrives_and_nothing_else(hub: Hub, server: HubServer) -> None:
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert not troubles(events)
    assert waits_of(hub) == []
    asked = {
        request.path.rsplit("/", 1)[1] for request in server.requests if "resolve" in request.path
    }
    assert asked == set(FILES)


def test_huggingface_hub_finds_it_without_a_network(hub: Hub) -> None:
    folder, _ = fetched(hub)
    found = snapshot_download(REPOSITORY, cache_dir=hub.cache, local_files_only=True)
    assert Path(found) == folder
    (repository,) = scan_cache_dir(hub.cache).repos
    assert repository.size_on_disk == sum(map(len, FILES.values()))
    assert set(repository.refs) == {"main"}


def test_what_huggingface_hub_has_is_not_fetched_again(hub: Hub, server: HubServer) -> None:
    snapshot_download(
        REPOSITORY, endpoint=server.endpoint, cache_dir=hub.cache, token=False, max_workers=1
    )
    server.requests.clear()
    folder, _ = fetched(hub)
    assert FILES.items() <= contents(folder).items()
    assert not [request for request in server.requests if "/api/" not in request.path]


def test_progress_never_goes_back_and_ends_at_the_whole(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_EVENT_EVERY_S", 0.0)
    _, events = fetched(hub)
    told = [e for e in events if isinstance(e, DownloadProgress) and e.stage == "downloading"]
    done = [event.done_bytes for event in told]
    assert done == sorted(done)
    assert len(done) > 4
    assert {event.total_bytes for event in told} == {sum(map(len, FILES.values()))} == {done[-1]}
    assert any(event.bytes_per_s > 0 and event.seconds_left is not None for event in told)


def test_fifty_drops_in_one_file(hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("drop", name=WEIGHTS, times=50, after_bytes=5000))
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert len(troubles(events)) == 50
    assert waits_of(hub) == [1.0] * 50
    starts = [r.headers.get("range") for r in server.body_requests(WEIGHTS) if r.host == "storage"]
    assert starts == [None, *(f"bytes={5000 * n}-" for n in range(1, 51))]


def test_an_end_without_a_length_is_a_drop_too(hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("cut", name=WEIGHTS, after_bytes=70_001))
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert [trouble.text for trouble in troubles(events)] == ["The connection was interrupted."]


def test_a_stall_is_cut_off_and_gone_on_with(server: HubServer, tmp_path: Path) -> None:
    hub = Hub(server.endpoint, None, tmp_path, Patience(stall_s=1.0, first_wait_s=0))
    server.faults.add(Fault("stall", name=WEIGHTS, after_bytes=123_456))
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert [trouble.text for trouble in troubles(events)] == ["Nothing arrives from the hub."]
    assert server.body_requests(WEIGHTS)[-1].headers["range"] == "bytes=123456-"


def test_waits_double_while_nothing_arrives_and_then_it_says_what_to_do(
    server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path, tries=8)
    server.faults.add(Fault("status", name=WEIGHTS, times=99, status=500))
    with pytest.raises(DownloadError, match=r"error 500 \(8 times in a row\)\. What has"):
        fetched(hub)
    assert waits_of(hub) == [1, 2, 4, 8, 16, 30, 30]
    server.faults.clear()
    assert contents(fetched(hub)[0]) == FILES


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "17"}, 17),
        ({"RateLimit": '"resolvers";r=0;t=41'}, 41),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
)
@pytest.mark.parametrize("place", ["api", "resolve", "body"])
def test_too_many_requests_waits_as_long_as_it_is_told(
    place: str, headers: dict[str, str], wait_s: float, hub: Hub, server: HubServer
) -> None:
    name = REPOSITORY if place == "api" else WEIGHTS
    server.faults.add(Fault("status", place, name, status=429, headers=headers))  # type: ignore[arg-type]
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert waits_of(hub) == [wait_s]
    (trouble,) = troubles(events)
    assert trouble.text == "The hub asks to wait because of too many requests."
    assert trouble.wait_s == wait_s


@pytest.mark.parametrize("place", ["api", "resolve"])
@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, None, "only to people with an access token, or does not have it"),
        (401, "hf_right", "does not accept the access token. Enter a new one"),
        (403, "hf_right", "Open {page}, accept its conditions, and start again"),
        (404, None, "There is no Qwen/Qwen3.5-0.8B on the hub. Choose another model"),
        (418, None, "answer 418"),
    ],
)
def test_refusals_say_what_to_do_and_are_not_asked_again(
    place: str, status: int, token: str | None, words: str, server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path, token)
    name = REPOSITORY if place == "api" else WEIGHTS
    server.faults.add(Fault("status", place, name, times=9, status=status))  # type: ignore[arg-type]
    with pytest.raises(DownloadError) as raised:
        fetched(hub)
    assert words.format(page=f"{server.endpoint}/{REPOSITORY}") in str(raised.value)
    assert server.faults.left == 8
    assert waits_of(hub) == []


def test_a_signed_address_that_ran_out_is_asked_for_again(hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("status", name=WEIGHTS, status=403))
    folder, _ = fetched(hub)
    assert contents(folder) == FILES
    assert [r.host for r in server.body_requests(WEIGHTS)] == ["hub", "storage", "hub", "storage"]


def test_a_mirror_that_sends_on_to_a_hub_that_wants_a_token(hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("status", name=WEIGHTS, times=9, status=401))
    with pytest.raises(DownloadError, match="only to people with an access token"):
        fetched(hub)
    assert waits_of(hub) == []


def test_redirects_are_followed(hub: Hub, server: HubServer) -> None:
    server.faults.add(
        Fault("redirect", "resolve", "config.json", times=3), Fault("redirect", "resolve", WEIGHTS)
    )
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert not troubles(events)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_wrong_bytes_are_fetched_again(name: str, hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("corrupt", name=name, times=2, after_bytes=99))
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert [t.text for t in troubles(events)] == [
        f"{name} arrived with wrong bytes and is fetched again."
    ] * 2


def test_bytes_that_stay_wrong_never_get_a_name(hub: Hub, server: HubServer) -> None:
    server.faults.add(Fault("corrupt", name=WEIGHTS, times=3, after_bytes=99))
    with pytest.raises(DownloadError, match=r"wrong bytes 3 times\. Start again over another"):
        fetched(hub)
    assert not list((hub.cache or Path()).rglob(WEIGHTS))
    assert unfinished_bytes(REPOSITORY, hub) == BESIDE_WEIGHTS


def test_a_resume_goes_on_where_the_stop_was(hub: Hub, server: HubServer) -> None:
    stopped_in_the_weights(hub, server, 200_001)
    assert unfinished_bytes(REPOSITORY, hub) == 200_001 + BESIDE_WEIGHTS
    server.requests.clear()
    folder, _ = fetched(hub)
    assert contents(folder) == FILES
    (request,) = [r for r in server.body_requests(WEIGHTS) if r.host == "storage"]
    assert request.headers["range"] == "bytes=200001-"


def test_until_all_is_there_the_model_has_no_folder(hub: Hub, server: HubServer) -> None:
    stopped_in_the_weights(hub, server, 1000)
    assert not (hub.cache_of(REPOSITORY).folder / "snapshots").exists()


def test_what_was_spoiled_while_it_waited_is_fetched_again(hub: Hub, server: HubServer) -> None:
    stopped_in_the_weights(hub, server, 200_000)
    with partial(hub).open("r+b") as stream:
        stream.write(b"spoiled")
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert len(troubles(events)) == 1


def test_more_than_the_file_holds_is_thrown_away(hub: Hub, server: HubServer) -> None:
    stopped_in_the_weights(hub, server, 1000)
    with partial(hub).open("ab") as stream:
        stream.write(bytes(SIZE))
    assert contents(fetched(hub)[0]) == FILES


def test_a_spoiled_file_that_was_there_is_replaced(hub: Hub) -> None:
    folder, _ = fetched(hub)
    weights = folder / WEIGHTS
    spoiled = bytearray(FILES[WEIGHTS])
    spoiled[1234] ^= 1
    weights.resolve().write_bytes(spoiled)
    assert contents(fetched(hub)[0]) == FILES


@pytest.mark.parametrize("action", ["whole", "shifted"])
def test_an_answer_with_another_range_spoils_nothing(
    action: str, hub: Hub, server: HubServer
) -> None:
    server.faults.add(
        Fault("drop", name=WEIGHTS, after_bytes=100_000),
        Fault(action, name=WEIGHTS),  # type: ignore[arg-type]
    )
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert not [t for t in troubles(events) if "wrong bytes" in t.text]


@pytest.mark.parametrize(
    ("place", "name", "words"),
    [
        ("api", REPOSITORY, "a sign-in page perhaps: no list of files."),
        ("body", WEIGHTS, f"a sign-in page perhaps: 7 bytes instead of {SIZE}."),
    ],
)
def test_a_page_in_the_hubs_place_is_not_taken_for_a_file(
    place: str, name: str, words: str, hub: Hub, server: HubServer
) -> None:
    server.faults.add(Fault("status", place, name, status=200))  # type: ignore[arg-type]
    folder, events = fetched(hub)
    assert contents(folder) == FILES
    assert [trouble.text for trouble in troubles(events)] == [
        f"Something answered in the hub's place, {words}"
    ]


@pytest.mark.parametrize("name", ["tokenizer_config.json", WEIGHTS])
def test_a_compressed_answer_is_unpacked(name: str, hub: Hub, server: HubServer) -> None:
    server.faults.add(
        Fault("drop", name=WEIGHTS, after_bytes=100_000), Fault("gzip", name=name, times=2)
    )
    assert contents(fetched(hub)[0]) == FILES


def test_on_a_disk_without_links_files_stand_under_their_names(
    hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    # As on exFAT.
    monkeypatch.setattr(Path, "symlink_to", refused)
    folder, _ = fetched(hub)
    assert contents(folder) == FILES
    assert not list(hub.cache_of(REPOSITORY).folder.glob("blobs/*"))
    server.requests.clear()
    assert contents(fetched(hub)[0]) == FILES
    assert not [request for request in server.requests if "/api/" not in request.path]


def test_cancelling_frees_what_has_arrived(hub: Hub, server: HubServer) -> None:
    stopped_in_the_weights(hub, server, 200_000)
    assert discard_download(REPOSITORY, hub) == 200_000 + BESIDE_WEIGHTS
    assert unfinished_bytes(REPOSITORY, hub) == 0
    assert discard_download(REPOSITORY, hub) == 0
    assert contents(fetched(hub)[0]) == FILES


def test_a_file_that_is_deleted_before_it_has_a_name_is_missed(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleting(cache: HubCache, commit: str, files: Sequence[HubFile]) -> Path:
        (cache.folder / "blobs" / files[-1].digest).unlink()
        return link(cache, commit, files)

    link = HubCache.link
    monkeypatch.setattr(HubCache, "link", deleting)
    with pytest.raises(DownloadError, match=f"{WEIGHTS} was deleted meanwhile"):
        fetched(hub)
    monkeypatch.undo()
    assert contents(fetched(hub)[0]) == FILES


def test_too_little_room_is_said_before_the_weights_are_asked_for(
    hub: Hub, server: HubServer
) -> None:
    with pytest.raises(DownloadError, match=r"needs 9000000\.\d GB more, and the disk with"):
        list(download_repository(REPOSITORY, hub, threading.Event(), extra_bytes=9 * 10**15))
    assert not server.body_requests(WEIGHTS)


def test_no_connection_at_all(tmp_path: Path) -> None:
    with HubServer({}) as gone:
        pass
    hub = hub_at(gone, tmp_path)
    with pytest.raises(DownloadError, match=r"127.0.0.1:\d+ cannot be reached \(3 times"):
        fetched(hub)


def test_a_gated_model_with_and_without_a_token(tmp_path: Path) -> None:
    repository = small_repository()
    repository.gated = True
    with HubServer({REPOSITORY: repository}) as server:
        with pytest.raises(DownloadError, match="only to people with an access token"):
            fetched(hub_at(server, tmp_path))
        with pytest.raises(DownloadError, match="does not accept the access token"):
            fetched(hub_at(server, tmp_path, "hf_wrong"))
        assert contents(fetched(hub_at(server, tmp_path, "hf_right"))[0]) == FILES
        bearers = {r.host for r in server.requests if "authorization" in r.headers}
    assert bearers == {"hub"}, "the token is for the hub alone"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model.safetensors.index.json": b"{}"}, "an index of its weights that cannot be read"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "../../.ssh/id"}}'},
            "its index names weights that are not there",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "pytorch_model.bin"}}'},
            "not as safetensors",
        ),
        ({"config.json": b"oops"}, "a config.json that cannot be read"),
    ],
)
def test_a_repository_that_is_no_model_is_refused_before_its_weights(
    changed: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    with HubServer({REPOSITORY: small_repository(changed)}) as server:
        with pytest.raises(DownloadError, match=words):
            fetched(hub_at(server, tmp_path))
        assert not server.body_requests(WEIGHTS)


def test_another_architecture_is_refused_before_its_weights(tmp_path: Path) -> None:
    repository = small_repository({"config.json": b'{"model_type": "llama"}'})
    with HubServer({REPOSITORY: repository}) as server:
        with pytest.raises(CheckpointError, match="a model of another kind"):
            fetched(hub_at(server, tmp_path))
        assert not server.body_requests(WEIGHTS)


def test_a_server_that_knows_no_ranges_loses_nothing_that_is_there(
    hub: Hub, server: HubServer
) -> None:
    stopped_in_the_weights(hub, server, 200_000)
    # Two longer answers, between them shorter ones: only the longer ones are progress.
    ends = (50_000, 210_000, 60_000, 220_000, 10, 20)
    server.faults.add(*(Fault("whole", name=WEIGHTS, after_bytes=end) for end in ends))
    with pytest.raises(DownloadError, match="3 times in a row"):
        fetched(hub)
    assert partial(hub).read_bytes() == FILES[WEIGHTS][:220_000]
    assert contents(fetched(hub)[0]) == FILES


def test_parts_of_a_version_that_the_hub_no_longer_has_do_not_stay(
    hub: Hub, server: HubServer
) -> None:
    stopped_in_the_weights(hub, server, 200_000)
    changed = {WEIGHTS: FILES[WEIGHTS][::-1]}
    server.repositories[REPOSITORY] = small_repository(changed)
    folder, _ = fetched(hub)
    assert contents(folder) == FILES | changed
    assert unfinished_bytes(REPOSITORY, hub) == 0
    assert not list(folder.parent.parent.glob("blobs/*.incomplete"))


def test_a_hub_below_a_path(server: HubServer, tmp_path: Path) -> None:
    hub = replace(hub_at(server, tmp_path), endpoint=f"{server.endpoint}{MIRROR}/")
    assert contents(fetched(hub)[0]) == FILES
    assert all(r.path.startswith(f"{MIRROR}/") for r in server.requests if r.host == "hub")


@pytest.mark.parametrize("name", ["model-2.safetensors", "model\0.safetensors"])
def test_a_listing_that_makes_no_sense_is_none(name: str, tmp_path: Path) -> None:
    size = 5 if "\0" in name else -5
    odd = Content(size, lambda start, count: b"x" * count)
    with (
        HubServer({REPOSITORY: Repository.of({**FILES, name: odd})}) as server,
        pytest.raises(DownloadError, match="no list of files"),
    ):
        fetched(hub_at(server, tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_settings_that_are_nested_without_end_are_refused(name: str, tmp_path: Path) -> None:
    with (
        HubServer({REPOSITORY: small_repository({name: b"[" * 300_000})}) as server,
        pytest.raises(DownloadError, match=r"cannot be read\. Choose another model"),
    ):
        fetched(hub_at(server, tmp_path))


def test_a_name_that_is_none(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="no name of a model"):
        fetched(hub, "a/b/c")
