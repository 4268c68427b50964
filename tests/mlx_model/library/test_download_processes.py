"""Downloads by real processes: killed, stopped, two at once, behind a proxy, onto a full disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import WeakFileLock

from mlx_model.errors import DownloadError
from mlx_model.library.download_events import DownloadEvent, DownloadFinished, DownloadProgress
from mlx_model.library.hub import discard_download, download_repository
from tests.hub_server.faults import Fault
from tests.hub_server.repository import Content, Repository
from tests.hub_server.server import HubServer
from tests.mlx_model.library.small_hub import (
    FILES,
    REPOSITORY,
    WEIGHTS,
    contents,
    fetched,
    hub_at,
    small_repository,
)

ROOT = Path(__file__).parents[3]
READY = "mlx-community/Qwen3.5-0.8B-4bit"
WAIT_S = 120
_OURS = ("HF_", "HUGGING", "FIRESIDE", "XDG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


class Terminal:
    """Commands in an environment of their own, where the hub is the test's."""

    def __init__(self, server: HubServer, home: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(_OURS)}
        self.environment = kept | {
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": server.endpoint,
            "FIRESIDE_MODELS": str(home / "own"),
        }
        self.blobs = home / "hf" / "hub" / f"models--{READY.replace('/', '--')}" / "blobs"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "mlx_model", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A program started in the background of a shell has a deaf ear for Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def arrived_bytes(self) -> int:
        """Of the weights, while they are on their way."""
        digest = small_repository().files[WEIGHTS].etag
        try:
            return (self.blobs / f"{digest}.incomplete").stat().st_size
        except FileNotFoundError:
            return 0

    def snapshot(self) -> Path:
        (folder,) = self.blobs.parent.glob("snapshots/*")
        return folder


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer({READY: small_repository(), REPOSITORY: small_repository()}) as running:
        yield running


@pytest.fixture
def terminal(server: HubServer, tmp_path: Path) -> Terminal:
    return Terminal(server, tmp_path)


def test_killed_in_the_middle_and_resumed(terminal: Terminal, server: HubServer) -> None:
    server.faults.add(Fault("stall", name=WEIGHTS, after_bytes=200_000))
    process = terminal.start("download", "0.8B", "--ready")
    wait_until(lambda: terminal.arrived_bytes() > 100_000)
    process.kill()
    process.communicate(timeout=WAIT_S)
    arrived = terminal.arrived_bytes()
    process = terminal.start("download", "0.8B", "--ready")
    assert process.communicate(timeout=WAIT_S)[0].startswith("Qwen3.5-0.8B is ready: ")
    assert contents(terminal.snapshot()) == FILES
    assert server.body_requests(WEIGHTS)[-1].headers["range"] == f"bytes={arrived}-"


def test_control_c_keeps_what_has_arrived(terminal: Terminal, server: HubServer) -> None:
    server.faults.add(Fault("status", "api", status=429, headers={"Retry-After": "600"}))
    process = terminal.start("download", "0.8B", "--ready")
    assert process.stderr is not None
    assert process.stderr.readline().endswith("too many requests. Next try in 600 s.\n")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert said == "Stopped. The same command goes on from here.\n"


def test_two_at_once_fetch_every_file_once(terminal: Terminal, server: HubServer) -> None:
    processes = [terminal.start("download", "0.8B", "--ready") for _ in range(2)]
    for process in processes:
        said = "".join(process.communicate(timeout=WAIT_S))
        assert process.returncode == 0, said
    assert contents(terminal.snapshot()) == FILES
    asked = [r for r in server.requests if r.method == "GET" and r.path.endswith(WEIGHTS)]
    assert [request.host for request in asked] == ["hub", "storage"]


def test_who_finds_a_file_locked_waits_and_can_be_stopped(
    server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path)
    digest = server.repositories[REPOSITORY].files[WEIGHTS].etag
    locks = tmp_path / ".locks" / hub.cache_of(REPOSITORY).folder.name
    locks.mkdir(parents=True)
    stop = threading.Event()
    events: list[DownloadEvent] = []
    # The lock that huggingface-hub itself would take.
    with WeakFileLock(locks / f"{digest}.lock"):
        for event in download_repository(REPOSITORY, hub, stop):
            events.append(event)
            if isinstance(event, DownloadProgress) and event.stage == "waiting":
                assert event.file == WEIGHTS
                stop.set()
    assert events[-1] == DownloadFinished(None)
    assert contents(fetched(hub)[0]) == FILES


def test_what_huggingface_hub_is_downloading_is_not_discarded(
    server: HubServer, tmp_path: Path
) -> None:
    cache = hub_at(server, tmp_path).cache_of(REPOSITORY)
    digest = server.repositories[REPOSITORY].files[WEIGHTS].etag
    # As it names them.
    arriving = cache.folder / "blobs" / f"{digest}.0f1e2d3c.incomplete"
    lock = tmp_path / ".locks" / cache.folder.name / f"{digest}.lock"
    for file in (arriving, lock):
        file.parent.mkdir(parents=True)
    arriving.write_bytes(bytes(5000))
    with WeakFileLock(lock):
        assert discard_download(REPOSITORY, hub_at(server, tmp_path)) == 0
    assert arriving.exists()
    assert discard_download(REPOSITORY, hub_at(server, tmp_path)) == 5000
    assert not arriving.exists()


def test_proxy_and_token_of_the_environment_are_used(terminal: Terminal, server: HubServer) -> None:
    server.repositories[READY].gated = True
    terminal.environment |= {
        "HF_ENDPOINT": "http://hub.invalid",
        "HF_TOKEN": server.token,
        "HTTP_PROXY": server.endpoint,
        "NO_PROXY": "127.0.0.1",
    }
    process = terminal.start("download", "0.8B", "--ready")
    said = "".join(process.communicate(timeout=WAIT_S))
    assert process.returncode == 0, said
    assert contents(terminal.snapshot()) == FILES
    asked = [r.headers for r in server.requests if r.host == "hub" and READY in r.path]
    assert {headers["host"] for headers in asked} == {"hub.invalid"}
    assert {headers["authorization"] for headers in asked} == {f"Bearer {server.token}"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("NOT TESTED: a full disk, for lack of `mount`")
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk, as none can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_has_arrived(small_disk: Path, server: HubServer) -> None:
    hub = hub_at(server, small_disk)
    server.faults.add(Fault("drop", name=WEIGHTS, after_bytes=100_000))
    filler = small_disk / "filler"

    def fill_after_trouble() -> None:
        for event in download_repository(REPOSITORY, hub, threading.Event()):
            if not isinstance(event, DownloadProgress):
                # Another program takes what is left, but for a little.
                filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 50_000))

    with pytest.raises(DownloadError, match=r"is full\. What has arrived is kept: free 1\d\d"):
        fill_after_trouble()
    filler.unlink()
    assert contents(fetched(hub)[0]) == FILES
    start = server.body_requests(WEIGHTS)[-1].headers["range"]
    assert int(start.removeprefix("bytes=").removesuffix("-")) > 100_000


def test_a_disk_that_is_too_small_is_said_before(small_disk: Path, server: HubServer) -> None:
    (small_disk / "filler").write_bytes(bytes(1_850_000))
    with pytest.raises(DownloadError, match=r"needs \d+\.\d kB more, and the disk with .* Free "):
        fetched(hub_at(server, small_disk))
    assert not server.body_requests(WEIGHTS)


@pytest.mark.slow
def test_long_many_processes_killed_and_dropped(tmp_path: Path) -> None:
    """Four processes fetch 60 MB over a bad line, one of them is killed again and again."""
    size = 60_000_000
    data = os.urandom(1 << 20)

    def read(start: int, count: int) -> bytes:
        start %= len(data)
        return data[start : start + count]

    files: dict[str, Content | bytes] = {**FILES, WEIGHTS: Content(size, read)}
    with HubServer({READY: Repository.of(files)}) as server:
        terminal = Terminal(server, tmp_path)
        server.faults.add(
            *(
                Fault(action, name=WEIGHTS, after_bytes=after)
                for n in range(12)
                for action, after in (("drop", 3_000_000 + n), ("whole", 0), ("drop", 500_000))
            )
        )
        others = [terminal.start("download", "0.8B", "--ready") for _ in range(3)]
        for _ in range(6):
            victim = terminal.start("download", "0.8B", "--ready")
            time.sleep(2)
            victim.kill()
            victim.communicate()
        for process in others:
            said = "".join(process.communicate(timeout=600))
            assert process.returncode == 0, said
        weights = terminal.snapshot() / WEIGHTS
        assert weights.stat().st_size == size
        whole = data * (size // len(data) + 1)
        assert weights.read_bytes() == whole[:size]
