"""The whole program with the real engine and the demo model: real drops, real answers.

What a right answer says stands in one table, that of the tour.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.conversation.message import ChatMessage
from app.inference.worker import OnOpening, Opener, OpenJob, ReplyEngine, open_model
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from app.terminal.tour_steps import TOUR, is_right
from mlx_model import Engine
from tools.bench.long_reply import QUESTION, open_talkative

ROOT = Path(__file__).resolve().parents[2]
OpenProgram = Callable[[Opener], Composition]


@pytest.fixture
def open_program(qtbot: QtBot, tmp_path: Path) -> Iterator[OpenProgram]:
    made: list[Composition] = []

    def make(opener: Opener) -> Composition:
        composition = Composition(DEMO_MODEL_DIR, tmp_path / "data", opener)
        qtbot.addWidget(composition.window)
        made.append(composition)
        with qtbot.waitSignal(composition.controller.model_opened, timeout=60_000):
            composition.start()
        return composition

    yield make
    for composition in made:
        assert composition.close(20_000)


def attach(composition: Composition, qtbot: QtBot, *paths: Path) -> None:
    assert drop_files(composition.window, paths)
    qtbot.waitUntil(lambda: not composition.session.inspecting, timeout=60_000)


def open_without_spare_power(job: OpenJob, on_progress: OnOpening) -> ReplyEngine:
    """On a battery that runs low nothing is read ahead."""
    engine = open_model(job, on_progress)
    assert isinstance(engine, Engine)
    engine.has_spare_power = lambda: False
    return engine


def answer_to(composition: Composition, qtbot: QtBot, question: str) -> ChatMessage:
    with qtbot.waitSignal(composition.session.answer_ended, timeout=60_000) as ended:
        ask(composition.window, question)
    message = ended.args[0]
    assert isinstance(message, ChatMessage)
    return message


def test_answers_stream_into_the_window_and_are_right(
    open_program: OpenProgram, qtbot: QtBot
) -> None:
    composition = open_program(open_without_spare_power)
    assert composition.window.header.pill.words == "Demo model · coloured shapes only"
    streamed: list[str] = []
    progress: list[str] = []
    composition.controller.text_arrived.connect(streamed.append)
    composition.controller.progress_changed.connect(
        lambda sentence, share: progress.append(sentence)
    )
    wrong = []
    for step in TOUR:
        streamed.clear()
        if step.file is not None:
            attach(composition, qtbot, step.file)
        answer = answer_to(composition, qtbot, step.question)
        assert answer.problem is None
        assert "".join(streamed) == answer.text
        assert answer.footnote.startswith("read ")
        reply = composition.window.transcript.reply
        assert reply is not None
        assert reply.view.source == answer.text
        if not is_right(answer.text, step.expected):
            wrong.append(f"{step.question} {answer.text}")
    assert any(sentence.startswith("Looking at the picture") for sentence in progress)
    assert any(sentence.startswith("Looking at the clip") for sentence in progress)
    assert not wrong


def figures(message: ChatMessage) -> tuple[int, int]:
    """How many tokens the footnote says were read, and of how many."""
    found = re.match(r"read ([\d,]+) of ([\d,]+) ", message.footnote)
    assert found is not None
    read, total = (int(number.replace(",", "")) for number in found.groups())
    return read, total


def test_a_follow_up_reads_its_own_words_alone(open_program: OpenProgram, qtbot: QtBot) -> None:
    composition = open_program(open_model)
    clip, picture = SAMPLES_DIR / "clip.mp4", SAMPLES_DIR / "shapes.png"
    looked: list[str] = []
    composition.controller.progress_changed.connect(lambda sentence, _: looked.append(sentence))
    with qtbot.waitSignal(composition.controller.draft_read):
        attach(composition, qtbot, picture, clip)
    assert [chip.line.endswith(" · ready") for chip in composition.window.composer.chips.chips]
    with qtbot.waitSignal(composition.controller.draft_read):
        first = answer_to(composition, qtbot, "List the shapes from left to right.")
    assert not any(sentence.startswith("Looking") for sentence in looked), "before Send"
    read, total = figures(first)
    assert read < 24 < 50 < total
    with qtbot.waitSignal(composition.controller.draft_read):
        second = answer_to(composition, qtbot, "Is there a red circle?")
    assert figures(second)[0] < 24
    assert figures(second)[1] > total
    with qtbot.waitSignal(composition.session.answer_ended) as ended:
        composition.session.on_regenerate_requested()
    assert figures(ended.args[0])[0] <= 4
    assert ended.args[0].text == second.text


def test_the_next_start_goes_on_where_this_one_ended(
    open_program: OpenProgram, qtbot: QtBot
) -> None:
    asked = "List the shapes from left to right."
    composition = open_program(open_model)
    attach(composition, qtbot, SAMPLES_DIR / "shapes.png")
    first = answer_to(composition, qtbot, asked)
    assert composition.close(20_000)
    after = open_program(open_without_spare_power)
    attach(after, qtbot, SAMPLES_DIR / "shapes.png")
    again = answer_to(after, qtbot, asked)
    assert again.text == first.text
    assert figures(again)[0] <= 4


def test_stop_answers_soon_and_the_next_question_is_answered(
    open_program: OpenProgram, qtbot: QtBot
) -> None:
    composition = open_program(open_talkative)
    with qtbot.waitSignal(composition.controller.text_arrived, timeout=60_000):
        ask(composition.window, QUESTION)
    qtbot.wait(200)
    began = time.monotonic()
    with qtbot.waitSignal(composition.session.answer_ended, timeout=10_000) as ended:
        qtbot.mouseClick(composition.window.composer.send_button, Qt.MouseButton.LeftButton)
    assert time.monotonic() - began < 2
    assert ended.args[0].stopped
    assert ended.args[0].text
    with qtbot.waitSignal(composition.controller.text_arrived, timeout=60_000):
        ask(composition.window, "Hello")
    composition.window.stop_requested.emit()
    qtbot.waitUntil(lambda: composition.controller.state == "idle", timeout=10_000)


@pytest.mark.parametrize("stage", ["Looking", "Reading"])
def test_stop_before_the_first_word_and_the_next_question_is_answered(
    open_program: OpenProgram, qtbot: QtBot, tmp_path: Path, stage: str
) -> None:
    composition = open_program(open_without_spare_power)
    photo = tmp_path / "photo.jpg"
    Image.effect_noise((3000, 2000), 60).convert("RGB").save(photo)
    attach(composition, qtbot, photo, SAMPLES_DIR / "clip.mp4")
    stopped_at: list[str] = []

    def stop_at_stage(sentence: str, share: float) -> None:
        if sentence.startswith(stage) and not stopped_at:
            stopped_at.append(sentence)
            qtbot.mouseClick(composition.window.composer.send_button, Qt.MouseButton.LeftButton)

    composition.controller.progress_changed.connect(stop_at_stage)
    message = answer_to(composition, qtbot, "List the shapes. " * 150)
    assert stopped_at
    assert message.stopped
    assert message.text == ""
    assert message.problem is None
    assert not composition.window.composer.is_busy
    composition.controller.progress_changed.disconnect(stop_at_stage)
    composition.window.header.new_chat_button.click()
    assert "Ada" in answer_to(composition, qtbot, "My name is Ada.").text


def test_ten_files_at_once_one_of_them_bad(
    open_program: OpenProgram, qtbot: QtBot, tmp_path: Path
) -> None:
    composition = open_program(open_model)
    paths = [SAMPLES_DIR / "clip.mp4", tmp_path / "not a picture.png"]
    paths[1].write_text("words")
    for number in range(8):
        path = tmp_path / f"Bild {number} ü%20#?.png"
        Image.new("RGB", (90 + 7 * number, 120), (200, 20 * number, 40)).save(path)
        paths.append(path)
    attach(composition, qtbot, *paths)
    chips = composition.window.composer.chips.chips
    assert [chip.path for chip in chips] == paths
    assert [chip.path for chip in chips if chip.problem] == [paths[1]]
    qtbot.mouseClick(chips[1].remove_button, Qt.MouseButton.LeftButton)
    answer = answer_to(composition, qtbot, "What do you see?")
    assert answer.problem is None
    assert answer.text
    (turn,) = composition.session.conversation.turns
    assert len(turn.question.attachments) == 9


def test_a_conversation_goes_on_after_a_file_of_it_broke(
    open_program: OpenProgram, qtbot: QtBot, tmp_path: Path
) -> None:
    composition = open_program(open_model)
    path = tmp_path / "square.png"
    Image.new("RGB", (128, 128), "blue").save(path)
    attach(composition, qtbot, path)
    assert answer_to(composition, qtbot, "What do you see?").text
    path.write_bytes(b"")
    broken = answer_to(composition, qtbot, "And now?")
    assert broken.problem is not None
    assert "square.png" in broken.problem
    assert composition.window.composer.draft.toPlainText() == "And now?"
    path.unlink()
    answer = answer_to(composition, qtbot, "And now?")
    assert answer.problem is None
    assert answer.text


def test_without_screen_and_terminal_the_tour_plays_and_is_right(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    for step in TOUR:
        assert step.question in result.stdout
    pictures = sorted((tmp_path / "build" / "tour").glob("*.png"))
    assert len(pictures) == len(TOUR) + sum(step.file is not None for step in TOUR) + 4
    assert result.stderr == ""
    assert result.returncode == 0, result.stdout
