"""Frames taken from real files: the right ones, upright, with the times a player shows them at."""

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlx_model.clips import (
    MediaCancelledError,
    SampledVideo,
    planned_frames,
    probe_video,
    sample_video,
)
from mlx_model.errors import MediaError
from mlx_model.frame_plan import FrameChoice, plan_by_index
from mlx_model.frame_readers import FilmReader
from mlx_model.media import media_kind
from tests.mlx_model.numbered_frames import number_of, numbered_frame
from tests.mlx_model.timed_clips import write_steady

MEDIA = Path(__file__).parents[1] / "media"
STEADY = {
    "h264.mp4": (25.0, 100),
    "hevc.mov": (30000 / 1001, 60),
    "vp9.webm": (24.0, 48),
    "rotated.mp4": (15.0, 30),
}


def numbers_of(clip: SampledVideo) -> list[int]:
    return [number_of(frame) for frame in clip.frames]


def animation(path: Path, durations_ms: Sequence[int], **options: Any) -> Path:
    first, *others = (Image.fromarray(numbered_frame(i)) for i in range(len(durations_ms)))
    first.save(path, save_all=True, append_images=others, duration=list(durations_ms), **options)
    return path


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("fps", [1.0, 2.0, 7.0])
def test_a_steady_clip_yields_the_references_frames(name: str, fps: float) -> None:
    rate, total = STEADY[name]
    wanted = plan_by_index(total, rate, FrameChoice(fps))

    clip = sample_video(MEDIA / name, fps=fps)

    assert numbers_of(clip) == wanted
    assert clip.times_s == [number / rate for number in wanted]
    assert (clip.width, clip.height) == (160, 48)
    assert not clip.ended_early
    assert clip.frames[0].dtype == np.uint8


@pytest.mark.parametrize("name", STEADY)
def test_the_header_is_told_without_decoding(name: str) -> None:
    rate, total = STEADY[name]
    info = probe_video(MEDIA / name)
    assert (info.width, info.height, info.frame_count) == (160, 48, total)
    assert info.frames_per_s == pytest.approx(rate)
    assert info.duration_s == pytest.approx(total / rate)
    assert planned_frames(info) == len(sample_video(MEDIA / name).frames)


def test_a_part_of_a_clip_keeps_the_clips_own_times() -> None:
    clip = sample_video(MEDIA / "h264.mp4", start_s=1.0, end_s=2.0)
    assert numbers_of(clip) == [25, 33, 42, 50]
    assert clip.times_s == [1.0, 1.32, 1.68, 2.0]


@pytest.mark.parametrize("points", [(30.0, None), (3.0, 2.0), (None, -1.0)])
def test_a_part_without_frames_is_a_sentence(points: tuple[float | None, float | None]) -> None:
    for name in ("h264.mp4", "uneven.mp4"):
        with pytest.raises(MediaError, match="chosen part of"):
            sample_video(MEDIA / name, start_s=points[0], end_s=points[1])


def test_limits_on_the_number_of_frames() -> None:
    assert len(sample_video(MEDIA / "h264.mp4", max_frames=3, min_frames=2).frames) == 3
    assert len(sample_video(MEDIA / "h264.mp4", fps=0.1).frames) == 4
    assert len(sample_video(MEDIA / "h264.mp4", fps=0.1, min_frames=7).frames) == 7


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_uneven_times_are_the_real_ones(name: str) -> None:
    # Frame 30 comes at 1 second and stays for three; 31 to 60 follow within a second.
    clip = sample_video(MEDIA / name)
    shown = {n: n / 30 if n <= 30 else 4 + (n - 31) / 30 for n in range(61)}
    found = numbers_of(clip)
    assert clip.times_s == pytest.approx([shown[number] for number in found], abs=0.003)
    assert found == sorted(set(found))
    assert 30 in found
    # Spread over the time: half of the frames lie in the fifth second, not half of the numbers.
    assert found[-1] == 60
    assert len(found) <= 10


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_uneven_clips_can_be_cut(name: str) -> None:
    clip = sample_video(MEDIA / name, start_s=2.0, end_s=4.2)
    found = numbers_of(clip)
    assert found[0] == 30
    assert clip.times_s[-1] <= 4.2
    assert found[-1] > 31


def test_animations_are_clips_with_times_of_their_own(tmp_path: Path) -> None:
    even = sample_video(animation(tmp_path / "even.gif", [100] * 30))
    assert numbers_of(even) == plan_by_index(30, 10.0, FrameChoice())
    uneven_path = animation(tmp_path / "uneven.gif", [100, 3000, 100, 100, 2000, 100])
    uneven = sample_video(uneven_path)
    assert numbers_of(uneven)[:2] == [0, 1]
    assert dict(zip(numbers_of(uneven), uneven.times_s, strict=True))[4] == pytest.approx(3.3)
    assert probe_video(uneven_path).frame_count == 6


def test_an_animation_is_never_given_to_the_decoder_of_films(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = animation(tmp_path / "a.gif", [100] * 30)
    for name in ("FilmReader", "PacketReader"):
        monkeypatch.setattr(f"mlx_model.clips.{name}.__init__", None)
    assert probe_video(path).frame_count == 30
    assert len(sample_video(path).frames) == 6


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_other_animations_are_read_too(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = animation(tmp_path / f"a.{suffix}", [250] * 8, **options)
    assert numbers_of(sample_video(path)) == [0, 2, 5, 7]
    assert media_kind(path) == "video"


def test_a_frame_without_delay_lasts_as_long_as_in_browsers(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif", [0] * 20)
    assert probe_video(path).duration_s == pytest.approx(2.0)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mp4v"), ("avi", "MJPG")])
def test_what_opencv_writes_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_steady(tmp_path / f"a.{suffix}", 36, 12.0, codec)
    assert numbers_of(sample_video(path)) == plan_by_index(36, 12.0, FrameChoice())


def test_frames_can_be_made_small_as_they_come() -> None:
    counts = []

    def prepare(frame: np.ndarray, frame_count: int) -> np.ndarray:
        counts.append(frame_count)
        return frame[::4, ::4]

    clip = sample_video(MEDIA / "h264.mp4", prepare_frame=prepare)
    assert {frame.shape for frame in clip.frames} == {(12, 40, 3)}
    assert set(counts) == {len(clip.frames)}
    assert (clip.width, clip.height) == (160, 48)


def test_frames_that_are_not_wanted_are_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    convert = FilmReader.frame

    def counting(self: FilmReader) -> np.ndarray:
        converted.append(1)
        return convert(self)

    monkeypatch.setattr(FilmReader, "frame", counting)
    clip = sample_video(MEDIA / "h264.mp4")
    # A spare or two at the end, for headers that count a frame too many.
    assert len(converted) <= len(clip.frames) + 3


def test_progress_counts_up_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    sample_video(MEDIA / "h264.mp4", on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 3


def test_cancelling_stops_within_a_frame() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(MediaCancelledError):
        sample_video(MEDIA / "h264.mp4", cancel=cancel)
    later = threading.Event()
    with pytest.raises(MediaCancelledError):
        sample_video(
            MEDIA / "uneven.mp4",
            cancel=later,
            prepare_frame=lambda frame, _: (later.set(), frame)[1],
        )


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    # The index stands in front of the pictures in this file, so half of it still opens.
    whole = (MEDIA / "h264.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    clip = sample_video(path)
    assert clip.ended_early
    found = numbers_of(clip)
    assert len(found) >= 2
    assert found[0] == 0
    assert 5 < found[-1] < 95
    assert clip.times_s == [number / 25 for number in found]


class NoPackets:
    """A clip whose packets cannot be told apart."""

    def __init__(self, path: Path) -> None:
        pass

    def grab(self) -> float | None:
        return None

    def __enter__(self) -> "NoPackets":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def read_films_with(monkeypatch: pytest.MonkeyPatch, reader: type[FilmReader]) -> None:
    for module in ("frame_readers", "clips"):
        monkeypatch.setattr(f"mlx_model.{module}.FilmReader", reader)


def test_a_frame_too_many_in_the_header_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneTooMany(FilmReader):
        def __init__(self, path: Path, source: io.BufferedIOBase | None = None) -> None:
            super().__init__(path, source)
            self.frame_count += 1

    read_films_with(monkeypatch, OneTooMany)
    clip = sample_video(MEDIA / "vp9.webm")
    assert numbers_of(clip)[-1] == 47
    assert not clip.ended_early


@pytest.mark.parametrize("known", ["neither", "rate", "count"])
@pytest.mark.parametrize("packets", [True, False])
def test_a_header_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch, known: str, packets: bool
) -> None:
    class Silent(FilmReader):
        def __init__(self, path: Path, source: io.BufferedIOBase | None = None) -> None:
            super().__init__(path, source)
            self.frame_count = self.frame_count if known == "count" else 0
            self.rate = self.rate if known == "rate" else 0.0

    read_films_with(monkeypatch, Silent)
    if not packets:
        monkeypatch.setattr("mlx_model.clips.PacketReader", NoPackets)
    clip = sample_video(MEDIA / "vp9.webm")
    assert numbers_of(clip) == plan_by_index(48, 24.0, FrameChoice())
    assert probe_video(MEDIA / "vp9.webm").duration_s == pytest.approx(2.0, abs=0.01)


def test_a_clip_without_times_is_counted_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timeless(FilmReader):
        def grab(self) -> float | None:
            return None if super().grab() is None else 0.0

    read_films_with(monkeypatch, Timeless)
    clip = sample_video(MEDIA / "vp9.webm")
    assert numbers_of(clip) == plan_by_index(48, 24.0, FrameChoice())
    assert clip.times_s[-1] == 47 / 24


def test_one_frame_is_a_clip_too(tmp_path: Path) -> None:
    path = write_steady(tmp_path / "a.mp4", 1, 10.0)
    assert numbers_of(sample_video(path)) == [0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "is empty"),
        ("notes.mp4", b"not a clip at all", "whatever its name says"),
        ("notes.txt", b"not a clip at all", "not a clip that Fireside can read"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "whatever its name says"),
        ("list.mov", b"ffconcat version 1.0\nfile /etc/passwd\n", "whatever its name says"),
        ("cut.mp4", (MEDIA / "rotated.mp4").read_bytes()[:1500], "damaged, incomplete"),
        ("head.mp4", (MEDIA / "h264.mp4").read_bytes()[:40], "damaged, incomplete"),
        ("sound.mp4", (MEDIA / "sound.m4a").read_bytes(), "sound only"),
        ("noise.mkv", b"\x1a\x45\xdf\xa3" + bytes(range(256)), "damaged, incomplete"),
        ("photo.mov", (MEDIA / "photo.heic").read_bytes(), "is a picture"),
        ("cut.gif", b"GIF89a\x10\x00", "damaged or incomplete"),
    ],
)
def test_a_bad_file_is_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (sample_video, probe_video):
        with pytest.raises(MediaError, match=words) as caught:
            read(path)
        sentence = str(caught.value)
        assert name in sentence
        assert sentence.endswith(".")
    assert capfd.readouterr() == ("", "")


def test_a_still_picture_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(numbered_frame(1)).save(path)
    with pytest.raises(MediaError, match="is a picture, not a clip"):
        sample_video(path)


def test_a_clip_that_vanishes_is_a_sentence(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "gone.mp4", "cannot be found"), (tmp_path, "is a folder")):
        with pytest.raises(MediaError, match=words):
            sample_video(path)


@pytest.mark.parametrize("name", ["ü 😀\nzwei.mp4", "http:example.mp4", "%03d.mp4", "-i.mp4"])
def test_odd_names_are_only_names(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes((MEDIA / "h264.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert numbers_of(sample_video(Path(name)))[0] == 0


def test_damaged_clips_never_end_in_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = tmp_path / "a"
    for name in ("h264.mp4", "vp9.webm", "hevc.mov"):
        source = (MEDIA / name).read_bytes()
        for _ in range(12):
            content = bytearray(source)
            for place in rng.integers(8, len(content), size=rng.integers(1, 40)):
                content[place] = rng.integers(0, 256)
            path.write_bytes(content[: rng.integers(len(content) // 2, len(content) + 1)])
            try:
                clip = sample_video(path, max_frames=16)
            except MediaError:
                continue
            assert clip.frames
            assert len(clip.frames) == len(clip.times_s)
