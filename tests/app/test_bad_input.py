"""Files that cannot be sent, dropped on the real window with the real engine behind it.

Whatever is dropped, once while nothing happens and once while a reply streams: one sentence says
why, and the draft, the other attachments and the reply in progress stay as they are.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.chat.attachment_chips import AttachmentChip, AttachmentChips
from app.composition import Composition
from app.draft_files import MOST_FILES
from app.inference.worker import open_model
from app.resources import DEMO_MODEL_DIR, SAMPLES_DIR
from app.terminal.hand import ask, drop_files
from tools.bench.long_reply import QUESTION, open_talkative

PICTURE = SAMPLES_DIR / "shapes.png"
CLIP = SAMPLES_DIR / "clip.mp4"
DRAFT = "Half a question,\nwith a second line"
MEDIA = Path(__file__).resolve().parents[1] / "media"


@dataclass(frozen=True, slots=True)
class Case:
    """A bad file: its name, how it is made, and words that the sentence about it must have."""

    name: str
    make: Callable[[Path], object]
    words: tuple[str, ...]


def jpeg(path: Path) -> bytes:
    Image.effect_noise((320, 240), 80).convert("RGB").save(path, format="JPEG")
    return path.read_bytes()


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def without_frames() -> bytes:
    """The sample clip with its table of samples emptied: a header, a length, and no picture."""
    content = bytearray(CLIP.read_bytes())
    at = content.index(b"stsz")
    content[at + 12 : at + 16] = struct.pack(">I", 0)
    return bytes(content)


SVG_BOMB = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">
<!ENTITY c "&b;&b;&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg"><text>&c;&c;&c;</text></svg>"""

CASES = (
    Case("empty.png", lambda path: path.write_bytes(b""), ("is empty",)),
    Case("empty.mp4", lambda path: path.write_bytes(b""), ("is empty",)),
    Case("cut.jpg", lambda path: path.write_bytes(jpeg(path)[:-4000]), ("damaged or incomplete",)),
    Case(
        "cut.mp4",
        lambda path: path.write_bytes(CLIP.read_bytes()[:600]),
        ("damaged, incomplete",),
    ),
    Case("text.png", lambda path: path.write_text("Dear all,"), ("is not a picture",)),
    Case("huge.png", lambda path: path.write_bytes(png(60_000, 60_000)), ("megapixels", "smaller")),
    Case("bomb.svg", lambda path: path.write_bytes(SVG_BOMB), ("is not a picture",)),
    Case("bomb.png", lambda path: path.write_bytes(SVG_BOMB), ("is not a picture",)),
    Case("lies.png", lambda path: path.write_bytes(png(4_000, 3_000)), ("damaged or incomplete",)),
    Case("no frames.mp4", lambda path: path.write_bytes(without_frames()), ("damaged",)),
    Case(
        "sound only.mp4",
        lambda path: path.write_bytes((MEDIA / "sound.m4a").read_bytes()),
        ("sound only",),
    ),
    Case("nowhere.png", lambda path: None, ("cannot be found",)),
    Case("a folder", lambda path: path.mkdir(), ("is a folder",)),
    Case("pipe.png", os.mkfifo, ("is not an ordinary file",)),
    Case("no end", lambda path: path.symlink_to(path), ("cannot be opened",)),
    Case("😀🎉\nsecond\nline.png", lambda path: path.write_text("x"), ("😀🎉 second line.png",)),
    Case("<b>bold & co.png", lambda path: path.write_text("x"), ("<b>bold & co.png",)),
    Case("n" * 250 + ".png", lambda path: path.write_text("x"), ("n" * 20, "…")),
)


class Person:
    """Somebody at the window: a draft with a good file in it, and perhaps a reply that streams."""

    def __init__(self, composition: Composition, qtbot: QtBot, replying: bool) -> None:
        self.composition = composition
        self.window = composition.window
        self.qtbot = qtbot
        self._replying = replying
        self._streamed: list[str] = []
        composition.controller.text_arrived.connect(self._streamed.append)
        if replying:
            with qtbot.waitSignal(composition.controller.text_arrived, timeout=60_000):
                ask(self.window, QUESTION)
        self.window.set_draft(DRAFT)
        self.drop(PICTURE)

    @property
    def chips(self) -> list[AttachmentChip]:
        return self.window.composer.chips.chips

    def keep_replying(self) -> None:
        """Have the long answer told again when it has ended."""
        reply = self.window.transcript.reply
        if reply is not None and not self.window.composer.is_busy:
            self._streamed.clear()
            with self.qtbot.waitSignal(self.composition.controller.text_arrived, timeout=60_000):
                self.qtbot.mouseClick(reply.again_button, Qt.MouseButton.LeftButton)

    def drop(self, *paths: Path) -> None:
        assert drop_files(self.window, paths)
        self.qtbot.waitUntil(lambda: not self.composition.session.inspecting, timeout=60_000)

    def check_nothing_is_lost(self) -> None:
        """The draft, the good file, and what was said so far."""
        assert self.window.composer.draft.toPlainText() == DRAFT
        assert self.chips[0].path == PICTURE
        assert self.chips[0].line.startswith("seen as 160 × 96 · 15 tokens")
        reply = self.window.transcript.reply
        assert (reply is not None) == self._replying
        if reply is not None:
            assert reply.view.source == "".join(self._streamed)
            assert reply.problem.isHidden()

    def remove_last(self) -> None:
        self.qtbot.mouseClick(self.chips[-1].remove_button, Qt.MouseButton.LeftButton)


@pytest.fixture
def compose(qtbot: QtBot, tmp_path: Path) -> Iterator[Callable[[bool], Composition]]:
    made: list[Composition] = []

    def make(talkative: bool) -> Composition:
        opener = open_talkative if talkative else open_model
        composition = Composition(DEMO_MODEL_DIR, tmp_path / "data", opener)
        qtbot.addWidget(composition.window)
        made.append(composition)
        with qtbot.waitSignal(composition.controller.model_opened, timeout=60_000):
            composition.start()
        return composition

    yield make
    for composition in made:
        assert composition.close(20_000)


def check_sentence(person: Person, case: Case) -> None:
    """The last chip says in words what is wrong, where it can be seen, and on one line a row."""
    chip = person.chips[-1]
    assert "\n" not in chip.accessibleName()
    for words in case.words:
        assert words in chip.problem, case.name
    assert chip.problem.endswith(".")
    # Scroll bars come and go an event later than the chips are placed.
    person.qtbot.waitUntil(lambda: is_in_view(chip, person.window.composer.chips))


def is_in_view(chip: AttachmentChip, area: AttachmentChips) -> bool:
    """Whether a chip can be seen in full, or as much of it as there is room for."""
    shown = chip.visibleRegion().boundingRect()
    room = min(chip.height(), area.viewport().height()) - 1
    return shown.width() == chip.width() and shown.height() >= room


@pytest.mark.parametrize("replying", [False, True], ids=["idle", "replying"])
def test_each_says_why_and_nothing_else_changes(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path, replying: bool
) -> None:
    person = Person(compose(replying), qtbot, replying)
    folder = tmp_path / "files"
    folder.mkdir()
    for case in CASES:
        path = folder / case.name
        case.make(path)
        person.keep_replying()
        person.drop(path)
        assert len(person.chips) == 2, case.name
        check_sentence(person, case)
        person.check_nothing_is_lost()
        person.remove_last()
        assert len(person.chips) == 1, case.name


def send(person: Person) -> None:
    """Press Send and wait until it is settled that nothing goes out."""
    person.window.composer.send_button.click()
    person.qtbot.waitUntil(lambda: not person.composition.session.inspecting, timeout=60_000)
    assert person.composition.session.conversation.turns == ()


def vanished(folder: Path, path: Path) -> None:
    path.unlink()


def replaced_by_text(folder: Path, path: Path) -> None:
    path.unlink()
    path.write_text("no picture any more")


def replaced_by_a_folder(folder: Path, path: Path) -> None:
    path.unlink()
    path.mkdir()


def unmounted(folder: Path, path: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("spoil", [vanished, replaced_by_text, replaced_by_a_folder, unmounted])
def test_what_happens_to_a_file_between_drop_and_send_is_told(
    compose: Callable[[bool], Composition],
    qtbot: QtBot,
    tmp_path: Path,
    spoil: Callable[[Path, Path], None],
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    folder = tmp_path / "volume"
    folder.mkdir()
    path = folder / "second.png"
    path.write_bytes(PICTURE.read_bytes())
    person.drop(path)
    assert not person.chips[-1].problem
    spoil(folder, path)
    send(person)
    assert "second.png" in person.chips[-1].problem
    assert person.window.composer.status.text() == "second.png cannot be sent."
    person.check_nothing_is_lost()
    qtbot.mouseClick(person.window.composer.removal_button, Qt.MouseButton.LeftButton)
    assert [chip.path for chip in person.chips] == [PICTURE]
    assert person.window.composer.status.text() == ""
    with qtbot.waitSignal(person.composition.session.answer_ended, timeout=60_000) as ended:
        qtbot.keyClick(person.window.composer.draft, Qt.Key.Key_Return)
    assert ended.args[0].problem is None
    assert ended.args[0].text


def test_a_volume_that_comes_back_is_read_again(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "second.png").write_bytes(PICTURE.read_bytes())
    person.drop(folder / "second.png")
    unmounted(folder, folder / "second.png")
    send(person)
    folder.with_name("elsewhere").rename(folder)
    with qtbot.waitSignal(person.composition.session.answer_ended, timeout=60_000):
        qtbot.keyClick(person.window.composer.draft, Qt.Key.Key_Return)
    (turn,) = person.composition.session.conversation.turns
    assert [item.name for item in turn.question.attachments] == ["shapes.png", "second.png"]


def test_a_file_that_goes_between_send_and_the_engine_gives_everything_back(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path
) -> None:
    person = Person(compose(True), qtbot, replying=False)
    path = tmp_path / "second.png"
    path.write_bytes(PICTURE.read_bytes())
    person.drop(path)
    person.composition.controller.reply_started.connect(lambda: path.unlink())
    with qtbot.waitSignal(person.composition.session.answer_ended, timeout=60_000) as ended:
        person.window.composer.send_button.click()
    assert ended.args[0].problem == "“second.png” cannot be found. Choose the file again."
    assert person.window.composer.draft.toPlainText() == DRAFT
    assert [chip.path for chip in person.chips] == [PICTURE, path]


@pytest.mark.parametrize("replying", [False, True], ids=["idle", "replying"])
def test_three_hundred_files_at_once(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path, replying: bool
) -> None:
    person = Person(compose(replying), qtbot, replying)
    paths = []
    for number in range(300):
        path = tmp_path / f"IMG_{number:04}.png"
        if number % 10 == 3:
            path.write_text("no picture")
        else:
            Image.new("RGB", (64, 48), (number % 256, 90, 40)).save(path)
        paths.append(path)
    person.drop(*paths)
    assert [chip.path for chip in person.chips] == [PICTURE, *paths[: MOST_FILES - 1]]
    status = person.window.composer.status
    assert status.text() == "One question takes up to 100 files; 201 were left out."
    assert status.isVisible()
    person.check_nothing_is_lost()
    area = person.window.composer.chips
    assert area.height() < 140
    area.ensureWidgetVisible(person.chips[-1])
    assert not person.chips[-1].visibleRegion().isEmpty()
    bad = [chip for chip in person.chips if chip.problem]
    assert [chip.path for chip in bad] == paths[3 : MOST_FILES - 1 : 10]
    if replying:
        return
    send(person)
    assert status.text() == "10 files cannot be sent."
    assert not bad[0].visibleRegion().isEmpty(), "the first of them is shown"
    button = person.window.composer.removal_button
    assert button.text() == "Remove them"
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert len(person.chips) == MOST_FILES - len(bad)
    assert button.isHidden()
    person.check_nothing_is_lost()


def test_no_more_files_than_one_question_takes(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    paths = [tmp_path / f"{number}.png" for number in range(MOST_FILES)]
    for path in paths:
        path.write_text("x")
    person.drop(*paths)
    status = person.window.composer.status.text()
    assert status == "One question takes up to 100 files; 1 was left out."
    person.drop(*paths[:5])
    assert len(person.chips) == MOST_FILES, "files that have a chip are not counted again"


def test_one_file_in_several_spellings_is_one_chip(
    compose: Callable[[bool], Composition], qtbot: QtBot, tmp_path: Path
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    link = tmp_path / "link"
    link.symlink_to(PICTURE.parent, target_is_directory=True)
    person.drop(PICTURE.parent / ".." / PICTURE.parent.name / PICTURE.name, link / PICTURE.name)
    assert [chip.path for chip in person.chips] == [PICTURE]


def test_a_name_with_a_zero_byte_in_it(
    compose: Callable[[bool], Composition], qtbot: QtBot
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    data = QMimeData()
    data.setUrls([QUrl("file:///pictures/a%00b.png")])
    keys, buttons = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    drop = QDropEvent(QPointF(300, 300), Qt.DropAction.CopyAction, data, buttons, keys)
    QApplication.sendEvent(person.window, drop)
    qtbot.waitUntil(lambda: not person.composition.session.inspecting, timeout=10_000)
    person.check_nothing_is_lost()
    for chip in person.chips[1:]:
        assert chip.problem.endswith(".")


def test_a_prompt_that_is_too_long_is_refused_and_kept(
    compose: Callable[[bool], Composition], qtbot: QtBot
) -> None:
    person = Person(compose(False), qtbot, replying=False)
    text = "word " * 199_999 + "end"
    data = QMimeData()
    data.setText(text)
    draft = person.window.composer.draft
    draft.selectAll()
    draft.insertFromMimeData(data)
    with qtbot.waitSignal(person.composition.session.answer_ended, timeout=60_000) as ended:
        qtbot.keyClick(draft, Qt.Key.Key_Return)
    problem = ended.args[0].problem
    assert problem.startswith("The conversation takes ")
    assert "room for 4,096" in problem
    assert draft.toPlainText() == text
    assert [chip.path for chip in person.chips] == [PICTURE]
    reply = person.window.transcript.reply
    assert reply is not None
    assert reply.problem.text() == problem
    assert not reply.problem.visibleRegion().isEmpty()
