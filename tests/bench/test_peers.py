"""The benchmark against other programs counts what is computed, and nothing else."""

import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.bench.peers.contestants import OURS, PEERS_PYTHON
from tools.bench.peers.conversation import picture, user
from tools.bench.peers.plot import CAPTION, line_plot
from tools.bench.peers.served import WorkLog
from tools.bench.peers.talking import Talker, parse_work
from tools.real.synthetic import DEMO_MODEL


class Recursive:
    """Calls itself as often as it is told."""

    def __call__(self, tokens: int, deeper: int = 0) -> int:
        return self(tokens, deeper - 1) if deeper else tokens


def test_a_call_inside_a_call_is_the_same_work(tmp_path: Path) -> None:
    log = WorkLog(tmp_path / "work.log")
    model = type("Model", (Recursive,), {"__call__": Recursive.__call__})
    log.watch(model, lambda _model, tokens, _deeper=0: f"forward -1 {tokens}")
    assert model()(7, 2) == 7
    thread = threading.Thread(target=model(), args=(5,))
    thread.start()
    thread.join()
    assert (tmp_path / "work.log").read_text() == "forward -1 7\nforward -1 5\n"


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        # Where positions are known, whatever lies in the prompt: also when a row is read twice.
        (["forward 0 64", "forward 64 36", "forward 100 1", "forward 101 1"], 100),
        (["forward 90 16", "forward 100 1"], 10),
        (["forward 0 64", "forward 0 64", "forward 64 36"], 164),
        # A window of drafts reaches beyond the prompt.
        (["forward 96 4", "forward 100 4"], 4),
        # Where they are not, all but the passes that made the second and third token.
        (["forward -1 99", "forward -1 1", "forward -1 1", "forward -1 1"], 100),
    ],
)
def test_positions_of_the_prompt_are_counted(lines: list[str], read: int) -> None:
    assert parse_work(lines).read_again(prompt_tokens=100, generated_tokens=3) == read


def test_patches_are_counted() -> None:
    assert parse_work(["patches 48", "forward 0 9", "patches 12"]).patches == 60


def test_a_first_answer_reads_and_encodes_everything_once(tmp_path: Path) -> None:
    with Talker(OURS, DEMO_MODEL, PEERS_PYTHON) as talker:
        talker.warm_up()  # the self-check of a model that is new here also looks and reads
        turn = talker.ask([user("Is there a red circle?", picture(tmp_path, 1))], 4)
    assert turn.text
    template = 8  # tokens that the warm-up's prompt may have in common with this one
    assert turn.prompt_tokens - template <= turn.read_again <= turn.prompt_tokens
    assert turn.patches == 48  # 640 x 480 within this checkpoint's 16,384 pixels: 128 x 96
    assert 0 < turn.first_word_s <= turn.whole_s


def test_the_plot_is_an_svg_with_a_line_for_each_contestant() -> None:
    plot = ElementTree.fromstring(line_plot("Time", {"a": [1.0, 2.5, 3.0], "b": [0.1, 0.1, 0.1]}))
    lines = [node for node in plot.iter() if node.tag.endswith("polyline")]
    heights = [
        [float(point.split(",")[1]) for point in line.attrib["points"].split()] for line in lines
    ]
    assert heights[0] == sorted(heights[0], reverse=True)
    assert len(set(heights[1])) == 1
    assert CAPTION in "".join(plot.itertext())
