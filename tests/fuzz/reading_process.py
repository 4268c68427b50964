"""A process that reads damaged files until it is told to stop, or until one of them kills it.

    python -m tests.fuzz.reading_process

Takes lines `damaged FORMAT FIRST STOP` and `picture PATH` or `clip PATH`; answers each file with
one line of JSON, in seconds of processor time. Whatever the decoders do to a process, they do to
this one.
"""

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlx_model.errors import MediaError
from mlx_model.media import load_image, media_kind, probe_image, probe_video, sample_video
from tests.fuzz.mutations import mutant
from tests.fuzz.sound_files import CLIPS, sound_files

# Address space, not memory in use: a decoder that asks for more is refused by the system.
ADDRESS_SPACE_BYTES = 4 << 30
_LARGEST_CLIP = 4
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def read_picture(path: Path) -> str:
    """What the program says to a picture: nothing when it can be seen, or why not."""
    try:
        media_kind(path)
        info = probe_image(path)
        pixels = load_image(path)
    except MediaError as error:
        return _sentence(error)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert info.width > 0
    assert info.height > 0
    return ""


def read_clip(path: Path) -> str:
    """What the program says to a clip."""
    try:
        media_kind(path)
        probe_video(path)
        clip = sample_video(path, max_frames=_LARGEST_CLIP)
    except MediaError as error:
        return _sentence(error)
    assert len(clip.frames) == len(clip.times_s) > 0, clip.times_s
    assert clip.times_s == sorted(clip.times_s), clip.times_s
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in clip.frames)
    return ""


READ = {"picture": read_picture, "clip": read_clip}


def _sentence(error: MediaError) -> str:
    sentence = str(error)
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence
    return sentence


def _start_measuring() -> None:
    with contextlib.suppress(OSError):
        _RESET.write_text("5", encoding="ascii")


def _peak_bytes() -> int:
    """The most memory in use since the last start; where the system cannot say, since ever."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _answer(number: int, kind: str, path: Path) -> str:
    _start_measuring()
    start, sentence = time.process_time(), ""
    try:
        sentence = READ[kind](path)
        outcome = "refused" if sentence else "read"
    except BaseException as error:  # noqa: BLE001 - anything else is the finding
        outcome = f"{type(error).__name__}: {error}"
    answer = {"number": number, "outcome": outcome, "sentence": sentence}
    seconds = time.process_time() - start
    return json.dumps({**answer, "seconds": seconds, "peak_bytes": _peak_bytes()})


def main() -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for line in sys.stdin:
            kind, rest = line.rstrip("\n").split(" ", 1)
            if kind in READ:
                print(_answer(0, kind, Path(rest)), file=answers, flush=True)
                continue
            format_name, first, stop = rest.split()
            kind = "clip" if format_name in CLIPS else "picture"
            for number in range(int(first), int(stop)):
                path.write_bytes(mutant(sound_files(format_name), number))
                print(_answer(number, kind, path), file=answers, flush=True)


if __name__ == "__main__":
    main()
