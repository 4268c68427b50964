"""What the model really sees of a file stands on its chip, and the person can choose how closely.

The demo model's own limits are too low for a choice to matter, so the processor here takes pictures
of up to 16 megapixels, as those of the published checkpoints do.
"""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.chat import wording
from app.composition import Composition
from app.conversation.message import Attachment
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from mlx_model.events import Event, Notice, Progress, TextDelta
from mlx_model.messages import ReplyRequest
from mlx_model.processor import load_processor
from tests.app.scripted_engine import Script, ScriptedEngine, finished

PICTURE = SAMPLES_DIR / "shapes.png"
MakeComposition = Callable[[Script], tuple[Composition, ScriptedEngine]]
PHOTO = Attachment(
    Path("/p/IMG_1.heic"),
    "image",
    "IMG_1.heic",
    4032,
    3024,
    seen_width=1632,
    seen_height=1248,
    token_count=1989,
)
CLIP = Attachment(
    Path("/p/ride.mov"),
    "video",
    "ride.mov",
    1920,
    1080,
    seen_width=320,
    seen_height=192,
    duration_s=12.8,
    frame_count=16,
    token_count=480,
)


def test_a_picture_that_is_made_smaller_says_so() -> None:
    assert wording.short_facts(PHOTO) == "seen as 1,632 × 1,248 · 1,989 tokens"
    assert wording.facts(PHOTO) == "4,032 × 3,024, seen as 1,632 × 1,248 · 1,989 tokens"
    assert wording.full_facts(PHOTO).split("\n") == [
        "IMG_1.heic",
        "4,032 × 3,024, seen as 1,632 × 1,248",
        "1,989 tokens",
    ]


def test_a_picture_at_its_own_size_is_not_talked_about() -> None:
    own = replace(PHOTO, width=640, height=400, seen_width=640, seen_height=384)
    assert wording.short_facts(own) == "640 × 400 · 1,989 tokens"
    unknown = replace(own, seen_width=0, seen_height=0, token_count=None)
    assert wording.full_facts(unknown).split("\n") == ["IMG_1.heic", "640 × 400"]


def test_a_clip_tells_how_often_and_how_small() -> None:
    assert wording.short_facts(CLIP) == "0:13 · 16 frames · 480 tokens"
    assert wording.full_facts(CLIP).split("\n") == [
        "ride.mov",
        "0:13 · 1,920 × 1,080, frames seen as 320 × 192",
        "16 frames · 480 tokens · one about every 0.8 s",
    ]
    cut = replace(CLIP, remark="ends early")
    assert wording.short_facts(cut) == "0:13 · 16 frames · 480 tokens · ends early"
    assert wording.full_facts(cut).endswith("\nends early")


def answer(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
    yield Notice("The model sees the picture smaller than it is.")
    yield Progress("reading", 1, 1)
    yield TextDelta("A red circle.")
    yield finished()


@pytest.fixture
def large_eyes(qtbot: QtBot, tmp_path: Path) -> Iterator[tuple[Composition, ScriptedEngine]]:
    """The program with a model that sees large pictures; its answers are scripted."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in DEMO_MODEL_DIR.iterdir():
        (folder / path.name).symlink_to(path)
    settings = json.loads((DEMO_MODEL_DIR / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    (folder / "preprocessor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    engine = ScriptedEngine(answer)
    composition = Composition(folder, tmp_path / "data", lambda job, on_progress: engine)
    qtbot.addWidget(composition.window)
    with qtbot.waitSignal(composition.controller.model_opened):
        composition.start()
    yield composition, engine
    assert composition.close(10_000)


def attach(composition: Composition, qtbot: QtBot, *paths: Path) -> None:
    assert drop_files(composition.window, paths)
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=30_000)


def lines(composition: Composition) -> list[str]:
    return [chip.line for chip in composition.window.composer.chips.chips]


def wait_for_lines(composition: Composition, qtbot: QtBot, *wanted: str) -> None:
    qtbot.waitUntil(lambda: lines(composition) == list(wanted))


def choose(composition: Composition, qtbot: QtBot, number: int) -> None:
    pill = composition.window.composer.detail_pill
    qtbot.mouseClick(pill, Qt.MouseButton.LeftButton)
    assert pill.menu.isVisible()
    place = pill.menu.actionGeometry(pill.menu.actions()[number]).center()
    qtbot.mouseClick(pill.menu, Qt.MouseButton.LeftButton, pos=place)


# Of the offscreen platform, about every menu that opens.
@pytest.mark.qt_log_ignore("This plugin does not support")
def test_the_choice_shows_on_the_chips_at_once_and_is_asked_for(
    large_eyes: tuple[Composition, ScriptedEngine], qtbot: QtBot, tmp_path: Path
) -> None:
    composition, engine = large_eyes
    pill = composition.window.composer.detail_pill
    assert pill.isHidden()
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (4000, 3000), "navy").save(photo)
    attach(composition, qtbot, photo, PICTURE)
    processor = load_processor(tmp_path / "model")

    def seen(most: int) -> str:
        width, height = processor.image_size(4000, 3000, most)
        tokens = processor.image_tokens(4000, 3000, most)
        return f"seen as {width:,} × {height:,} · {tokens:,} tokens"

    wait_for_lines(composition, qtbot, f"{seen(2048)} · ready", "640 × 400 · 240 tokens · ready")
    assert pill.isVisible()
    assert pill.accessibleName() == "Detail normal"
    costs = [240 + processor.image_tokens(4000, 3000, most) for most in (2048, 8192, None)]
    assert [action.text() for action in pill.menu.actions()] == [
        f"{name} · {cost:,} tokens"
        for name, cost in zip(("Normal", "High", "Full"), costs, strict=True)
    ]
    choose(composition, qtbot, 1)
    assert pill.accessibleName() == "Detail high"
    wait_for_lines(composition, qtbot, f"{seen(8192)} · ready", "640 × 400 · 240 tokens · ready")
    assert engine.prepared[-1].settings.max_image_tokens == 8192
    with qtbot.waitSignal(composition.session.answer_ended):
        ask(composition.window, "What is this?")
    assert engine.requests[0].settings.max_image_tokens == 8192
    (turn,) = composition.session.conversation.turns
    assert turn.question.attachments[0].token_count == costs[1] - 240
    assert pill.isHidden(), "there is nothing left to choose for"
    attach(composition, qtbot, photo)
    assert pill.accessibleName() == "Detail high", "remembered"
    choose(composition, qtbot, 2)
    with qtbot.waitSignal(composition.session.answer_ended):
        ask(composition.window, "And now?")
    assert engine.requests[1].settings.max_image_tokens > 16_384


def test_the_choice_goes_with_the_last_file_it_matters_for(
    large_eyes: tuple[Composition, ScriptedEngine], qtbot: QtBot, tmp_path: Path
) -> None:
    composition, _ = large_eyes
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (4000, 3000), "navy").save(photo)
    attach(composition, qtbot, photo, PICTURE)
    pill = composition.window.composer.detail_pill
    assert pill.isVisible()
    chip = composition.window.composer.chips.chips[0]
    qtbot.mouseClick(chip.remove_button, Qt.MouseButton.LeftButton)
    assert pill.isHidden()


def test_what_the_chip_said_is_not_said_again_below_the_answer(
    large_eyes: tuple[Composition, ScriptedEngine], qtbot: QtBot
) -> None:
    composition, _ = large_eyes
    attach(composition, qtbot, PICTURE)
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        ask(composition.window, "What is this?")
    assert ended.args[0].problem is None


def test_only_one_frame_of_a_picture_with_several_is_said(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, _ = make_composition(answer)
    pages = tmp_path / "scan.tiff"
    page = Image.new("RGB", (128, 128), "white")
    page.save(pages, save_all=True, append_images=[page.copy(), page.copy()])
    attach(composition, qtbot, pages)
    wait_for_lines(composition, qtbot, "128 × 128 · 16 tokens · first frame only · ready")
    with qtbot.waitSignal(composition.session.answer_ended):
        ask(composition.window, "What is this?")
    caption = composition.window.transcript.messages[0].caption
    assert caption.text() == "scan.tiff · 128 × 128 · 16 tokens · first frame only"


def test_a_clip_that_was_cut_off_tells_what_is_left_of_it(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, _ = make_composition(answer)
    whole = (SAMPLES_DIR / "clip.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    attach(composition, qtbot, cut)
    (line,) = lines(composition)
    assert line.startswith("0:01 · ")
    assert " · ends early" in line


def test_a_header_that_lies_about_the_length_is_not_believed(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path
) -> None:
    composition, _ = make_composition(answer)
    clip = tmp_path / "lies.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for shade in range(30):
        writer.write(np.full((64, 96, 3), 8 * shade, np.uint8))
    writer.release()
    content = bytearray(clip.read_bytes())
    for chunk, frame_count_at in ((b"avih", 16), (b"strh", 32)):
        struct.pack_into("<I", content, content.index(chunk) + 8 + frame_count_at, 3000)
    clip.write_bytes(content)
    attach(composition, qtbot, clip)
    (line,) = lines(composition)
    assert line.removesuffix(" · ready") == "0:03 · 6 frames · 18 tokens · ends early"
