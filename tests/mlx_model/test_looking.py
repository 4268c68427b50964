"""Media are encoded in conversation order, in bounded pieces, and stop where they are told to."""

import threading
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.errors import MediaError
from mlx_model.events import Progress
from mlx_model.looking import MediaPixels, encode, pieces, read_media
from mlx_model.messages import ImagePart, Message, ReplySettings, TextPart, VideoPart
from mlx_model.processor import load_processor

ASSETS = Path(__file__).parents[2] / "assets"
MEDIA = Path(__file__).parents[1] / "media"
PICTURE = ASSETS / "samples" / "shapes.png"
CLIP = ASSETS / "samples" / "clip.mp4"


class MeanEncoder:
    """Four patches become the one row that is their mean; notes the size of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[list[int]]]] = []

    def encode_media(self, pixel_values: np.ndarray, grid_thw: np.ndarray) -> mx.array:
        assert len(pixel_values) == grid_thw.prod(axis=1).sum()
        self.calls.append((len(pixel_values), grid_thw.tolist()))
        return mx.array(pixel_values).reshape(-1, 4, pixel_values.shape[1]).mean(axis=1)


def run(steps: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def media_of(*grids: tuple[int, int, int]) -> MediaPixels:
    """Patches that carry their own running number."""
    media, first = MediaPixels(deque()), 0
    for groups, height, width in grids:
        count = groups * height * width
        values = np.arange(first, first + count, dtype=np.float32)[:, None]
        media.pixels.append((values, np.array([[groups, height, width]], dtype=np.int64)))
        first += count
    return media


def test_clips_are_cut_between_groups_and_pictures_never() -> None:
    def cut(grid: tuple[int, int, int], size: int) -> list[tuple[int, int, list[list[int]]]]:
        cuts = pieces(np.array([grid], dtype=np.int64), size)
        return [(start, stop, piece.tolist()) for start, stop, piece in cuts]

    frame = [1, 4, 6]
    assert cut((3, 4, 6), 48) == [(0, 48, [frame, frame]), (48, 72, [frame])]
    assert cut((3, 4, 6), 71) == [(0, 48, [frame, frame]), (48, 72, [frame])]
    assert cut((3, 4, 6), 72) == [(0, 72, [frame] * 3)]
    assert cut((2, 4, 6), 1) == [(0, 24, [frame]), (24, 48, [frame])]
    assert cut((1, 4, 6), 1) == [(0, 24, [frame])]


@pytest.mark.parametrize("piece_patches", [1, 16, 40, 1000])
def test_embeddings_come_in_order_whatever_the_pieces(piece_patches: int) -> None:
    media = media_of((1, 4, 4), (5, 2, 4), (1, 2, 2))
    encoder = MeanEncoder()
    progress, rows = run(encode(encoder, media, piece_patches, threading.Event()))
    assert np.array(rows)[:, 0].tolist() == [1.5 + 4 * i for i in range((16 + 40 + 4) // 4)]
    assert all(size <= max(piece_patches, 16) for size, _ in encoder.calls)
    assert progress[0] == Progress("looking", 0, 60)
    assert [step.done for step in progress[1:]] == np.cumsum([n for n, _ in encoder.calls]).tolist()
    assert progress[-1] == Progress("looking", 60, 60)
    assert media.encoded_patches == 60
    assert not media.pixels  # the patches are given back as they are done


def test_without_media_nothing_is_told() -> None:
    assert run(encode(MeanEncoder(), media_of(), 10, threading.Event())) == ([], None)


def test_cancel_between_two_pieces_of_a_clip() -> None:
    cancel = threading.Event()
    media = media_of((1, 2, 2), (8, 2, 2))
    encoder = MeanEncoder()
    steps = encode(encoder, media, 8, cancel)
    for step in steps:
        if step.done >= 12:
            cancel.set()
    assert len(encoder.calls) == 2
    assert media.encoded_patches == 12


def read(
    *parts: Any, settings: ReplySettings | None = None, cancel: threading.Event | None = None
) -> MediaPixels | None:
    messages = [
        Message("user", (*parts, TextPart("What?"))),
        Message.text("assistant", "That."),
        Message("user", (ImagePart(PICTURE),)),
    ]
    processor = load_processor(ASSETS / "demo_model")
    return read_media(processor, messages, settings or ReplySettings(), cancel or threading.Event())


def test_files_are_read_in_conversation_order() -> None:
    media = read(VideoPart(CLIP), ImagePart(PICTURE))
    assert media is not None
    assert len(media.image_grids) == 2
    assert len(media.video_grids) == 1
    grids = [grid.tolist() for _, grid in media.pixels]
    expected = [*media.video_grids, *media.image_grids]
    assert grids == [grid.tolist() for grid in expected]
    assert all(len(values) == grid.prod() for values, grid in media.pixels)
    assert len(media.video_times_s[0]) == media.video_grids[0][0, 0]


def test_settings_lower_what_is_looked_at() -> None:
    whole = read(VideoPart(CLIP))
    few = read(VideoPart(CLIP), settings=ReplySettings(max_frames=4))
    slow = read(VideoPart(CLIP, fps=0.5), settings=ReplySettings(video_fps=8))
    small = read(VideoPart(CLIP), settings=ReplySettings(max_image_tokens=4))
    assert whole is not None
    assert few is not None
    assert slow is not None
    assert small is not None
    assert few.video_grids[0][0, 0] == 2  # 4 frames, two a group
    assert slow.video_grids[0][0, 0] < whole.video_grids[0][0, 0]
    assert small.image_grids[0].prod() <= 16 < whole.image_grids[0].prod()


def test_settings_never_raise_the_limits_of_the_checkpoint() -> None:
    media = read(VideoPart(CLIP), settings=ReplySettings(video_fps=100, max_frames=500))
    assert media is not None
    assert media.video_grids[0][0, 0] <= 8  # the demo model looks at 16 frames at most


def test_a_part_of_a_clip_keeps_the_times_of_the_whole() -> None:
    media = read(VideoPart(CLIP, start_s=1.0))
    assert media is not None
    assert media.video_times_s[0][0] >= 1.0


def test_cancel_while_files_are_read() -> None:
    cancel = threading.Event()
    cancel.set()
    assert read(VideoPart(CLIP), cancel=cancel) is None


def test_a_file_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.png"):
        read(ImagePart(tmp_path / "gone.png"))


def test_a_clip_that_ends_early_is_said_so_by_a_name_fit_for_a_sentence(tmp_path: Path) -> None:
    whole = (MEDIA / "h264.mp4").read_bytes()
    path = tmp_path / "half\nof it.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    messages = [Message("user", (VideoPart(path),))]
    media = read_media(
        load_processor(ASSETS / "demo_model"), messages, ReplySettings(), threading.Event()
    )
    assert media is not None
    (notice,) = media.notices
    assert notice.startswith("“half of it.mp4” ends earlier than it says")
    assert notice.endswith(" seconds.")
