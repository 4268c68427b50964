"""The folder of states on the disk: which files there are, which fit a prompt, which go first.

A file's name says what it belongs to. `rows-START-STOP-DIGEST` holds the keys and values of tokens
[START, STOP), `state-LENGTH-DIGEST` what goes on after them; DIGEST is that of all tokens up to
there. `sight-CONTENT` is what is known of a picture or clip. So a prompt finds its files by their
names, and several programs may share the folder: files appear whole, are never written again, and
may go at any time. Knows no mlx.
"""

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlx_model.state.branch import Keys
from mlx_model.state.state_file import PARTIAL

_SUFFIX = ".safetensors"
_NAME = re.compile(r"(?:state|rows-(\d{1,9}))-(\d{1,9})-([0-9a-f]{32})\.safetensors")
_OWNER = re.compile(r"\.(\d{1,9})\.partial$")
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A file by its name: rows of tokens [start, stop), or a state after `stop` tokens.

    `start` is None for a state; `digest` that of all tokens up to `stop`.
    """

    start: int | None
    stop: int
    digest: str

    @property
    def name(self) -> str:
        """The file's name."""
        kind = "state" if self.start is None else f"rows-{self.start}"
        return f"{kind}-{self.stop}-{self.digest}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class StoredSight:
    """A file by its name: what looking at a picture or clip found out; `content` is its digest."""

    content: bytes

    @property
    def name(self) -> str:
        """The file's name."""
        return f"sight-{self.content.hex()}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """What the folder has of one history.

    Attributes:
        states: by length.
        rows: by where they stop; from each of them pieces lead back to the first token.
    """

    states: Mapping[int, StoredPiece]
    rows: Mapping[int, StoredPiece]

    @property
    def covered(self) -> int:
        """Up to where all rows are there."""
        return max(self.rows, default=0)

    def way_to(self, length: int) -> list[StoredPiece]:
        """The pieces of rows from the first token to `length`."""
        way: list[StoredPiece] = []
        while length:
            way.append(self.rows[length])
            length = self.rows[length].start or 0
        return way[::-1]


class StateFolder:
    """The files of one model, beside those of others with which they share `budget_bytes`."""

    def __init__(self, root: Path, key: str, budget_bytes: int, spare_bytes: int) -> None:
        """`spare_bytes` of the disk are left free; `key` names the model and all that matters."""
        self._root = root
        self._budget_bytes = budget_bytes
        self._spare_bytes = spare_bytes
        # Of no use, but not to be removed either: as if they were not there.
        self._stuck: set[str] = set()
        self.folder = root / key

    def path(self, piece: StoredPiece | StoredSight) -> Path:
        """Where a piece lies or would lie."""
        return self.folder / piece.name

    def prepare(self) -> None:
        """Make the folder, for nobody else to read; remove what killed programs have left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._root.glob(f"*/.*{PARTIAL}"):
            owner = _OWNER.search(leftover.name)
            if owner is None or not _is_alive(int(owner[1])):
                with suppress(OSError):
                    leftover.unlink()

    def find(self, keys: Keys) -> StoredHistory:
        """What there is of a history; pieces that no way leads to are left out."""
        pieces = [piece for piece in self._pieces() if piece.stop <= len(keys)]
        digests = prefix_digests(keys, {piece.stop for piece in pieces})
        rows: dict[int, StoredPiece] = {}
        states: dict[int, StoredPiece] = {}
        for piece in sorted(pieces, key=lambda piece: piece.stop):
            if piece.digest != digests[piece.stop]:
                continue
            if piece.start is None:
                states[piece.stop] = piece
            elif piece.start == 0 or (piece.start in rows and piece.start < piece.stop):
                rows.setdefault(piece.stop, piece)
        return StoredHistory({stop: states[stop] for stop in states if stop in rows}, rows)

    def touch(self, pieces: Iterable[StoredPiece | StoredSight]) -> None:
        """They were of use just now, all at once."""
        now_ns = time.time_ns()
        for piece in pieces:
            with suppress(OSError):
                os.utime(self.path(piece), ns=(now_ns, now_ns))

    def size(self, pieces: Iterable[StoredPiece]) -> int:
        """How many bytes they have together."""
        total = 0
        for piece in pieces:
            with suppress(OSError):
                total += self.path(piece).stat().st_size
        return total

    def remove(self, piece: StoredPiece | StoredSight) -> None:
        """It is of no use."""
        try:
            self.path(piece).unlink()
        except FileNotFoundError:
            pass
        except OSError:
            self._stuck.add(piece.name)

    def make_room(self, size_bytes: int) -> bool:
        """Delete what was used longest ago until so much fits; False if it never will."""
        if size_bytes > self._budget_bytes:
            return False
        files = sorted(self._files(), key=lambda file: (file[0], -file[1]))
        total = sum(size for *_, size, _ in files)
        for _, _, size, path in files:
            room = total + size_bytes <= self._budget_bytes
            if room and _free_bytes(self.folder) - size_bytes >= self._spare_bytes:
                break
            with suppress(OSError):
                path.unlink()
            total -= size
        return _free_bytes(self.folder) - size_bytes >= self._spare_bytes

    def _pieces(self) -> Iterator[StoredPiece]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return
        for name in names:
            found = _NAME.fullmatch(name)
            if found is not None and name not in self._stuck:
                start = None if found[1] is None else int(found[1])
                yield StoredPiece(start, int(found[2]), found[3])

    def _files(self) -> Iterator[tuple[int, int, int, Path]]:
        """(last used, stop, size, path) of the files of all models."""
        for path in self._root.glob(f"*/*{_SUFFIX}"):
            found = _NAME.fullmatch(path.name)
            with suppress(OSError):
                status = path.stat()
                yield status.st_mtime_ns, int(found[2]) if found else 0, status.st_size, path


def prefix_digests(keys: Keys, lengths: Collection[int]) -> dict[int, str]:
    """What stands for the first tokens of a history, for each of these lengths."""
    digests: dict[int, str] = {}
    running, done = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    for length in sorted(lengths):
        running.update(keys[done:length].astype("<i8").tobytes())
        done = length
        digests[length] = running.copy().hexdigest()
    return digests


def _free_bytes(folder: Path) -> int:
    """What the disk has left; where it does not say, writing will."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 1 << 62
    return status.f_bavail * status.f_frsize


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
