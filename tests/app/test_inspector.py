"""Attached files are looked at in the background, by the real decoders and the real processor."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from app.inference.attachment_reader import inspect_file
from app.inference.inspection import FileStamp, Inspection, stamp_of
from app.inference.inspector import Inspector, LazyProcessor
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from mlx_model.frame_readers import AnimationReader
from mlx_model.looking import read_media
from mlx_model.media import load_image, sample_video
from mlx_model.messages import Message, ReplySettings, VideoPart
from mlx_model.processor import load_processor

PICTURE = SAMPLES_DIR / "shapes.png"
CLIP = SAMPLES_DIR / "clip.mp4"


@pytest.fixture
def inspector(qapp: object, tmp_path: Path) -> object:
    inspector = Inspector(DEMO_MODEL_DIR, tmp_path / "pasted")
    yield inspector
    assert inspector.close(10_000)


def inspected(path: Path, with_model: bool = True) -> Inspection:
    processor = LazyProcessor(DEMO_MODEL_DIR).get if with_model else lambda: None
    return inspect_file(path, path.name, processor, ReplySettings(), threading.Event())


def test_a_picture_costs_what_the_model_will_read() -> None:
    found = inspected(PICTURE)
    attachment = found.attachment
    _, grid = load_processor(DEMO_MODEL_DIR).images([load_image(PICTURE)])
    assert attachment.kind == "image"
    assert (attachment.width, attachment.height) == (640, 400)
    assert attachment.token_count == grid.prod() // 4
    assert attachment.problem is None
    assert found.thumbnail is not None
    assert (found.thumbnail.width(), found.thumbnail.height()) == (640, 400)
    assert found.thumbnail.pixelColor(140, 170).red() > 150, "the red circle is where it was"
    state = PICTURE.stat()
    assert found.stamp == FileStamp(state.st_size, state.st_mtime_ns, state.st_ino, state.st_dev)


def test_a_clip_tells_the_frames_that_will_be_looked_at() -> None:
    found = inspected(CLIP)
    attachment = found.attachment
    sampled = sample_video(CLIP)
    assert attachment.kind == "video"
    assert attachment.duration_s == pytest.approx(4.0)
    assert attachment.frame_count == len(sampled.frames)
    _, grid, _ = load_processor(DEMO_MODEL_DIR).video(sampled.frames, sampled.times_s)
    assert attachment.token_count == grid.prod() // 4
    assert 2 <= len(found.filmstrip) <= 10
    greens = [_centre_of_green(image) for image in found.filmstrip]
    assert greens == sorted(greens), "the circle moves to the right, and the strip is in order"


def test_a_long_clip_shows_no_more_frames_than_the_engine_takes(tmp_path: Path) -> None:
    clip = tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    for shade in range(200):
        writer.write(np.full((64, 96, 3), shade, np.uint8))
    writer.release()
    attachment = inspected(clip).attachment
    media = read_media(
        load_processor(DEMO_MODEL_DIR),
        [Message("user", (VideoPart(clip),))],
        ReplySettings(),
        threading.Event(),
    )
    assert media is not None
    grid = media.video_grids[0][0]
    assert attachment.frame_count == 2 * grid[0]
    assert attachment.token_count == grid.prod() // 4


def _centre_of_green(image: QImage) -> float:
    middle = image.height() // 2
    columns = [
        x
        for x in range(image.width())
        if image.pixelColor(x, middle).green() > image.pixelColor(x, middle).red() + 60
    ]
    return sum(columns) / len(columns)


def test_without_a_model_a_picture_has_no_cost_yet() -> None:
    attachment = inspected(PICTURE, with_model=False).attachment
    assert attachment.token_count is None
    assert attachment.problem is None


def test_a_large_picture_makes_a_small_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (4000, 3000), "navy").save(path)
    thumbnail = inspected(path).thumbnail
    assert thumbnail is not None
    assert max(thumbnail.width(), thumbnail.height()) <= 960


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("no picture at all")


def _truncated(path: Path) -> None:
    path.write_bytes(PICTURE.read_bytes()[:2000])


def _truncated_clip(path: Path) -> None:
    path.write_bytes(CLIP.read_bytes()[:3000])


def _missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("spoil", [_empty, _text, _truncated, _truncated_clip, _missing])
@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_a_file_that_cannot_be_read_gets_a_sentence(
    tmp_path: Path, spoil: object, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"file{suffix}"
    assert callable(spoil)
    spoil(path)
    found = inspected(path)
    problem = found.attachment.problem
    assert problem is not None
    assert path.name in problem
    assert problem.endswith(".")
    assert found.thumbnail is None
    assert not caplog.records, "an unreadable file is not an error of the program"


def test_a_clip_with_the_name_of_a_picture_is_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "holiday.png"
    path.write_bytes(CLIP.read_bytes())
    assert inspected(path).attachment.kind == "video"


def test_the_finding_arrives_in_the_window(inspector: Inspector, qtbot: QtBot) -> None:
    with qtbot.waitSignal(inspector.inspected, timeout=10_000) as told:
        inspector.inspect(PICTURE)
    path, found = told.args
    assert path == PICTURE
    assert found.attachment.token_count == 15
    with qtbot.waitSignal(inspector.looked_again) as told:
        number = inspector.look_again([PICTURE])
    assert told.args == [number, {PICTURE: found.stamp}]


def test_ten_files_at_once(inspector: Inspector, qtbot: QtBot, tmp_path: Path) -> None:
    paths = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64 + number, 64), "white").save(path)
        paths.append(path)
    widths: dict[Path, int] = {}
    inspector.inspected.connect(lambda path, found: widths.update({path: found.attachment.width}))
    for path in paths:
        inspector.inspect(path)
    qtbot.waitUntil(lambda: len(widths) == 10, timeout=20_000)
    assert [widths[path] for path in paths] == list(range(64, 74))


def test_a_removed_file_is_never_heard_of_again(
    inspector: Inspector, qtbot: QtBot, tmp_path: Path
) -> None:
    heard: list[Path] = []
    inspector.inspected.connect(lambda path, found: heard.append(path))
    inspector.inspect(CLIP)
    inspector.inspect(PICTURE)
    inspector.forget([CLIP])
    qtbot.waitUntil(lambda: PICTURE in heard, timeout=10_000)
    qtbot.wait(100)
    assert heard == [PICTURE]


def test_a_removed_clip_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cancel, steps = tmp_path / "a.gif", threading.Event(), list[int]()
    first, *others = (Image.new("RGB", (40, 40), (number, 0, 0)) for number in range(20))
    first.save(path, save_all=True, append_images=others)
    grab = AnimationReader.grab

    def third(self: AnimationReader) -> float | None:
        steps.append(1)
        if len(steps) == 3:
            cancel.set()
        return grab(self)

    monkeypatch.setattr(AnimationReader, "grab", third)
    inspect_file(path, path.name, lambda: None, ReplySettings(), cancel)
    assert len(steps) == 3


def test_a_finding_that_is_outdated_on_its_way_is_dropped(
    inspector: Inspector, qtbot: QtBot, tmp_path: Path
) -> None:
    widths: list[int] = []
    inspector.inspected.connect(lambda path, found: widths.append(found.attachment.width))
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    inspector.inspect(path)
    time.sleep(1)  # found, and waiting for the event loop, which does not run
    Image.new("RGB", (96, 96)).save(path)
    inspector.inspect(path)
    qtbot.waitUntil(lambda: bool(widths), timeout=10_000)
    qtbot.wait(100)
    assert widths == [96]


def test_a_file_changed_since_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    before = stamp_of(path)
    Image.new("RGB", (65, 64), "white").save(path)
    assert stamp_of(path) != before
    path.unlink()
    assert stamp_of(path) is None


def test_closing_does_not_wait_for_the_whole_queue(qapp: object, tmp_path: Path) -> None:
    inspector = Inspector(DEMO_MODEL_DIR, tmp_path)
    for _ in range(3):
        inspector.inspect(CLIP)
        inspector.inspect(PICTURE)
    assert inspector.close(10_000)


def test_a_pasted_picture_becomes_a_file_once(
    inspector: Inspector, qtbot: QtBot, tmp_path: Path
) -> None:
    image = QImage(64, 48, QImage.Format.Format_RGB32)
    image.fill(0xFFAA0000)
    kept = []
    for _ in range(2):
        with qtbot.waitSignal(inspector.pasted_kept, timeout=10_000) as told:
            inspector.keep_pasted(image)
        kept.append(told.args[0])
    assert kept[0] == kept[1]
    assert [path.name for path in (tmp_path / "pasted").iterdir()] == [kept[0].name]
    with qtbot.waitSignal(inspector.inspected, timeout=10_000) as told:
        inspector.inspect(kept[0])
    attachment = told.args[1].attachment
    assert attachment.name == "Pasted picture"
    assert (attachment.width, attachment.height) == (64, 48)


def test_a_paste_that_cannot_be_kept_is_told(
    qapp: object, qtbot: QtBot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "pasted"
    in_the_way.write_text("a file where the folder should be")
    inspector = Inspector(DEMO_MODEL_DIR, in_the_way)
    with qtbot.waitSignal(inspector.pasting_failed, timeout=10_000) as told:
        inspector.keep_pasted(QImage(8, 8, QImage.Format.Format_RGB32))
    assert "disk" in told.args[0]
    assert "could not be kept" in caplog.text
    assert inspector.close(10_000)
