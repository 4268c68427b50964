"""A process that reads damaged files until it is told to stop, or until one of them kills it.

    python -m tests.fuzz.reading_process

Takes lines `format first stop`; answers each damaged file with one line of JSON, in seconds of
processor time. Whatever the decoders do to a process, they do to this one.
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
    """What the program does with a picture: "read", or "refused" with a sentence."""
    try:
        media_kind(path)
        info = probe_image(path)
        pixels = load_image(path)
    except MediaError as error:
        return _refusal(error)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert info.width > 0
    assert info.height > 0
    return "read"


def read_clip(path: Path) -> str:
    """What the program does with a clip."""
    try:
        media_kind(path)
        probe_video(path)
        clip = sample_video(path, max_frames=_LARGEST_CLIP)
    except MediaError as error:
        return _refusal(error)
    assert len(clip.frames) == len(clip.times_s) > 0, clip.times_s
    assert clip.times_s == sorted(clip.times_s), clip.times_s
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in clip.frames)
    return "read"


def _refusal(error: MediaError) -> str:
    sentence = str(error)
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence
    return "refused"


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


def main() -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for line in sys.stdin:
            format_name, first, stop = line.split()
            read = read_clip if format_name in CLIPS else read_picture
            seeds = sound_files(format_name)
            for number in range(int(first), int(stop)):
                path.write_bytes(mutant(seeds, number))
                _start_measuring()
                start = time.process_time()
                try:
                    outcome = read(path)
                except BaseException as error:  # noqa: BLE001 - anything else is the finding
                    outcome = f"{type(error).__name__}: {error}"
                seconds = time.process_time() - start
                answer = {"number": number, "outcome": outcome, "seconds": seconds}
                print(json.dumps({**answer, "peak_bytes": _peak_bytes()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
