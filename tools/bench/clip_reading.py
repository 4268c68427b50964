"""How long it takes to sample a ten-minute clip: our way, beside a seek for each frame.

    python -m tools.bench.clip_reading [--rounds N] [--minutes M]

Writes the clip with OpenCV, whose key frames lie 12 frames apart; where ffmpeg is installed, also
as H.264 with key frames further apart. The ways take turns; the medians stand beside each other,
and every way must bring back the same frames.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mlx_model.frame_plan import FrameChoice, plan_by_index
from mlx_model.media import probe_video, sample_video

Pixels = npt.NDArray[np.uint8]
Way = Callable[[Path, FrameChoice], list[Pixels]]

RATE, WIDTH, HEIGHT = 30, 640, 360
KEPT_EDGE = 8  # of each frame a corner is enough to compare


def our_way(path: Path, choice: FrameChoice) -> list[Pixels]:
    clip = sample_video(
        path,
        choice.fps,
        choice.max_frames,
        choice.start_s,
        prepare_frame=lambda frame, _: corner(frame),
    )
    return clip.frames


def a_seek_for_each_frame(path: Path, choice: FrameChoice) -> list[Pixels]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    for number in plan_by_index(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), RATE, choice):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        _, frame = capture.read()
        frames.append(corner(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return frames


def front_to_back(path: Path, choice: FrameChoice) -> list[Pixels]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    wanted = plan_by_index(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), RATE, choice)
    chosen, frames = set(wanted), []
    for number in range(wanted[-1] + 1):
        capture.grab()
        if number in chosen:
            _, frame = capture.retrieve()
            frames.append(corner(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return frames


def corner(frame: Pixels) -> Pixels:
    return frame[:KEPT_EDGE, :KEPT_EDGE].copy()


def write_clip(path: Path, seconds: int) -> None:
    """A picture wider than the frame passes by."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 2, 3), dtype=np.uint8)
    scenery = cv2.resize(coarse, (4 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, RATE, (WIDTH, HEIGHT))
    for number in range(seconds * RATE):
        left = 3 * number % (3 * WIDTH)
        writer.write(np.ascontiguousarray(scenery[:, left : left + WIDTH]))
    writer.release()


def clips(folder: Path, seconds: int) -> dict[str, Path]:
    """The same clip in several files, by what they are."""
    first = folder / "mpeg4.mp4"
    write_clip(first, seconds)
    found = {"MPEG-4, key frame every 12": first}
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        print("ffmpeg is not installed: no H.264, whose key frames lie further apart.")
        return found
    for distance in (30, 60, 250):
        path = folder / f"h264-{distance}.mp4"
        coding = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "28")
        keys = ("-g", str(distance), "-sc_threshold", "0")
        command = (ffmpeg, "-v", "error", "-i", str(first), *coding, *keys, str(path))
        if subprocess.run(command, check=False).returncode == 0:
            found[f"H.264, key frame every {distance}"] = path
    path = folder / "h264-250.mkv"
    source = str(folder / "h264-250.mp4")
    command = (ffmpeg, "-v", "error", "-i", source, "-c", "copy", str(path))
    if subprocess.run(command, check=False).returncode == 0:
        found["the same as MKV"] = path
    return found


def medians(ways: dict[str, Way], path: Path, choice: FrameChoice, rounds: int) -> list[float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    expected = front_to_back(path, choice)
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            frames = way(path, choice)
            times[name].append(time.perf_counter() - start)
            same = len(frames) == len(expected) and all(
                np.array_equal(one, other) for one, other in zip(frames, expected, strict=True)
            )
            if not same:
                print(f"Other frames than front to back: {name}, {path.name}")
    return [statistics.median(taken) for taken in times.values()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.bench.clip_reading")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=10)
    options = parser.parse_args()
    late = 60.0 * max(0, options.minutes - 1)
    choices = {
        "2 a second": FrameChoice(),
        "64 frames": FrameChoice(max_frames=64),
        "the last minute": FrameChoice(start_s=late),
    }
    ways = {"ours": our_way, "seeks": a_seek_for_each_frame, "front to back": front_to_back}
    with tempfile.TemporaryDirectory() as folder:
        print(f"{options.minutes} minutes of {WIDTH} x {HEIGHT}, medians of {options.rounds}, in s")
        print(f"{'clip':28} {'wanted':16} {'frames':>6} {'ours':>7} {'seeks':>7} {'walk':>7} ratio")
        for label, path in clips(Path(folder), 60 * options.minutes).items():
            total = probe_video(path).frame_count
            for wanted, choice in choices.items():
                ours, seeks, walk = medians(ways, path, choice, options.rounds)
                count = len(plan_by_index(total, RATE, choice))
                row = f"{label:28} {wanted:16} {count:6} {ours:7.2f} {seeks:7.2f} {walk:7.2f}"
                print(f"{row} {seeks / ours:5.1f}", flush=True)


if __name__ == "__main__":
    main()
