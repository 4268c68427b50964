"""States that outlive the program: puts the latest history on the disk, and brings histories back.

Owns what a file holds and under which conditions it may be used. Everything here runs on the thread
of the engine but the writing itself, which gets copies of the bytes.
"""

import hashlib
import importlib.metadata
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_model.cache import Checkpoint, LayerArrays, Segment, SequenceCache
from mlx_model.fingerprint import checkpoint_identity, files_stamp, program_version
from mlx_model.free_memory import free_memory_bytes
from mlx_model.state.background_writer import BackgroundWriter
from mlx_model.state.branch import Keys
from mlx_model.state.history_tree import HistoryTree
from mlx_model.state.recent_store import RecentStore
from mlx_model.state.sight import Sight
from mlx_model.state.state_file import (
    DamagedError,
    RawArray,
    read_state_file,
    write_state_file,
)
from mlx_model.state.state_folder import StateFolder, StoredPiece, StoredSight, prefix_digests
from mlx_model.state.thinning import least_missed
from mlx_model.tensor_writer import DTYPES, TensorLayout

_log = logging.getLogger("fireside.states")

# Changes whenever files mean something else than before.
_LAYOUT = 1
# How many tokens' rows one file holds at most: 32 MB of the larger models.
_PIECE_TOKENS = 1024
# To how many states a history is thinned out; those of large models are 49 MB each.
_MOST_STATES = 8
# Fewer tokens than these are read sooner than a file.
_LEAST_GAIN = 16
# What the disk keeps for others.
_SPARE_BYTES = 1 << 30
# What a file takes beside its arrays, at most: names, shapes and digests.
_HEADER_BYTES = 512  # for each array, and once more
_POLL_S = 0.02
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# What decides which numbers come of the same files and messages, beside this program itself.
_PACKAGES = (
    *("mlx", "mlx-lm", "tokenizers", "jinja2", "numpy"),
    *("pillow", "pi-heif", "opencv-python", "opencv-python-headless"),
)


def model_key(folder: Path, with_drafts: bool) -> str:
    """Changes with everything that decides what a state of this checkpoint consists of.

    That is the checkpoint's files: weights and how they are packed, settings, tokenizer, template,
    limits of its processor; what computes and decodes: this program, its libraries and the device;
    and what a state is.
    Raises OSError for files that cannot be read.
    """
    parts = [
        str(_LAYOUT),
        checkpoint_identity(folder),
        files_stamp(folder),
        program_version(),
        *(_version(package) for package in _PACKAGES),
        str(mx.default_device()),
        str(with_drafts),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class DiskMemory:
    """The states of one model on the disk.

    Attributes:
        folder: the files.
        writer: what writes them.
        free_bytes: how much memory there is, as far as anybody knows.
    """

    def __init__(
        self, root: Path, key: str, budget_bytes: int, spare_bytes: int = _SPARE_BYTES
    ) -> None:
        """`root` is shared by all models, which together keep to `budget_bytes`."""
        self.folder = StateFolder(root, key, budget_bytes, spare_bytes)
        self.writer = BackgroundWriter()
        self.free_bytes: Callable[[], int | None] = free_memory_bytes
        self._key = key

    def bring_back(
        self, keys: Keys, histories: HistoryTree[SequenceCache], cancel: threading.Event
    ) -> None:
        """Put in what the disk knows more of the prompt `keys`; `resume` it next.

        A file that is damaged or does not belong there is removed, and counts as not there. What
        memory has no room for stays where it is: for a moment it is held twice, and swapping
        would take longer than reading the prompt anew. `cancel` is looked at before each file;
        nothing is put in then.
        """
        while True:
            stored = self.folder.find(keys)
            length = max(stored.states, default=0)
            if length < histories.known_length(keys) + _LEAST_GAIN:
                return
            start = histories.shared_length(keys[:length])
            rows = [piece for piece in stored.way_to(length) if piece.stop > start]
            pieces = [*rows, stored.states[length]]
            if not self._has_room(pieces):
                return
            found = self._read_all(pieces, cancel)
            if cancel.is_set():
                return
            if len(found) == len(pieces):
                break
        self.folder.touch([*stored.way_to(length), stored.states[length]])
        *segments, state = found
        assert isinstance(state, Checkpoint)
        histories.graft(
            keys[:length],
            [
                (piece.start or 0, segment)
                for piece, segment in zip(rows, segments, strict=True)
                if isinstance(segment, Segment)
            ],
            [state],
        )

    def put_away(self, histories: HistoryTree[SequenceCache], cancel: threading.Event) -> bool:
        """Write what the disk does not have of the latest history; False when stopped.

        `cancel` is looked at between two pieces.
        """
        states = histories.latest_states()
        keys = histories.latest_keys()[: max(states, default=0)]
        stored = self.folder.find(keys)
        self.folder.touch([*stored.rows.values(), *stored.states.values()])
        usable = {n for n in states if n > stored.covered or n in stored.rows}
        wanted = _thinned({*stored.states, *usable})
        borders = _borders(stored.covered, sorted(wanted.intersection(states)))
        digests = prefix_digests(keys, {*borders, *stored.rows})
        for start, stop in pairwise(borders):
            piece = StoredPiece(start, stop, digests[stop])
            sequence = histories.paths[-1].sequence
            if not self._put(piece, partial(_rows_of, sequence, start, stop), cancel):
                return False
        for length in sorted(wanted.difference(stored.states)):
            piece = StoredPiece(None, length, digests[length])
            if not self._put(piece, partial(_arrays_of, states[length]), cancel):
                return False
        for length, piece in stored.states.items():
            if length not in wanted:
                self.folder.remove(piece)
        return True

    def sight(self, digest: bytes) -> Sight | None:
        """What was found out about a picture or clip, maybe by an earlier run of the program."""
        piece = StoredSight(digest)
        try:
            metadata, _ = read_state_file(self.folder.path(piece))
            if not metadata.items() >= self._label(piece).items():
                raise DamagedError(piece.name)
            found = _sight(json.loads(metadata["sight"]))
        except OSError:
            return None
        except (DamagedError, ValueError, LookupError, TypeError) as error:
            _log.warning("a damaged state was removed: %s", error)
            self.folder.remove(piece)
            return None
        self.folder.touch([piece])
        return found

    def put_sights(self, sights: RecentStore[bytes, Sight], cancel: threading.Event) -> bool:
        """Write them, and take them out of `sights`; False when stopped."""
        while (one := sights.take()) is not None:
            told = {"sight": json.dumps(asdict(one[1]))}
            if not self._put(StoredSight(one[0]), partial(_no_arrays, told), cancel):
                sights.put(*one)
                return False
        return True

    def close(self, limit_s: float) -> None:
        """Wait for the piece that is being written."""
        self.writer.wait(limit_s)

    def _put(
        self,
        piece: StoredPiece | StoredSight,
        content: Callable[[], tuple[dict[str, mx.array], dict[str, str]]],
        cancel: threading.Event,
    ) -> bool:
        """Have one piece written as soon as the one before it is; False when it never will."""
        while not self.writer.wait(_POLL_S):
            if cancel.is_set():
                return False
        if cancel.is_set() or self.writer.refuses:
            return False
        arrays, metadata = content()
        raw = {name: _raw(array) for name, array in arrays.items()}
        told = metadata | self._label(piece)
        self.writer.start(partial(self._write, piece, raw, told))
        return True

    def _write(
        self,
        piece: StoredPiece | StoredSight,
        arrays: Mapping[str, RawArray],
        metadata: Mapping[str, str],
    ) -> None:
        """On the writer's thread."""
        self.folder.prepare()
        size_bytes = sum(array.data.nbytes for array in arrays.values())
        size_bytes += _HEADER_BYTES * (1 + len(arrays))
        if not self.folder.make_room(size_bytes):
            raise OSError("there is no room on the disk")
        write_state_file(self.folder.path(piece), arrays, metadata)

    def _label(self, piece: StoredPiece | StoredSight) -> dict[str, str]:
        """What every file says of itself, so that none is taken for another."""
        return {"model": self._key, "piece": piece.name}

    def _has_room(self, pieces: Sequence[StoredPiece]) -> bool:
        free = self.free_bytes()
        return free is None or 2 * self.folder.size(pieces) <= free

    def _read_all(
        self, pieces: Sequence[StoredPiece], cancel: threading.Event
    ) -> list[Segment | Checkpoint]:
        """What the files hold, up to the first of no use, or until cancelled."""
        found: list[Segment | Checkpoint] = []
        for piece in pieces:
            part = None if cancel.is_set() else self._read(piece)
            if part is None:
                break
            found.append(part)
        return found

    def _read(self, piece: StoredPiece) -> Segment | Checkpoint | None:
        try:
            metadata, arrays = read_state_file(self.folder.path(piece))
            if not metadata.items() >= self._label(piece).items():
                raise DamagedError(piece.name)
            if piece.start is None:
                return _checkpoint(piece.stop, metadata, arrays)
            return _segment(piece.stop - piece.start, metadata, arrays)
        except OSError:
            pass  # another program has just removed it
        except (DamagedError, ValueError, LookupError) as error:
            _log.warning("a damaged state was removed: %s", error)
        self.folder.remove(piece)
        return None


def _version(package: str) -> str:
    """Its version, empty where it is not installed: OpenCV has two names."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _thinned(lengths: set[int]) -> set[int]:
    """Those of a history's states that stay on the disk."""
    kept = sorted(lengths)
    while len(kept) > _MOST_STATES:
        del kept[least_missed(kept, 0)]
    return set(kept)


def _borders(covered: int, lengths: Sequence[int]) -> list[int]:
    """Where files of rows begin and end behind the rows that are there: at every state."""
    borders = [covered]
    for length in lengths:
        while borders[-1] < length:
            borders.append(min(length, borders[-1] + _PIECE_TOKENS))
    return borders


def _rows_of(
    sequence: SequenceCache, start: int, stop: int
) -> tuple[dict[str, mx.array], dict[str, str]]:
    segment = sequence.copy_rows(start, stop)
    return _named(segment.layers), {"bits": str(segment.bits), "layers": str(len(segment.layers))}


def _arrays_of(state: Checkpoint) -> tuple[dict[str, mx.array], dict[str, str]]:
    arrays = _named(state.states)
    if state.last_hidden is not None:
        arrays["last_hidden"] = state.last_hidden
    return arrays, {
        "next_position": str(state.next_position),
        "last_position": json.dumps(state.last_position),
        "layers": str(len(state.states)),
    }


def _no_arrays(told: dict[str, str]) -> tuple[dict[str, mx.array], dict[str, str]]:
    return {}, told


def _sight(told: dict[str, Any]) -> Sight:
    """What `asdict` made of one; JSON knows lists only."""
    grid, times = told.pop("grid"), told.pop("times_s")
    groups, height, width = map(int, grid)
    return Sight(grid=(groups, height, width), times_s=tuple(map(float, times)), **told)


def _named(layers: Sequence[LayerArrays]) -> dict[str, mx.array]:
    return {
        f"{number}.{side}": array
        for number, pair in enumerate(layers)
        for side, array in enumerate(pair)
        if array is not None
    }


def _layers(metadata: Mapping[str, str], arrays: Mapping[str, RawArray]) -> tuple[LayerArrays, ...]:
    def array(name: str) -> mx.array | None:
        return _array(arrays[name]) if name in arrays else None

    return tuple(
        (array(f"{number}.0"), array(f"{number}.1")) for number in range(int(metadata["layers"]))
    )


def _segment(tokens: int, metadata: Mapping[str, str], arrays: Mapping[str, RawArray]) -> Segment:
    if any(raw.layout.shape[2] != tokens for raw in arrays.values()):
        raise ValueError("rows of other tokens")
    return Segment(_layers(metadata, arrays), int(metadata["bits"]))


def _checkpoint(
    length: int, metadata: Mapping[str, str], arrays: Mapping[str, RawArray]
) -> Checkpoint:
    time, row, column = map(int, json.loads(metadata["last_position"]))
    hidden = _array(arrays["last_hidden"]) if "last_hidden" in arrays else None
    return Checkpoint(
        length,
        int(metadata["next_position"]),
        (time, row, column),
        _layers(metadata, arrays),
        hidden,
    )


def _raw(array: mx.array) -> RawArray:
    """A copy of its bytes, which numpy owns."""
    layout = TensorLayout(_DTYPE_NAMES[array.dtype], array.shape)
    return RawArray(layout, np.array(mx.contiguous(array).reshape(-1).view(mx.uint8)))


def _array(raw: RawArray) -> mx.array:
    flat = mx.array(raw.data).view(DTYPES[raw.layout.dtype])
    return flat.reshape(raw.layout.shape)
