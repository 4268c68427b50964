"""Converts a downloaded model in a process of its own, which needs mlx and can be stopped.

The copy appears whole or not at all; whatever ends the process leaves the source as it is.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlx_model.errors import FiresideError
from mlx_model.library.download_events import DownloadEvent, DownloadFinished, DownloadProgress
from mlx_model.library.transfer_speed import TransferSpeed
from mlx_model.whole_folder import remove_leftovers

_LOOK_EVERY_S = 0.1
_STOP_LIMIT_S = 10.0
_READ_BYTES = 1 << 16
_ROOT = Path(__file__).resolve().parents[2]


class ConversionError(FiresideError):
    """A conversion that did not come to its end; says what to do."""


def convert_apart(
    source: Path, destination: Path, stop: threading.Event
) -> Iterator[DownloadEvent]:
    """Write a 4-bit copy of `source`; the last event has its folder, or None if it was stopped.

    `stop` may be set from any thread. ConversionError with what the other process said.
    """
    speed = TransferSpeed()
    yield DownloadProgress("converting")
    with tempfile.TemporaryFile() as words, _process(source, destination, words) as process:
        done = 0
        for line in _lines(process, stop):
            progress = json.loads(line)
            speed.add(progress["done"] - done)
            done, total = progress["done"], progress["total"]
            rest = speed.seconds_left(total - done)
            yield DownloadProgress("converting", "", done, total, speed.bytes_per_s, rest)
        if stop.is_set():
            yield DownloadFinished(None)
            return
        status = process.wait()
        if status != 0:
            words.seek(0)
            raise ConversionError(_reason(status, words.read().decode(errors="replace")))
    yield DownloadFinished(destination)


@contextmanager
def _process(
    source: Path, destination: Path, words: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The running conversion; none is left behind when the block ends."""
    command = [sys.executable, "-m", "mlx_model", "convert", "--jsonl"]
    command += [str(source), str(destination)]
    search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    destination.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=words,
        env=os.environ | {"PYTHONPATH": search},
        # Ctrl-C in a terminal is for us, who then end it.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
        remove_leftovers(destination.parent)


def _lines(process: "subprocess.Popen[bytes]", stop: threading.Event) -> Iterator[bytes]:
    """What it prints, until it ends or `stop` is set."""
    assert process.stdout is not None
    started = b""
    while not stop.is_set():
        if not select.select([process.stdout], [], [], _LOOK_EVERY_S)[0]:
            continue
        piece = os.read(process.stdout.fileno(), _READ_BYTES)
        if not piece:
            return
        *lines, started = (started + piece).split(b"\n")
        yield from lines


def _reason(status: int, words: str) -> str:
    lines = words.strip().splitlines()
    if status > 0 and lines:
        return lines[-1]
    return (
        "The conversion was ended from outside, perhaps for lack of memory. "
        "Close other programs and start it again; the download is kept."
    )
