"""Pictures and clips made by arithmetic, shared by the preprocessing tests and the tool that asks
the reference about them. No random generator: its numbers could change with a version.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

PUBLISHED = {"shortest_edge": 65536, "longest_edge": 16777216}
PUBLISHED_CLIP = {"shortest_edge": 4096, "longest_edge": 25165824}
DEMO = {"shortest_edge": 4096, "longest_edge": 16384}
DEMO_CLIP = {"shortest_edge": 4096, "longest_edge": 147456}
UNEVEN_COLOURS = {"mean": (0.48, 0.45, 0.4), "std": (0.26, 0.27, 0.29)}

# name: (kind, height, width, budget, colours)
PICTURES = {
    "noise_up": ("noise", 40, 40, DEMO, {}),
    "noise_down": ("noise", 301, 217, DEMO, {}),
    "edges_down": ("edges", 240, 320, DEMO, {}),
    "edges_wide": ("edges", 33, 170, DEMO, {}),
    "smooth_exact": ("smooth", 128, 96, DEMO, {}),
    "smooth_tall": ("smooth", 700, 90, DEMO, {}),
    "one_pixel_high": ("noise", 1, 150, DEMO, {}),
    "one_pixel": ("noise", 1, 1, DEMO, {}),
    "half_to_even": ("edges", 80, 112, DEMO, {}),
    "uneven_colours": ("noise", 90, 70, DEMO, UNEVEN_COLOURS),
    "ratio_200": ("edges", 2, 400, DEMO, {}),
    "ratio_nearly_200": ("noise", 597, 3, DEMO, {}),
    "one_over_the_budget": ("smooth", 129, 128, DEMO, {}),
    "half_a_token": ("noise", 16, 48, DEMO, {}),
    "three_halves": ("smooth", 48, 48, DEMO, {}),
    "odd_and_large": ("smooth", 1013, 757, DEMO, {}),
    "published_up": ("edges", 64, 64, PUBLISHED, {}),
    "published_mixed": ("smooth", 250, 430, PUBLISHED, {}),
}

# name: (budget, how many random pictures, their longest side)
RANDOM_PICTURES = {"demo": (DEMO, 300, 800), "published": (PUBLISHED, 80, 2000)}

# name: (kind, height, width, frame count, budget, tokens a frame may cost at most)
CLIPS = {
    "demo_square": ("edges", 96, 96, 4, DEMO_CLIP, 9),
    "demo_camera": ("smooth", 240, 320, 6, DEMO_CLIP, 9),
    "demo_odd": ("noise", 70, 110, 5, DEMO_CLIP, 9),
    "demo_tiny": ("noise", 12, 20, 3, DEMO_CLIP, 9),
    "published_short": ("smooth", 60, 100, 2, PUBLISHED_CLIP, None),
    "published_odd": ("edges", 75, 64, 7, PUBLISHED_CLIP, None),
}

# name: (budget, tokens a frame may cost at most, frame counts)
CLIP_BUDGETS = {
    "published": (PUBLISHED_CLIP, None, (2, 5, 7, 16)),
    "capped": (PUBLISHED_CLIP, 768, (2, 7, 200, 768)),
    "demo": (DEMO_CLIP, 9, (2, 5, 7, 16)),
    "least": (DEMO_CLIP, 1, (4,)),
}

# (frames in the clip, frames a second, frames a second wanted, fewest, most)
SAMPLINGS = [
    (total, rate, fps, fewest, most)
    for total in (1, 2, 3, 5, 20, 75, 250, 301, 1799, 18000, 54321)
    for rate in (0.1, 8.0, 10.0, 23.976, 24.0, 25.0, 30000 / 1001, 30.0, 59.94, 60.0)
    for fps, fewest, most in ((2.0, 4, 768), (1.0, 4, 16), (2.0, 4, 16))
]


def picture(kind: str, height: int, width: int, shift: int = 0) -> Pixels:
    """uint8 [H, W, 3]; `shift` makes the frames of a clip differ."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    rows, columns = rows + shift, columns + 2 * shift
    channels = []
    for channel in range(3):
        if kind == "noise":
            mixed = (rows * 7919 + columns * 104729 + channel * 1299709) % 1000003
            levels = (mixed * mixed) % 65537 % 256
        elif kind == "edges":
            levels = ((rows // 9 + columns // 13 + channel) % 2) * 255
        else:
            levels = (rows * (channel + 1) * 97 // height + columns * 120 // width) % 512
            levels = np.where(levels > 255, 511 - levels, levels)
        channels.append(levels)
    return np.stack(channels, axis=-1).astype(np.uint8)


def clip(kind: str, height: int, width: int, count: int) -> list[Pixels]:
    """Frames of one clip."""
    return [picture(kind, height, width, shift) for shift in range(count)]


def size_sweep() -> list[tuple[int, int]]:
    """Heights and widths from tiny to beyond the budgets, ratios up to 200 and just past it."""
    sides = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 80, 112, 144, 255, 256, 257, 480, 640, 777]
    sides += [1000, 1080, 1920, 3024, 4032, 6000]
    return [(height, width) for height in sides for width in sides]


def random_sizes(count: int, seed: int) -> list[tuple[int, int]]:
    """Heights and widths of all magnitudes up to 16,384. Only whole numbers are drawn: those of
    this generator are the same for every version of Python.
    """
    rng = random.Random(seed)
    sides = [rng.randrange(1, 2 ** rng.randrange(1, 15)) for _ in range(2 * count)]
    return list(zip(sides[::2], sides[1::2], strict=True))


def random_pictures(count: int, longest: int) -> list[tuple[str, int, int]]:
    """Kind, height and width of at most so many pictures, none of them too long for its width."""
    kinds = ("noise", "edges", "smooth")
    sizes = [(h % longest + 1, w % longest + 1) for h, w in random_sizes(count, seed=2)]
    shaped = [(h, w) for h, w in sizes if max(h, w) <= 200 * min(h, w)]
    return [(kinds[number % 3], *size) for number, size in enumerate(shaped)]


def patch_digest(grid: Sequence[int], levels: npt.NDArray[np.uint8]) -> str:
    """Short, for many pictures; levels [P, patch width]."""
    return hashlib.sha256(str([int(n) for n in grid]).encode() + levels.tobytes()).hexdigest()[:12]


def sampling_row(indices: list[int], times: list[str]) -> dict[str, Any]:
    """Frame numbers and times of one sampling; long ones as a digest, to keep the file small."""
    if len(indices) <= 16:
        return {"indices": indices, "times": times}
    text = f"{indices} {times}"
    return {"count": len(indices), "sha256": hashlib.sha256(text.encode()).hexdigest()}
