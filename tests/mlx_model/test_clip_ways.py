"""The quick ways through a clip bring back what reading it from front to back does."""

import re
import shutil
import struct
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mlx_model.boxes import Box
from mlx_model.clips import MediaCancelledError, SampledVideo, probe_video, sample_video
from mlx_model.frame_plan import FrameChoice, plan_by_index
from mlx_model.frame_readers import AnimationReader, FilmReader
from mlx_model.mp4_excerpt import needed_frames
from mlx_model.mp4_table import FrameTable, read_frame_table
from tests.mlx_model.numbered_frames import number_of, numbered_frame
from tests.mlx_model.timed_clips import rewrite, write_steady

MEDIA = Path(__file__).parents[1] / "media"
STEADY = (
    "h264.mp4",
    "hevc.mov",
    "rotated.mp4",
    "rotated180.mp4",
    "rotated270.mp4",
    "key_frames.mp4",
    "open_groups.mp4",
    "open_groups.mov",
    "refresh.mp4",
    "trimmed.mp4",
    "vp9.webm",
)
CHOICES = (
    FrameChoice(),
    FrameChoice(fps=7.0),
    FrameChoice(max_frames=4),
    FrameChoice(start_s=0.3, end_s=0.55),
    FrameChoice(start_s=0.6, min_frames=2),
    # In clips with open groups the second one is shown before its key frame.
    FrameChoice(end_s=0.77, max_frames=2, min_frames=2),
)


def plainly(path: Path, choice: FrameChoice) -> tuple[list[np.ndarray], list[float]]:
    """Frames and their times by decoding everything from front to back with OpenCV alone."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    decoded, times_s = [], []
    while capture.grab():
        _, image = capture.retrieve()
        decoded.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        times_s.append(max(0.0, capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)
    wanted = plan_by_index(len(decoded), capture.get(cv2.CAP_PROP_FPS), choice)
    capture.release()
    return [decoded[number] for number in wanted], [times_s[number] for number in wanted]


def sampled(path: Path, choice: FrameChoice) -> SampledVideo:
    return sample_video(
        path, choice.fps, choice.max_frames, choice.start_s, choice.end_s, choice.min_frames
    )


def assert_as_plainly(path: Path, choice: FrameChoice) -> None:
    clip = sampled(path, choice)
    frames, times_s = plainly(path, choice)
    assert len(clip.frames) == len(frames)
    for ours, plain in zip(clip.frames, frames, strict=True):
        np.testing.assert_array_equal(ours, plain)
    assert clip.times_s == pytest.approx(times_s, abs=2e-3)
    assert not clip.ended_early


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each frame that a reader steps to."""
    steps: list[int] = []
    grab = FilmReader.grab

    def counting(self: FilmReader) -> float | None:
        steps.append(1)
        return grab(self)

    monkeypatch.setattr(FilmReader, "grab", counting)
    return steps


@pytest.mark.parametrize("name", STEADY)
def test_the_same_frames_as_from_front_to_back(name: str) -> None:
    for choice in CHOICES:
        assert_as_plainly(MEDIA / name, choice)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "mp4v"),
        ("a.mov", "MJPG"),
        ("a.mkv", "mp4v"),
        ("a.mkv", "FFV1"),
        ("a.webm", "VP80"),
        ("a.webm", "VP90"),
        ("a.avi", "XVID"),
        ("a.avi", "MJPG"),
        ("a.flv", "FLV1"),
        ("a.wmv", "WMV2"),
        ("a.ts", "MPG2"),
    ],
)
def test_long_stretches_are_jumped_over(tmp_path: Path, name: str, codec: str) -> None:
    path = write_steady(tmp_path / name, 700, codec=codec)
    for choice in (FrameChoice(start_s=19.5), FrameChoice(fps=0.1, min_frames=2), FrameChoice()):
        assert_as_plainly(path, choice)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_the_last_second_of_a_long_clip_costs_little(
    tmp_path: Path, name: str, decoded: list[int]
) -> None:
    path = write_steady(tmp_path / name, 900)
    clip = sample_video(path, start_s=29.0)
    assert [number_of(frame) for frame in clip.frames] == [870, 880, 889, 899]
    assert len(decoded) < 100


def test_frames_that_no_wanted_one_needs_are_not_decoded(decoded: list[int]) -> None:
    clip = sample_video(MEDIA / "key_frames.mp4", max_frames=4)
    assert [number_of(frame) for frame in clip.frames] == [0, 32, 63, 95]
    assert len(decoded) < 30


@pytest.mark.parametrize(("name", "least"), [("refresh.mp4", 90), ("open_groups.mp4", 45)])
def test_a_key_frame_that_is_none_costs_only_time(
    decoded: list[int], name: str, least: int
) -> None:
    # Pictures build up from frames before it, or lie between a key frame and one before it.
    sample_video(MEDIA / name, max_frames=4)
    assert least < len(decoded) < 97


def test_frames_that_no_other_refers_to_are_not_decoded(decoded: list[int]) -> None:
    for name, most in (("h264.mp4", 75), ("hevc.mov", 40)):
        del decoded[:]
        sample_video(MEDIA / name)
        assert len(decoded) < most


def first_table(path: Path) -> FrameTable:
    with path.open("rb") as file:
        table = read_frame_table(file)
    assert table is not None
    return table


def test_what_frames_are_decoded_from() -> None:
    with (MEDIA / "key_frames.mp4").open("rb") as file:
        table = read_frame_table(file)
        assert table is not None
        assert np.flatnonzero(table.is_key).tolist() == list(range(0, 96, 12))
        places = needed_frames(table, [0, 24, 25], file, lambda: None)
    assert places is not None
    # Frame 25 is stored behind the frame that it is foretold from.
    assert places.tolist()[:2] == [0, 24]
    assert set(places.tolist()) <= {0, *range(24, 30)}
    shown = {number for number, _ in table.listed(places)}
    assert {0, 24, 25} <= shown


def test_looking_into_frames_can_be_stopped_before_each() -> None:
    looks = 0

    def third() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise MediaCancelledError

    with (MEDIA / "key_frames.mp4").open("rb") as file:
        table = read_frame_table(file)
        assert table is not None
        with pytest.raises(MediaCancelledError):
            needed_frames(table, [90], file, third)
        assert looks == 3
        needed_frames(table, [90], file, third)
    # The key frames up to the wanted one but for the first, then all frames from the last of them.
    assert looks - 3 == 7 + table.order[90] - 84 + 1


def test_frames_that_an_edit_leaves_out_have_no_number() -> None:
    table = first_table(MEDIA / "trimmed.mp4")
    assert len(table.order) < len(table.sizes)
    numbers = [number for number, _ in table.listed(np.arange(len(table.sizes)))]
    assert [number for number in numbers if number >= 0] == list(range(len(table.order)))
    first = sample_video(MEDIA / "trimmed.mp4").frames[0]
    assert number_of(first) == 31


def with_box(name: bytes, content: Callable[[bytes], bytes]) -> Callable[[Box], bytes | None]:
    return lambda box: content(bytes(box.content)) if box.name == name else None


LIES: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "no such version of times": (b"stts", lambda old: old[:4] + b"\0\0\0\1" + b"\xff" * 8),
    "too many times": (b"stts", lambda old: old[:4] + b"\xff" * 4 + old[8:]),
    "a frame of no bytes": (b"stsz", lambda old: old[:12] + bytes(4) + old[16:]),
    "more frames than sizes": (b"stsz", lambda old: old[:8] + b"\0\0\xff\xff" + old[12:]),
    "chunks that do not begin with the first": (b"stsc", lambda old: old[:8] + b"\2" + old[9:]),
    "frames before the file": (b"stco", lambda old: old[:8] + b"\xff" * 4 + old[12:]),
    "key frames beyond the last": (b"stss", lambda old: old[:8] + b"\xff" * 4 + old[12:]),
    "no units": (b"mdhd", lambda old: old[:12] + bytes(4) + old[16:]),
    "two ways of coding": (b"stsd", lambda old: old + old[8:]),
    "an edit at double speed": (b"elst", lambda old: old[:-4] + struct.pack(">I", 2 << 16)),
    "edits without end": (b"elst", lambda old: old[:4] + b"\xff" * 4 + old[8:]),
}


def test_frames_may_be_shown_before_their_time_of_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    shutil.copy(MEDIA / "key_frames.mp4", path)
    before = first_table(path)
    assert np.any(np.diff(before.shown) < 0)
    earlier = int((before.shown - before.decoded).max()) - 1

    def signed(old: bytes) -> bytes:
        rows = np.frombuffer(old[8:], ">u4").reshape(-1, 2).astype(np.int64)
        rows[:, 1] -= earlier
        return b"\1" + old[1:8] + (rows & 0xFFFFFFFF).astype(">u4").tobytes()

    rewrite(path, with_box(b"ctts", signed))
    np.testing.assert_array_equal(first_table(path).shown, before.shown - earlier)


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_makes_no_sense_is_no_guide(tmp_path: Path, lie: str) -> None:
    path = write_steady(tmp_path / "a.mp4", 36)
    first_table(path)
    rewrite(path, with_box(*LIES[lie]))
    with path.open("rb") as file:
        assert read_frame_table(file) is None


@pytest.mark.parametrize(
    ("name", "settings", "place"), [("h264.mp4", b"avcC", 8), ("hevc.mov", b"hvcC", 25)]
)
def test_frames_whose_pieces_have_short_sizes_are_no_guide(
    tmp_path: Path, name: str, settings: bytes, place: int
) -> None:
    content = bytearray((MEDIA / name).read_bytes())
    assert content[content.index(settings) + place] & 3 == 3
    content[content.index(settings) + place] -= 2
    (tmp_path / name).write_bytes(content)
    with (tmp_path / name).open("rb") as file:
        assert read_frame_table(file) is None


def test_a_table_with_other_times_than_the_frames_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    path = tmp_path / "a.mp4"
    shutil.copy(MEDIA / "key_frames.mp4", path)
    truth = FrameTable.listed

    def shifted(self: FrameTable, places: np.ndarray) -> list[tuple[int, float]]:
        return [(number, time_s + 0.02 * (number > 40)) for number, time_s in truth(self, places)]

    monkeypatch.setattr(FrameTable, "listed", shifted)
    assert_as_plainly(path, FrameChoice())
    assert len(decoded) > 96


def test_the_length_of_a_cut_file_is_what_is_there(tmp_path: Path) -> None:
    # The table stands in front of the pictures in this file, so half of it still opens.
    whole = (MEDIA / "h264.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    info, clip = probe_video(path), sample_video(path)
    assert info.frame_count < 95
    assert info.duration_s < 3.8
    assert clip.ended_early
    assert 0 <= info.duration_s - clip.times_s[-1] < 0.1


def test_a_film_without_table_that_is_cut_says_so(tmp_path: Path) -> None:
    path = write_steady(tmp_path / "a.mkv", 200)
    content = path.read_bytes()
    assert not sample_video(path).ended_early
    path.write_bytes(content[: len(content) // 2])
    clip = sample_video(path)
    assert clip.ended_early
    assert 20 < number_of(clip.frames[-1]) < 120
    assert clip.times_s[-1] == pytest.approx(number_of(clip.frames[-1]) / 30, abs=2e-3)


def test_a_damaged_frame_is_not_the_end(tmp_path: Path) -> None:
    path = write_steady(tmp_path / "a.avi", 60, codec="MJPG")
    content = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(b"00dc....\xff\xd8", content, re.DOTALL)]
    assert len(starts) == 60
    content[starts[30] + 8 : starts[31]] = bytes(starts[31] - starts[30] - 8)
    path.write_bytes(content)
    clip = sample_video(path, fps=30.0)
    numbers = [number_of(frame) for frame in clip.frames]
    assert 30 not in numbers
    assert numbers[-1] == 59
    assert len(numbers) == 59
    assert clip.times_s == pytest.approx([number / 30 for number in numbers], abs=2e-3)


def animation(path: Path) -> Path:
    first, *others = (Image.fromarray(numbered_frame(number)) for number in range(60))
    first.save(path, save_all=True, append_images=others, duration=50)
    return path


# One clip for each way through: by its table, counted, jumped through, and looked at twice.
WAYS: dict[str, tuple[Callable[[Path], Path], FrameChoice]] = {
    "table": (lambda folder: write_steady(folder / "a.mp4", 400), FrameChoice()),
    "count": (lambda folder: write_steady(folder / "a.mkv", 400), FrameChoice()),
    "jumps": (lambda folder: write_steady(folder / "a.avi", 400), FrameChoice(start_s=10.0)),
    "all times": (lambda folder: animation(folder / "a.gif"), FrameChoice()),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_whole_frame_at_a_time_is_in_memory(tmp_path: Path, way: str) -> None:
    make, choice = WAYS[way]
    live, most = 0, 0

    def gone() -> None:
        nonlocal live
        live -= 1

    def prepare(frame: np.ndarray, frame_count: int) -> np.ndarray:
        nonlocal live, most
        live += 1
        most = max(live, most)
        weakref.finalize(frame, gone)
        return frame[::8, ::8].copy()

    clip = sample_video(make(tmp_path), 7.0, start_s=choice.start_s, prepare_frame=prepare)
    assert len(clip.frames) > 10
    assert most <= 2
    assert live == 0


@pytest.mark.parametrize("way", WAYS)
def test_every_way_can_be_stopped_and_tells_how_far_it_is(tmp_path: Path, way: str) -> None:
    make, choice = WAYS[way]
    path, told, cancel = make(tmp_path), list[tuple[int, int]](), threading.Event()
    sample_video(path, 7.0, start_s=choice.start_s, on_progress=lambda *at: told.append(at))
    assert told == sorted(set(told))
    assert told[-1][0] == told[-1][1]
    assert len(told) > 2

    del told[:]

    def stop(*at: int) -> None:
        told.append((at[0], at[1]))
        cancel.set()

    with pytest.raises(MediaCancelledError):
        sample_video(path, 7.0, start_s=choice.start_s, on_progress=stop, cancel=cancel)
    assert len(told) == 1
    with pytest.raises(MediaCancelledError):
        sample_video(path, 7.0, start_s=choice.start_s, cancel=cancel)


def test_counting_the_frames_of_a_clip_without_length_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cancel, steps = animation(tmp_path / "a.gif"), threading.Event(), list[int]()
    grab = AnimationReader.grab

    def third(self: AnimationReader) -> float | None:
        steps.append(1)
        if len(steps) == 3:
            cancel.set()
        return grab(self)

    monkeypatch.setattr(AnimationReader, "grab", third)
    with pytest.raises(MediaCancelledError):
        probe_video(path, cancel)
    assert len(steps) == 3


def test_several_clips_at_once() -> None:
    names = ("h264.mp4", "vp9.webm", "hevc.mov", "uneven.mkv", "key_frames.mp4", "uneven.mp4")
    alone = [sample_video(MEDIA / name).times_s for name in names]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda name: sample_video(MEDIA / name).times_s, names * 4))
    assert together == alone * 4
