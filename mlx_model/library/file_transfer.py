"""Brings one file of the hub onto the disk, through any number of interruptions.

What has arrived is appended to a file that outlives the program; only its length says where to go
on. Whether the bytes are right is checked at the end, against the hub's hash. Plain HTTP with
ranges, whatever storage the hub keeps a file in: it bridges those with a protocol of their own.
"""

import hashlib
from collections.abc import Generator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub import hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from mlx_model.library.download_events import DownloadTrouble
from mlx_model.library.hub_listing import HubFile
from mlx_model.library.persistence import TROUBLES, OddAnswerError, Persistence

_HASHED_PIECE_BYTES = 1 << 20


def receive(
    file: HubFile,
    url: str,
    token: str | None,
    partial: Path,
    stall_s: float,
    persistence: Persistence,
) -> Generator[int | DownloadTrouble, None, None]:
    """Complete `partial`, yielding its length as it grows and what goes wrong on the way.

    DownloadError if it cannot be completed, StoppedError once that is asked for; what has arrived
    stays in either case. OSError as the disk does.
    """
    with partial.open("ab") as stream:
        if stream.tell() > file.size_bytes:
            _empty(stream)
        furthest = stream.tell()
        while stream.tell() < file.size_bytes:
            try:
                yield from _stretch(file, url, token, stream, stall_s, persistence)
                if stream.tell() < file.size_bytes:
                    raise httpx2.RemoteProtocolError("the answer ended early")
            except TROUBLES as error:
                if stream.tell() > furthest:
                    furthest = stream.tell()
                    persistence.progressed()
                trouble = persistence.after(error)
                stream.flush()
                yield trouble
                persistence.wait(trouble)


def _stretch(
    file: HubFile,
    url: str,
    token: str | None,
    stream: BinaryIO,
    stall_s: float,
    persistence: Persistence,
) -> Iterator[int]:
    """One request: append what it brings of the bytes that are missing."""
    start = stream.tell()
    headers = build_hf_headers(token=token) | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", url, headers=headers, timeout=stall_s) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _empty(stream)
        hf_raise_for_status(response)
        first = _first_byte(response, file)
        if first not in (0, start):
            raise OddAnswerError("another part than was asked for")
        # Of the whole file instead of the rest, what has arrived comes once more.
        known = start - first
        for piece in response.iter_bytes():
            fresh = piece[known:]
            known -= len(piece) - len(fresh)
            if stream.tell() + len(fresh) > file.size_bytes:
                _empty(stream)
                raise OddAnswerError("more than the file holds")
            stream.write(fresh)
            yield stream.tell()
            persistence.check_stop()


def _first_byte(response: httpx2.Response, file: HubFile) -> int:
    """Where in the file the answer starts; OddAnswerError if it is of another file."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length")
        # Of a compressed answer, which was not asked for, the length says nothing.
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        if plain and length not in (None, str(file.size_bytes)):
            raise OddAnswerError(f"{length} bytes instead of {file.size_bytes}")
        return 0
    unit, _, stretch = response.headers.get("Content-Range", "").partition(" ")
    first, _, rest = stretch.partition("-")
    _, _, size = rest.partition("/")
    if unit != "bytes" or not first.isdecimal() or size not in ("*", str(file.size_bytes)):
        raise OddAnswerError("a part of another file")
    return int(first)


def _empty(stream: BinaryIO) -> None:
    stream.seek(0)
    stream.truncate()


def file_url(repository: str, commit: str, name: str, endpoint: str | None) -> str:
    """Where the hub gives the bytes of a file, or says where they are."""
    return hf_hub_url(repository, name, revision=commit, endpoint=endpoint)


def right_bytes(path: Path, file: HubFile) -> Generator[int, None, bool]:
    """Whether the bytes at `path` have the hub's hash; yields how many have been looked at."""
    digest = hashlib.sha256()
    if file.in_git:
        # As git names a file: with its kind and length in front.
        digest = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    done = 0
    with path.open("rb") as stream:
        while piece := stream.read(_HASHED_PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            yield done
    return digest.hexdigest() == file.digest
