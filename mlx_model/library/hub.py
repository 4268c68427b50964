"""Downloads a model from the hub into the cache that huggingface-hub keeps.

Owns the order: list, read config and index, see whether the disk has room, fetch, check every file
against the hub's hash, and only then give the files their names. A synchronous generator of
events; a stop keeps what has arrived.
"""

import errno
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HFValidationError

from mlx_model.byte_sizes import size_text
from mlx_model.config import parse_config
from mlx_model.errors import DownloadError
from mlx_model.json_file import parse_json
from mlx_model.library.download_events import (
    DownloadEvent,
    DownloadFinished,
    DownloadProgress,
    DownloadStage,
    DownloadTrouble,
)
from mlx_model.library.file_transfer import file_url, receive, right_bytes
from mlx_model.library.hub_cache import HubCache, default_cache
from mlx_model.library.hub_listing import (
    CONFIG_NAME,
    INDEX_NAME,
    HubFile,
    Listing,
    first_files,
    list_repository,
    needed_files,
)
from mlx_model.library.persistence import (
    TROUBLES,
    Patience,
    Persistence,
    StoppedError,
)
from mlx_model.library.transfer_speed import TransferSpeed

# Bytes that are wrong although nothing interrupted them: a proxy or a disk that spoils them.
_WHOLE_TRIES = 3
_EVENT_EVERY_S = 0.1
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Hub:
    """Which hub, as whom, into which cache.

    None is what HF_ENDPOINT, HF_HUB_CACHE or HF_HOME say; without a `token`, huggingface-hub's own
    is used if there is one.
    """

    endpoint: str | None = None
    token: str | None = None
    cache: Path | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def address(self) -> str:
        """The hub's address, without a slash at the end."""
        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def cache_folder(self) -> Path:
        """The cache, which may not exist yet."""
        return self.cache or default_cache()

    def cache_of(self, repository: str) -> HubCache:
        """Where `repository` goes on this machine."""
        return HubCache(self.cache_folder, repository)


def download_repository(
    repository: str,
    hub: Hub,
    stop: threading.Event,
    extra_bytes: int = 0,
    otherwise: str = "choose a smaller model",
) -> Iterator[DownloadEvent]:
    """Get `repository`, or the rest of it; the last event has the folder.

    `extra_bytes` is what will be needed on the same disk afterwards, `otherwise` what to do where
    the disk has too little room. `stop` may be set from any thread and is looked at with every
    piece; what has arrived stays for the next time. Raises FiresideError: a sentence that says what
    to do.
    """
    try:
        errand = _Errand(repository, hub, stop, _Room(extra_bytes, otherwise))
    except HFValidationError as error:
        raise DownloadError(
            f"{repository} is no name of a model on the hub. It has two parts, as in "
            "Qwen/Qwen3.5-4B."
        ) from error
    try:
        yield from errand.run()
    except StoppedError:
        yield DownloadFinished(None)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise DownloadError(
                f"The download could not be written to {errand.cache.root} "
                f"({error.strerror or error}). See to that disk, and start again."
            ) from error
        raise DownloadError(
            f"The disk with {errand.cache.root} is full. What has arrived is kept: free "
            f"{size_text(errand.missing_bytes)}, and start the download again."
        ) from error


def unfinished_bytes(repository: str, hub: Hub) -> int:
    """What a download that is not finished has left on the disk."""
    return hub.cache_of(repository).unnamed_bytes()


def discard_download(repository: str, hub: Hub) -> int:
    """Delete what unfinished downloads of `repository` have left; returns the bytes freed.

    What another program is just writing stays.
    """
    return hub.cache_of(repository).discard_unnamed()


@dataclass(frozen=True, slots=True)
class _Room:
    """What is needed on the disk beside the download, and what to do where it has too little."""

    extra_bytes: int
    otherwise: str


class _Errand:
    """One download. Its generators give events; what they return is for the next step."""

    def __init__(self, repository: str, hub: Hub, stop: threading.Event, room: _Room) -> None:
        self.cache = hub.cache_of(repository)
        self._repository = repository
        self._hub = hub
        self._stop = stop
        self._room = room
        self._speed = TransferSpeed()
        self._told_s = -_EVENT_EVERY_S
        # Until the index is read, nobody knows how much there is to come.
        self._stage: DownloadStage = "listing"
        self._commit = ""
        self._files: Sequence[HubFile] = ()
        # Digests of the blobs whose bytes have been looked at.
        self._checked: set[str] = set()

    @property
    def missing_bytes(self) -> int:
        """What has not arrived yet of the files that are known to be needed."""
        return sum(
            file.size_bytes - self.cache.arrived_bytes(file, self._commit) for file in self._files
        )

    def run(self) -> Iterator[DownloadEvent]:
        """The whole download."""
        yield DownloadProgress("listing")
        listing = yield from self._listed()
        self._commit = listing.commit
        self._files = first_files(listing)
        yield from self._get_all()
        first = {file.name: self._content(file) for file in self._files}
        _check_config(first[CONFIG_NAME], self._repository)
        self._files = needed_files(listing, first.get(INDEX_NAME))
        self._check_space()
        self._stage = "downloading"
        yield from self._get_all()
        folder = self.cache.link(self._commit, self._files)
        # Parts of a version that the hub had when the download began.
        self.cache.discard_unnamed()
        yield DownloadFinished(folder)

    def _listed(self) -> Generator[DownloadEvent, None, Listing]:
        hub, persistence = self._hub, self._persistence()
        while True:
            persistence.check_stop()
            try:
                return list_repository(
                    self._repository, hub.address, hub.token, hub.patience.stall_s
                )
            except TROUBLES as error:
                trouble = persistence.after(error)
            yield trouble
            persistence.wait(trouble)

    def _get_all(self) -> Iterator[DownloadEvent]:
        """Have every file, first what is missing, then look at what others have left there."""
        for file in self._files:
            yield from self._get(file)
        for file in self._files:
            held = self.cache.held(file, self._commit)
            if held is None or file.digest in self._checked:
                continue
            if not (yield from self._is_right(held, file)):
                held.unlink()
                yield from self._get(file)

    def _get(self, file: HubFile) -> Iterator[DownloadEvent]:
        tries = 0
        while self.cache.held(file, self._commit) is None:
            with self.cache.locked(file) as alone:
                if not alone:
                    yield self._progress("waiting", file)
                elif self.cache.held(file, self._commit) is None:
                    tries += 1
                    yield from self._fetch(file, last_try=tries == _WHOLE_TRIES)
            self._check_stop()

    def _fetch(self, file: HubFile, last_try: bool) -> Iterator[DownloadEvent]:
        """Bring one file; afterwards it is there, or nothing of it."""
        hub, partial = self._hub, self.cache.partial(file)
        url = file_url(self._repository, self._commit, file.name, hub.address)
        length = self.cache.arrived_bytes(file, self._commit)
        for event in receive(
            file, url, hub.token, partial, hub.patience.stall_s, self._persistence()
        ):
            if isinstance(event, DownloadTrouble):
                yield event
                continue
            self._speed.add(max(0, event - length))
            length = event
            if self._is_time():
                yield self._progress(self._stage, file)
        if (yield from self._is_right(partial, file)):
            self.cache.publish(file)
            yield self._progress(self._stage, file)
            return
        partial.unlink()
        if last_try:
            raise DownloadError(
                f"{file.name} of {self._repository} arrived with wrong bytes {_WHOLE_TRIES} "
                "times. Start again over another network; if that does not help, check the disk."
            )
        yield DownloadTrouble(f"{file.name} arrived with wrong bytes and is fetched again.", 0.0)

    def _is_right(self, path: Path, file: HubFile) -> Generator[DownloadEvent, None, bool]:
        looking = right_bytes(path, file)
        while True:
            self._check_stop()
            try:
                done = next(looking)
            except StopIteration as end:
                self._checked.add(file.digest)
                return bool(end.value)
            if self._is_time():
                yield DownloadProgress("checking", file.name, done, file.size_bytes)

    def _progress(self, stage: DownloadStage, file: HubFile) -> DownloadProgress:
        total, missing = sum(file.size_bytes for file in self._files), self.missing_bytes
        return DownloadProgress(
            stage,
            file.name,
            total - missing,
            total,
            self._speed.bytes_per_s,
            self._speed.seconds_left(missing),
        )

    def _is_time(self) -> bool:
        """Whether another event is due; asking is taken for telling it."""
        now_s = time.monotonic()
        due = now_s - self._told_s >= _EVENT_EVERY_S
        if due:
            self._told_s = now_s
        return due

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _check_space(self) -> None:
        needed, free = self.missing_bytes + self._room.extra_bytes, self.cache.free_bytes()
        if free < needed:
            raise DownloadError(
                f"{self._repository} needs {size_text(needed)} more, and the disk with "
                f"{self.cache.root} has {size_text(free)} free. Free {size_text(needed - free)}, "
                f"or {self._room.otherwise}."
            )

    def _content(self, file: HubFile) -> bytes:
        held = self.cache.held(file, self._commit)
        return held.read_bytes() if held is not None else b""

    def _persistence(self) -> Persistence:
        hub = self._hub
        with_token = hub.token is not None or get_token() is not None
        return Persistence(self._repository, hub.address, hub.patience, self._stop, with_token)


def _check_config(content: bytes, repository: str) -> None:
    """Refuse other kinds of models before their weights are fetched."""
    try:
        data = parse_json(content)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise DownloadError(
            f"{repository} has a {CONFIG_NAME} that cannot be read. Choose another model."
        )
    parse_config(data)
