"""How long a large picture goes on being looked at after Stop.

python -m tools.bench.cancel_while_looking [--moments 0.02,0.1,...] [--piece-work N]

A picture of 12 megapixels, not made smaller, goes through the program's own reading and looking,
with a vision tower of the shape of Qwen3.5 0.8B's and random weights. Stop comes at several
moments; what counts is the time from there to the end. Beside it stands the longest time between
two looks at the stop button, which is the worst that Stop could have met, and the most processor
time between two looks: what would be left of it on a machine that does nothing else.

The baseline is the same tower over a small picture in one call, during which nothing hears Stop.
The large picture cannot run so: its scores alone would take a hundred gigabytes.
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from PIL import Image

from mlx_model import ImagePart, Message, Processor, ReplySettings, load_processor
from mlx_model.__main__ import DEMO_MODEL
from mlx_model.config import VisionConfig
from mlx_model.limits import MachineLimits
from mlx_model.looking import encode, read_media
from mlx_model.vision import VisionModel

REAL_TOWER = VisionConfig(
    depth=12,
    hidden_size=768,
    intermediate_size=3072,
    num_heads=12,
    in_channels=3,
    patch_size=16,
    temporal_patch_size=2,
    spatial_merge_size=2,
    out_hidden_size=1024,
    num_position_embeddings=48**2,
)
PUBLISHED_PIXELS = {"min_pixels": 65536, "max_pixels": 16777216}
UNCAPPED = ReplySettings(max_image_tokens=1 << 20)
# Reading and resizing are over after about half a second, the first attention begins after four.
MOMENTS_S = (0.005, 0.03, 0.08, 0.15, 0.25, 0.4, 0.8, 1.5, 2.5, 3.5, 5.0, 6.0, 7.0, 8.0)
SMALL_GRID = np.array([[1, 30, 40]])


class Tower:
    """The vision side of a model that has no other."""

    def __init__(self) -> None:
        mx.random.seed(0)
        self._tower = VisionModel(REAL_TOWER)
        weights = tree_map(lambda a: 0.02 * mx.random.normal(a.shape), self._tower.parameters())
        self._tower.update(weights)
        mx.eval(self._tower.parameters())

    def media_work(self, grid_thw: np.ndarray) -> int:
        return self._tower.work(grid_thw[0])

    def encode_media(self, pixels: np.ndarray, grid_thw: np.ndarray) -> mx.array:
        return self._tower(mx.array(pixels), grid_thw)

    def encode_media_in_pieces(
        self, rows: Callable[[slice], Any], grid_thw: np.ndarray, piece_work: int
    ) -> Generator[int, None, mx.array]:
        return self._tower.pieces(lambda part: mx.array(rows(part)), grid_thw[0], piece_work)


class StopButton(threading.Event):
    """Notes when it was set, and how long nobody looked at it.

    Attributes:
        set_s: when it was set.
        deaf_s: the longest time between two looks.
        busy_s: the most processor time that the program spent between two looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_s = self.deaf_s = self.busy_s = 0.0
        self._looked_s = time.perf_counter(), time.process_time()

    def set(self) -> None:
        self.set_s = time.perf_counter()
        super().set()

    def is_set(self) -> bool:
        now_s = time.perf_counter(), time.process_time()
        self.deaf_s = max(self.deaf_s, now_s[0] - self._looked_s[0])
        self.busy_s = max(self.busy_s, now_s[1] - self._looked_s[1])
        self._looked_s = now_s
        return super().is_set()


def photograph(folder: Path, suffix: str) -> Path:
    """A picture of 4032 x 3024 pixels with the detail and the noise of a photograph."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (378, 504, 3), dtype=np.uint8))
    smooth = np.asarray(rough.resize((4032, 3024), Image.Resampling.BICUBIC))
    path = folder / f"photograph.{suffix}"
    noisy = smooth // 2 + rng.integers(0, 16, smooth.shape, dtype=np.uint8)
    Image.fromarray(noisy).save(path, quality=90, method=0)
    return path


def published_processor() -> Processor:
    """The demo model's processor with the limits of the published ones."""
    processor = load_processor(DEMO_MODEL)
    assert processor.picture_settings is not None
    processor.picture_settings = replace(processor.picture_settings, **PUBLISHED_PIXELS)
    return processor


def look(
    tower: Tower, processor: Processor, path: Path, piece_work: int, stop: StopButton
) -> float:
    """Read and look at the picture until `stop`; how much of the work was done, of 1."""
    messages = [Message("user", (ImagePart(path),))]
    share = 0.0
    media = read_media(processor, messages, UNCAPPED, stop)
    if media is not None:
        for progress in encode(tower, media, piece_work, stop):
            share = progress.done / progress.total
    return share


def stopped(
    tower: Tower, processor: Processor, path: Path, piece_work: int, after_s: float
) -> tuple[float, StopButton]:
    """Press Stop after so many seconds: how long it took from there, and the button."""
    stop = StopButton()
    timer = threading.Timer(after_s, stop.set)
    timer.start()
    share = look(tower, processor, path, piece_work, stop)
    delay_s = time.perf_counter() - stop.set_s
    assert share < 1, "the picture was done before Stop"
    for thread in threading.enumerate():  # a decoder that was left behind must not disturb
        if thread.name == "decoder":
            thread.join()
    return delay_s, stop


def print_baseline(tower: Tower, piece_work: int) -> None:
    """The small picture in one call, then in pieces."""
    pixels = np.random.default_rng(1).normal(size=(1200, 1536)).astype(np.float32)

    def whole() -> None:
        mx.eval(tower.encode_media(pixels, SMALL_GRID))

    longest_s = 0.0

    def pieces() -> None:
        nonlocal longest_s
        last_s = time.perf_counter()
        for _ in tower.encode_media_in_pieces(pixels.__getitem__, SMALL_GRID, piece_work):
            now_s = time.perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    columns = f"{'total s':>9}{'busy s':>9}{'deaf for ms':>13}{'':>9}{'peak MB':>9}"
    print(f"{'640 x 480 looked at':<36}{columns}")
    for name, run in (("  in one call", whole), ("  in pieces", pieces)):
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        began_s = time.perf_counter(), time.process_time()
        run()
        total_s = time.perf_counter() - began_s[0]
        busy_s = time.process_time() - began_s[1]
        peak_mb = (mx.get_peak_memory() - before) / 1e6
        deaf_ms = (longest_s or total_s) * 1000
        figures = f"{total_s:>9.1f}{busy_s:>9.1f}{deaf_ms:>13,.0f}{'':>9}{peak_mb:>9.0f}"
        print(f"{name:<36}{figures}")


def print_stops(
    tower: Tower, processor: Processor, path: Path, piece_work: int, moments_s: list[float]
) -> None:
    """Stop at each of the moments."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = [stopped(tower, processor, path, piece_work, moment_s) for moment_s in moments_s]
    peak_mb = (mx.get_peak_memory() - before) / 1e6
    delays_ms = [delay_s * 1000 for delay_s, _ in found]
    deaf_ms, busy_ms = (
        max(getattr(stop, name) for _, stop in found) * 1000 for name in ("deaf_s", "busy_s")
    )
    print(
        f"{f'4032 x 3024 {path.suffix[1:]}, {len(found)} stops':<36}{np.median(delays_ms):>9.0f}"
        f"{max(delays_ms):>9.0f}{deaf_ms:>13.0f}{busy_ms:>9.0f}{peak_mb:>9.0f}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = MachineLimits.detect().vision_piece_work
    parser.add_argument("--piece-work", type=int, default=usual, metavar="OPERATIONS")
    parser.add_argument("--moments", default=",".join(map(str, MOMENTS_S)), metavar="SECONDS,...")
    options = parser.parse_args()
    moments_s = [float(moment) for moment in options.moments.split(",")]
    tower, processor = Tower(), published_processor()
    print_baseline(tower, options.piece_work)
    columns = f"{'median':>9}{'worst':>9}{'deaf for ms':>13}{'busy ms':>9}{'peak MB':>9}"
    print(f"\n{'from Stop to the end, ms':<36}{columns}")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("jpg", "webp"):  # read bit by bit, and in one call as HEIC is
            path = photograph(Path(folder), suffix)
            print_stops(tower, processor, path, options.piece_work, moments_s)
    scores_gb = REAL_TOWER.num_heads * (188 * 252) ** 2 * 4 / 1e9
    print(f"scores of one layer over 4032 x 3024, if held at once: {scores_gb:.0f} GB")
    unit = 1 if sys.platform == "darwin" else 1024
    resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    print(f"largest resident memory of the process, with the weights: {resident_mb:.0f} MB")
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
