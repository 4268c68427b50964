"""The tour through the real window; the engine is scripted, so that both verdicts can be had."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from app.composition import Composition
from app.resources import SAMPLES_DIR
from app.terminal.narrator import Narrator
from app.terminal.tour import Tour
from app.terminal.tour_steps import TOUR, TourStep, is_right
from mlx_model.events import Event, TextDelta
from mlx_model.messages import ImagePart, ReplyRequest
from tests.app.scripted_engine import Script, ScriptedEngine, finished

MakeComposition = Callable[[Script], tuple[Composition, ScriptedEngine]]
STEPS = (
    TourStep("picture", "What is it?", ("red circle",), SAMPLES_DIR / "shapes.png"),
    TourStep("earlier", "And before?", ("blue",)),
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A red circle, a blue square.", True),
        ("a RED circle\nand a Blue square", True),
        ("A blue square, a red circle.", False),
        ("A red circle.", False),
        ("A bored circle, a blue square.", False),
        ("", False),
    ],
)
def test_an_answer_has_all_expected_words_in_order(answer: str, right: bool) -> None:
    assert is_right(answer, ("red circle", "blue square")) is right


def test_the_tour_shows_a_picture_a_clip_and_an_earlier_turn() -> None:
    files = [step.file.suffix for step in TOUR if step.file is not None]
    assert files == [".png", ".mp4"]
    assert all(step.file.is_file() for step in TOUR if step.file is not None)
    assert TOUR[-1].file is None
    assert all(step.expected for step in TOUR)


@pytest.mark.parametrize("last_answer", ["It was blue.", "No idea."])
def test_the_tour_plays_and_judges(
    make_composition: MakeComposition, qtbot: QtBot, tmp_path: Path, last_answer: str
) -> None:
    answers = iter(["A red circle.", last_answer])

    def script(request: ReplyRequest, cancel: threading.Event) -> Iterator[Event]:
        yield TextDelta(next(answers))
        yield finished()

    composition, engine = make_composition(script)
    output = io.StringIO()
    narrator = Narrator(composition.controller, composition.session, output)
    old = tmp_path / "09-old.png"
    old.write_bytes(b"")
    tour = Tour(
        composition.window,
        composition.session,
        composition.controller,
        composition.themes,
        narrator,
        STEPS,
        tmp_path,
    )
    with qtbot.waitSignal(tour.ended, timeout=30_000) as ended:
        tour.start()
    assert ended.args == [last_answer == "It was blue."]
    assert engine.requests[0].messages[0].content[0] == ImagePart(SAMPLES_DIR / "shapes.png")
    assert "> [shapes.png] What is it?\nA red circle." in output.getvalue()
    assert ("Wrong: expected blue" in output.getvalue()) is (last_answer == "No idea.")
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == [
        "01-first.png",
        "02-picture-draft.png",
        "03-picture.png",
        "04-earlier.png",
        "05-dark.png",
        "06-dark-narrow.png",
        "07-narrow.png",
    ]
    assert QImage(str(tmp_path / "05-dark.png")).width() == 1180
    assert QImage(str(tmp_path / "07-narrow.png")).width() == 480
