"""A hub on 127.0.0.1: a real HTTP server that speaks the protocol huggingface-hub uses.

Listing (model info, tree, paths-info), resolve with its headers, LFS files from another host
(another port), ranges, gated repositories, and faults. Also answers as a proxy would have to.
"""

import gzip
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub_server.faults import Fault, Faults, Place
from tests.hub_server.repository import Repository, StoredFile

# The hub is also found below this path, as some mirrors have it.
MIRROR = "/mirror"
_STALL_LIMIT_S = 60


@dataclass(frozen=True)
class Request:
    """One request as it arrived; header names in lower case."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]


class HubServer:
    """Serves `repositories` (name -> files) while the `with` block lasts.

    `token` is what gated repositories want and the only one that is accepted; `requests` are those
    that came, in order.
    """

    def __init__(self, repositories: Mapping[str, Repository], token: str = "hf_right") -> None:
        self.repositories = dict(repositories)
        self.token = token
        self.faults = Faults()
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._hub = _Listener(self, "hub")
        self._storage = _Listener(self, "storage")

    @property
    def endpoint(self) -> str:
        """What belongs into HF_ENDPOINT."""
        return self._hub.address

    @property
    def storage(self) -> str:
        """The other host, where LFS files come from."""
        return self._storage.address

    def body_requests(self, name: str) -> list[Request]:
        """The requests that asked for bytes of the file `name`."""
        asked = [request for request in self.requests if request.path.endswith(name)]
        return [r for r in asked if r.method == "GET" and "/api/" not in r.path]

    def __enter__(self) -> "HubServer":
        for listener in (self._hub, self._storage):
            listener.thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.closing.set()
        for listener in (self._hub, self._storage):
            listener.shutdown()
            listener.server_close()
            listener.thread.join()


class _Listener(ThreadingHTTPServer):
    """One host and the thread that listens for it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, host: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.host = host
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, name=f"test {host}"
        )

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is being tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and a small body leave together, at once.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_words: object) -> None:
        """Quiet: `HubServer.requests` is the log."""

    def _answer(self) -> None:
        hub = self.server.hub
        # A proxy is asked for whole addresses.
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.server.host, self.command, path, headers))
        path = path.removeprefix(MIRROR)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if self.server.host == "storage":
            self._storage(path)
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"), parse_qs(parts.query), body)
        elif "/resolve/" in path:
            self._resolve(path.lstrip("/"))
        else:
            self._fail(404, "EntryNotFound", "Entry not found")

    def _api(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        name, what = path, "info"
        for word in ("revision", "tree", "paths-info"):
            before, found, _ = path.partition(f"/{word}/")
            if found:
                name, what = before, word
        repository = self._found(name, "api", name)
        if repository is None:
            return
        if what == "tree":
            self._json([_entry(file) for file in repository.files.values()])
        elif what == "paths-info":
            asked = parse_qs(body.decode())["paths"]
            self._json([_entry(repository.files[path]) for path in asked])
        else:
            self._json(_info(name, repository, blobs="blobs" in query))

    def _resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file_name = rest.partition("/")
        repository = self._found(name, "resolve", file_name)
        if repository is None:
            return
        file = repository.files.get(file_name)
        if revision not in ("main", repository.commit):
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        elif file is None:
            self._fail(404, "EntryNotFound", "Entry not found")
        elif file.lfs:
            location = f"{self.server.hub.storage}/{name}/{repository.commit}/{file_name}"
            headers = _file_headers(repository, file) | {"Location": quote(location, safe=":/")}
            headers["X-Linked-Size"] = str(file.content.size)
            headers["X-Linked-ETag"] = f'"{file.etag}"'
            self._send(302, headers, b"")
        else:
            self._file(file, _file_headers(repository, file))

    def _storage(self, path: str) -> None:
        owner, name, _, file_name = path.lstrip("/").split("/", 3)
        if "Authorization" in self.headers:
            # As object storage does that was sent a token on top of a signed address.
            self._send(400, {}, b"Only one auth mechanism allowed")
            return
        file = self.server.hub.repositories[f"{owner}/{name}"].files[file_name]
        self._file(file, {"ETag": f'"{file.etag}"'})

    def _found(self, name: str, place: Place, what: str) -> Repository | None:
        """The repository `name`; None if the answer is given already."""
        hub = self.server.hub
        fault = hub.faults.take(place, what)
        if fault is not None and fault.action == "status":
            self._send(fault.status, fault.headers, b"planned")
            return None
        if fault is not None:
            # Once around, to where this fault is used up.
            self._send(307, {"Location": self.path}, b"")
            return None
        authorization = self.headers.get("Authorization")
        repository = hub.repositories.get(name)
        if authorization not in (None, f"Bearer {hub.token}"):
            self._fail(401, "", "Invalid credentials in Authorization header")
        elif repository is None:
            # The hub does not tell strangers what does not exist.
            self._fail(404 if authorization else 401, "RepoNotFound", "Repository not found")
        elif repository.gated and authorization is None:
            self._fail(401, "GatedRepo", "Access to this model is restricted")
        else:
            return repository
        return None

    def _file(self, file: StoredFile, headers: dict[str, str]) -> None:
        fault = None
        if self.command == "GET":
            fault = self.server.hub.faults.take("body", file.name)
        if fault is not None and fault.action == "status":
            self._send(fault.status, fault.headers, b"planned")
            return
        if fault is not None and fault.action == "gzip":
            whole = gzip.compress(file.content.read(0, file.content.size))
            self._send(200, headers | {"Content-Encoding": "gzip"}, whole)
            return
        size = file.content.size
        start, stop = self._range(size)
        if fault is not None and fault.action == "whole":
            start, stop = 0, size
        elif fault is not None and fault.action == "shifted":
            start += 1
        if start >= size > 0:
            self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
            return
        partly = "Range" in self.headers and not (fault is not None and fault.action == "whole")
        if partly:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        headers["Accept-Ranges"] = "bytes"
        self._start(206 if partly else 200, headers, stop - start, fault)
        if self.command == "GET":
            self._body(file, start, stop, fault)

    def _range(self, size: int) -> tuple[int, int]:
        """The asked stretch, end-exclusive."""
        _, _, asked = self.headers.get("Range", "").partition("bytes=")
        first, _, last = asked.partition("-")
        return int(first or 0), min(size, int(last) + 1) if last else size

    def _start(
        self, status: int, headers: Mapping[str, str], length: int, fault: Fault | None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault is not None and fault.action == "cut":
            # Without a length, the end of the connection is the end of the body.
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, file: StoredFile, start: int, stop: int, fault: Fault | None) -> None:
        if fault is None or (fault.action in ("whole", "shifted") and not fault.after_bytes):
            self._pieces(file, start, stop)
            return
        middle = min(stop, start + fault.after_bytes)
        self._pieces(file, start, middle)
        match fault.action:
            case "corrupt":
                if middle < stop:
                    (byte,) = file.content.read(middle, 1)
                    self.wfile.write(bytes([byte ^ 1]))
                self._pieces(file, middle + 1, stop)
            case "stall":
                self.wfile.flush()
                self.server.hub.closing.wait(_STALL_LIMIT_S)
                self.close_connection = True
            case _:
                self.close_connection = True

    def _pieces(self, file: StoredFile, start: int, stop: int) -> None:
        for piece in file.content.pieces(start, stop):
            self.wfile.write(piece)

    def _json(self, data: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(data).encode())

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": message}, message.encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._start(status, headers, len(body), None)
        if self.command != "HEAD":
            self.wfile.write(body)


def _file_headers(repository: Repository, file: StoredFile) -> dict[str, str]:
    return {"X-Repo-Commit": repository.commit, "ETag": f'"{file.etag}"'}


def _info(name: str, repository: Repository, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for file in repository.files.values():
        entry: dict[str, Any] = {"rfilename": file.name}
        if blobs:
            entry |= {"blobId": file.oid, "size": file.content.size}
            if file.lfs:
                lfs = file.lfs_entry
                entry["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 130}
        siblings.append(entry)
    return {
        "id": name,
        "modelId": name,
        "sha": repository.commit,
        "private": False,
        "gated": "auto" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": siblings,
    }


def _entry(file: StoredFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": file.name,
        "size": file.content.size,
        "oid": file.oid,
    }
    return entry | ({"lfs": file.lfs_entry} if file.lfs else {})
