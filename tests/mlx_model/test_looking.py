"""Media are encoded in conversation order, in bounded pieces, and stop where they are told to."""

import itertools
import math
import threading
import weakref
from collections import deque
from collections.abc import Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_model.errors import MediaError
from mlx_model.events import Progress
from mlx_model.looking import Grid, MediaQueue, Medium, encode, read_media
from mlx_model.media import sample_video
from mlx_model.messages import (
    ImagePart,
    MediaSettings,
    Message,
    ReplySettings,
    TextPart,
    VideoPart,
)
from mlx_model.processor import load_processor

ASSETS = Path(__file__).parents[2] / "assets"
MEDIA = Path(__file__).parents[1] / "media"
PICTURE = ASSETS / "samples" / "shapes.png"
CLIP = ASSETS / "samples" / "clip.mp4"

NEVER = threading.Event()
GRID = np.array([[1, 4, 4]])


class MeanEncoder:
    """Four patches become the one row that is their mean; a patch takes as much work as its number
    of neighbours. Notes the size of every piece.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []

    def media_work(self, grid_thw: Grid) -> int:
        return int(grid_thw.prod()) * int(grid_thw[0, 1:].prod())

    def encode_media_in_pieces(
        self, rows: Any, grid_thw: Grid, piece_work: int
    ) -> Generator[int, None, mx.array]:
        count, area = int(grid_thw.prod()), int(grid_thw[0, 1:].prod())
        step = max(4, piece_work // area // 4 * 4)
        tokens = []
        for start in range(0, count, step):
            values = rows(slice(start, min(start + step, count)))
            self.calls.append(len(values))
            tokens.append(mx.array(values).reshape(-1, 4, values.shape[1]).mean(axis=1))
            yield len(values) * area
        return mx.concatenate(tokens)


def run(steps: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def media_of(*grids: tuple[int, int, int]) -> MediaQueue:
    """Patches that carry their own running number."""
    media, first = MediaQueue(), 0
    for grid in grids:
        count = math.prod(grid)
        values: Any = np.arange(first, first + count, dtype=np.float32)[:, None]
        digest = values.tobytes()
        media.waiting.append(Medium(digest, np.array([grid]), lambda values=values: values))
        first += count
    return media


@pytest.mark.parametrize("piece_work", [1, 100, 640, 10**6])
def test_embeddings_come_in_order_whatever_the_pieces(piece_work: int) -> None:
    media = media_of((1, 4, 4), (5, 2, 4), (1, 2, 2))
    encoder = MeanEncoder()
    progress, rows = run(encode(encoder, media, piece_work, threading.Event()))
    assert np.array(rows)[:, 0].tolist() == [1.5 + 4 * i for i in range((16 + 40 + 4) // 4)]
    assert progress[0] == Progress("looking", 0, 60)
    assert all(a.done < b.done for a, b in itertools.pairwise(progress))
    assert progress[-1] == Progress("looking", 60, 60)
    assert media.encoded_patches == 60
    assert not media.waiting


def test_progress_follows_the_work_not_the_patches() -> None:
    """Sixty-four patches that see each other are most of the work, whoever comes first."""
    progress, _ = run(encode(MeanEncoder(), media_of((16, 2, 2), (1, 8, 8)), 64, NEVER))
    assert progress[0].total == 128
    assert 5 < max(b.done - a.done for a, b in itertools.pairwise(progress)) < 10
    assert len(progress) > 16


def test_without_media_nothing_is_told() -> None:
    assert run(encode(MeanEncoder(), media_of(), 10, threading.Event())) == ([], None)


def test_cancel_between_two_pieces() -> None:
    cancel = threading.Event()
    media = media_of((1, 2, 2), (8, 2, 2))
    encoder = MeanEncoder()
    for step in encode(encoder, media, 32, cancel):
        if step.done >= 12:
            cancel.set()
    assert encoder.calls == [4, 8]
    assert media.encoded_patches == 4


def test_one_picture_is_in_memory_at_a_time() -> None:
    opened, freed = list[int](), list[int]()

    def open_one() -> Any:
        values = np.zeros((16, 4), dtype=np.float32)
        weakref.finalize(values, freed.append, 1)
        opened.append(len(opened) - len(freed))
        return values

    media = MediaQueue(deque(Medium(b"%d" % n, GRID, open_one) for n in range(4)))
    run(encode(MeanEncoder(), media, 1, NEVER))
    assert opened == [0, 0, 0, 0]


def test_cancel_does_not_wait_for_a_decoder() -> None:
    cancel, opened, finish = (threading.Event() for _ in range(3))

    def never_ready() -> Any:
        opened.set()
        assert finish.wait(60)

    media = MediaQueue(deque([Medium(b"1", GRID, never_ready)]))
    canceller = threading.Thread(target=lambda: (opened.wait(60), cancel.set()))
    canceller.start()
    encoder = MeanEncoder()
    progress, rows = run(encode(encoder, media, 1, cancel))
    assert rows is None
    assert [step.done for step in progress] == [0]
    assert encoder.calls == []
    finish.set()
    canceller.join()


def test_what_goes_wrong_in_a_decoder_is_raised() -> None:
    def fails() -> Any:
        raise MediaError("It is damaged.")

    media = MediaQueue(deque([Medium(b"1", GRID, fails)]))
    with pytest.raises(MediaError, match=r"It is damaged\."):
        run(encode(MeanEncoder(), media, 1, NEVER))


def read(
    *parts: Any, settings: ReplySettings | None = None, cancel: threading.Event | None = None
) -> MediaQueue | None:
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
    grids = [medium.grid.tolist() for medium in media.waiting]
    expected = [*media.video_grids, *media.image_grids]
    assert grids == [grid.tolist() for grid in expected]
    for medium in media.waiting:
        patches = medium.open()
        assert patches.grid == tuple(medium.grid[0])
        assert len(patches[:]) == medium.grid.prod()
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
    assert small.video_grids[0][0, 1:].prod() <= 16 < whole.video_grids[0][0, 1:].prod()
    assert small.video_grids[0][0, 0] == whole.video_grids[0][0, 0]


def test_frames_are_made_small_in_one_step() -> None:
    """A second resize would blur them; before the first, memory would hold whole frames."""
    media = read(VideoPart(CLIP), settings=ReplySettings(max_image_tokens=4))
    assert media is not None
    patches = media.waiting[0].open()
    processor, clip = load_processor(ASSETS / "demo_model"), sample_video(CLIP, max_frames=16)
    assert len(patches.frames) == len(clip.frames)
    whole = processor.video_patches(clip.frames, max_frame_tokens=4)
    np.testing.assert_array_equal(patches[:], whole[:])


def test_a_limit_below_the_fewest_frames_of_the_checkpoint_holds() -> None:
    media = read(VideoPart(CLIP), settings=ReplySettings(max_frames=2))
    assert media is not None
    assert media.video_grids[0][0, 0] == 1


def test_settings_never_raise_the_limits_of_the_checkpoint() -> None:
    media = read(VideoPart(CLIP), settings=ReplySettings(video_fps=100, max_frames=500))
    assert media is not None
    assert media.video_grids[0][0, 0] <= 8  # the demo model looks at 16 frames at most


def test_the_media_settings_hold_all_that_changes_what_is_seen() -> None:
    """Whatever is not among them leaves the pixels as they are."""

    def seen(settings: ReplySettings) -> list[Any]:
        media = read(VideoPart(CLIP), settings=settings)
        assert media is not None
        return [(medium.grid.tolist(), medium.open()[:].tobytes()) for medium in media.waiting]

    usual, others = ReplySettings(), {"seed": 1, "thinking": True, "temperature": 1.5}
    changes = {"max_image_tokens": 4, "video_fps": 1.0, "max_frames": 4}
    assert {field.name for field in fields(MediaSettings)} == set(changes)
    assert replace(usual, **others).media == usual.media
    assert hash(usual.media) == hash(ReplySettings().media)
    assert seen(replace(usual, **others)) == seen(usual)
    for name, value in changes.items():
        changed = replace(usual, **{name: value})
        assert changed.media != usual.media
        assert seen(changed) != seen(usual)


@pytest.mark.parametrize("name", ["max_image_tokens", "video_fps", "max_frames"])
def test_settings_that_leave_nothing_to_see_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="at least"):
        read(VideoPart(CLIP), settings=replace(ReplySettings(), **{name: 0}))


def notices_of(*parts: Any, **settings: Any) -> list[str]:
    messages = [Message("user", (*parts, TextPart("What?"))), Message("tool", (TextPart("4"),))]
    processor = load_processor(ASSETS / "demo_model")
    media = read_media(processor, messages, ReplySettings(**settings), NEVER)
    assert media is not None
    return media.notices


def test_a_cap_that_makes_a_picture_smaller_is_said_so() -> None:
    assert notices_of(ImagePart(PICTURE)) == []
    assert notices_of(ImagePart(PICTURE), max_image_tokens=4) == [
        "The model sees “shapes.png” at 64 × 32 instead of 160 × 96 pixels: a picture may cost 4 "
        "tokens at most."
    ]


def test_caps_that_take_from_a_clip_are_said_so() -> None:
    assert notices_of(VideoPart(CLIP)) == []
    assert notices_of(VideoPart(CLIP), max_image_tokens=4, max_frames=4) == [
        "The model sees “clip.mp4” at 64 × 32 instead of 96 × 64 pixels: a picture may cost 4 "
        "tokens at most.",
        "The model sees 4 frames of “clip.mp4”; the settings allow no more.",
    ]
    assert notices_of(VideoPart(CLIP), max_frames=1) == [
        "The model sees 1 frame of “clip.mp4”; the settings allow no more."
    ]


def test_one_is_not_a_plural() -> None:
    caps = {"max_image_tokens": 1, "max_frames": 1}
    smaller, fewer = notices_of(VideoPart(CLIP), **caps)
    assert smaller.endswith("a picture may cost 1 token at most.")
    assert fewer == "The model sees 1 frame of “clip.mp4”; the settings allow no more."


def test_an_animation_sent_as_a_picture_is_said_to_show_one_frame(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    assert notices_of(ImagePart(tmp_path / "a.gif")) == [
        "The model sees only the first of the 3 frames of “a.gif”."
    ]


def test_only_what_the_last_question_brought_is_told() -> None:
    media = read(ImagePart(PICTURE), VideoPart(CLIP), settings=ReplySettings(max_image_tokens=4))
    assert media is not None
    assert len(media.notices) == 1  # of three


def test_a_picture_that_changes_between_the_two_looks_at_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (128, 128)).save(path)
    media = read(ImagePart(path))
    assert media is not None
    Image.new("RGB", (128, 64)).save(path)
    with pytest.raises(MediaError, match=r"“a\.png” has just been changed\. Ask again\."):
        media.waiting[0].open()


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


def test_a_picture_that_is_too_long_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "queue.png"
    Image.new("RGB", (3000, 1)).save(path)
    with pytest.raises(MediaError, match=r"queue\.png.*Crop it"):
        read(ImagePart(PICTURE), ImagePart(path))


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
