"""The prompts of tests/goldens/: text, pictures and clips as token ids and grids.

Knows no model. New cases go to the end: tokens and pixels come from one random stream, so that an
earlier place would change all cases after it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.mlx_model import preprocessing_cases
from tests.mlx_model.golden_versions import PLAIN

IMAGE, VIDEO, VISION_START, VISION_END = 104, 105, 106, 107
PATCH_SIDE = 4
MERGE = 2
ODD_FRAMES, ODD_SIZE = 5, (16, 24)

Grid = tuple[int, int, int]
WIDE, TALL, CLIP = (1, 4, 6), (1, 8, 4), (3, 4, 6)


@dataclass(frozen=True)
class Case:
    """One prompt with its grids, and the number of tokens to decode after it.

    `turns` are the places where a conversation would have read so far; `version` is one of
    tests/mlx_model/golden_versions.py. With `odd_clip` the pixels are those of a clip of five
    frames, else they are random.
    """

    prompt: list[int]
    images: tuple[Grid, ...] = ()
    videos: tuple[Grid, ...] = ()
    decoded: int = 0
    version: str = PLAIN
    turns: tuple[int, ...] = ()
    odd_clip: bool = False


def image_tokens(grid: Grid) -> list[int]:
    """One picture as the template writes it."""
    return [VISION_START, *[IMAGE] * (grid[1] * grid[2] // MERGE**2), VISION_END]


def video_tokens(grid: Grid) -> list[int]:
    """One clip: two tokens stand for each group's time stamp, then its own block."""
    group = [VIDEO] * (grid[1] * grid[2] // MERGE**2)
    parts = [[20 + t, 30 + t, VISION_START, *group, VISION_END] for t in range(grid[0])]
    return [token for part in parts for token in part]


class _Text:
    """Text tokens from one random stream."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, tokens: int) -> list[int]:
        return [int(token) for token in self._rng.integers(0, 100, tokens)]


def cases() -> dict[str, Case]:
    """Name -> case, in the order in which the reference runs them."""
    text = _Text(5)
    found = {f"text_{tokens}": Case(text(tokens)) for tokens in (1, 2, 63, 64, 65, 129)}
    found["text_decode"] = Case(text(9), decoded=6)
    found["image"] = Case(text(5) + image_tokens(WIDE) + text(7), (WIDE,), decoded=8)
    found["image_only"] = Case(image_tokens(TALL), (TALL,), decoded=3)
    found["two_images"] = Case(
        text(3) + image_tokens(WIDE) + image_tokens(TALL) + text(6), (WIDE, TALL), decoded=4
    )
    found["video_one_group"] = Case(
        text(4) + video_tokens((1, 4, 6)) + text(5), videos=((1, 4, 6),), decoded=3
    )
    found["video"] = Case(text(4) + video_tokens(CLIP) + text(5), videos=(CLIP,), decoded=4)
    found["two_videos"] = Case(
        text(2) + video_tokens(CLIP) + text(2) + video_tokens((2, 4, 4)) + text(3),
        videos=(CLIP, (2, 4, 4)),
        decoded=2,
    )
    found["image_and_video"] = Case(
        text(3)
        + image_tokens(TALL)
        + text(2)
        + video_tokens(CLIP)
        + text(2)
        + image_tokens(WIDE)
        + text(20),
        (TALL, WIDE),
        (CLIP,),
        decoded=4,
    )
    return found | _longer_and_extreme(text) | _arrangements(text)


def _longer_and_extreme(text: _Text) -> dict[str, Case]:
    # Of its own stream: in other texts of this length a head's output comes so near zero before its
    # norm that the reference's own rounding shows.
    found = {"text_150": Case(_Text(6)(150))}
    for version in ("strong_decay", "no_decay", "hard_gates"):
        found[version] = Case(text(70), decoded=3, version=version)
    media = text(30) + image_tokens(TALL) + text(3) + video_tokens(CLIP) + text(30)
    found["calm"] = Case(media, (TALL,), (CLIP,), version="calm")
    return found


def _arrangements(text: _Text) -> dict[str, Case]:
    """Where pictures and clips can stand in a conversation."""
    small, group = (1, 4, 4), (2, 4, 4)
    first = text(4) + image_tokens(WIDE) + text(3)
    second = text(3) + image_tokens(TALL) + image_tokens(small) + text(4)
    third = text(6)
    return {
        "short_image": Case(text(1) + image_tokens(small) + text(1), (small,)),
        "image_first": Case(image_tokens(TALL) + text(6), (TALL,), decoded=2),
        "image_last": Case(text(6) + image_tokens(WIDE), (WIDE,), decoded=3),
        "image_across_64": Case(text(58) + image_tokens((1, 8, 8)) + text(5), ((1, 8, 8),)),
        "several_turns": Case(
            first + second + third,
            (WIDE, TALL, small),
            decoded=3,
            turns=(len(first), len(first) + len(second)),
        ),
        "image_between_videos": Case(
            text(2) + video_tokens(group) + image_tokens(WIDE) + video_tokens(CLIP) + text(3),
            (WIDE,),
            (group, CLIP),
            decoded=3,
        ),
        "odd_frames": Case(
            text(3) + video_tokens(CLIP) + text(4), videos=(CLIP,), decoded=2, odd_clip=True
        ),
    }


def odd_clip_pixels() -> NDArray[np.float32]:
    """Patches of a clip of five frames, written out one value after the other.

    The sixth frame is the fifth again; blocks of MERGE x MERGE patches follow each other row by
    row, and so do the patches inside a block; a patch is colour, frame, row, column.
    """
    frames = preprocessing_cases.clip("noise", *ODD_SIZE, ODD_FRAMES)
    frames.append(frames[-1])
    block = PATCH_SIDE * MERGE
    rows = []
    for group in range(0, len(frames), 2):
        for top in range(0, ODD_SIZE[0], block):
            for left in range(0, ODD_SIZE[1], block):
                for patch in range(MERGE**2):
                    y = top + patch // MERGE * PATCH_SIDE
                    x = left + patch % MERGE * PATCH_SIDE
                    cut = [f[y : y + PATCH_SIDE, x : x + PATCH_SIDE] for f in frames[group:][:2]]
                    rows.append(np.stack(cut).transpose(3, 0, 1, 2).reshape(-1))
    return (np.stack(rows).astype(np.float32) / 255 - 0.5) / 0.5
