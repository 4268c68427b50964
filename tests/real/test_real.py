"""`make real` from the hub to the answers, against a hub on 127.0.0.1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server.faults import Fault
from tests.hub_server.repository import Repository
from tests.hub_server.server import HubServer
from tests.real.stand_in import write_python
from tests.real.unpacked_demo import write_unpacked_demo
from tools.real.synthetic import TINY, WEIGHTS_NAME, write_converted, write_published

ROOT = Path(__file__).resolve().parents[2]
NAME = "Qwen/Qwen3.5-0.8B"


def run_real(
    hub: HubServer, home: Path, *arguments: str, module: str = "tools.real"
) -> "subprocess.CompletedProcess[str]":
    """The program with everything of the person's in `home`, and no way to any other hub."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "huggingface"),
        "FIRESIDE_MODELS": str(home / "models"),
        "FIRESIDE_CACHE": str(home / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_the_hub_to_right_answers(tmp_path: Path) -> None:
    """The demo model in the place of the real one: same files, same way, known answers."""
    write_unpacked_demo(tmp_path / "published")
    with HubServer({NAME: Repository.of_folder(tmp_path / "published")}) as hub:
        hub.faults.add(Fault("drop", name=WEIGHTS_NAME, after_bytes=1_000_000))
        first = run_real(hub, tmp_path)
        again = run_real(hub, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    for words in (
        "Download: 25.3 MB in",
        "Conversion:",
        " MB resident at most",
        "Self-check: passed",
        "A red circle, a blue square and a yellow triangle.",
        "moves to the right",
        "I am the demo model",
        "Everything went as it should.",
    ):
        assert words in first.stdout
    assert again.returncode == 0
    assert "Download and conversion: were here already" in again.stdout
    assert "yellow triangle" in again.stdout


def test_a_model_that_was_converted_wrongly_is_not_asked_anything(tmp_path: Path) -> None:
    write_unpacked_demo(tmp_path / "published", norms_off_by=-1.0)
    with HubServer({NAME: Repository.of_folder(tmp_path / "published")}) as hub:
        done = run_real(hub, tmp_path)
    assert done.returncode == 2
    assert "failed its self-check: it finds plain sentences unlikely" in done.stderr
    assert "picture:" not in done.stdout


def test_everything_but_the_meaning_works_with_random_weights(tmp_path: Path) -> None:
    write_published(tmp_path / "published", TINY)
    with HubServer({NAME: Repository.of_folder(tmp_path / "published")}) as hub:
        done = run_real(hub, tmp_path, "--random-weights", "--max-tokens", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Self-check: refused, as random weights must be" in done.stdout
    for name in ("picture", "clip", "text"):
        assert f"\n{name}: " in done.stdout
    assert done.stdout.count("wrote 4 tokens") + done.stdout.count("wrote 0 tokens") == 3


def test_a_reference_is_given_the_same_inputs_and_held_against(tmp_path: Path) -> None:
    write_published(tmp_path / "published", TINY)
    options = ("--random-weights", "--max-tokens", "1", "--reference")
    with HubServer({NAME: Repository.of_folder(tmp_path / "published")}) as hub:
        same = run_real(hub, tmp_path, *options, str(write_python(tmp_path / "same")))
        other = run_real(hub, tmp_path, *options, str(write_python(tmp_path / "other", 1.01)))
        none = run_real(hub, tmp_path, *options, sys.executable)
    assert same.returncode == 0, same.stdout + same.stderr
    for case in ("text", "picture"):
        assert f"{case}, published: largest difference 0.0e+00 of the largest" in same.stdout
        assert f"{case}, 4 bits: largest difference " in same.stdout
    assert same.stdout.endswith("Everything went as it should.\n")
    assert other.returncode == none.returncode == 2
    assert "too far from the reference's (text and picture)" in other.stderr
    assert "Everything" not in other.stdout + none.stdout
    assert "tools.real.reference_logits has failed" in none.stderr


def test_a_hub_without_the_model_is_one_sentence(tmp_path: Path) -> None:
    with HubServer({}) as hub:
        done = run_real(hub, tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_real_shapes_from_the_hub_to_answers(tmp_path: Path) -> None:
    """1.7 GB through the hub, the conversion and the model. Takes some minutes."""
    write_published(tmp_path / "published", "0.8B")
    with HubServer({NAME: Repository.of_folder(tmp_path / "published")}) as hub:
        done = run_real(hub, tmp_path, "--random-weights", "--max-tokens", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Download: 1.8 GB in" in done.stdout


@pytest.mark.slow
def test_the_shapes_of_the_9b_at_4_bits_load_and_speak(tmp_path: Path) -> None:
    """6.2 GB on the disk and about 8 GB of memory. Takes some minutes."""
    write_converted(tmp_path / "model", "9B")
    with HubServer({}) as hub:
        options = (str(tmp_path / "model"), "--quick", "--max-tokens", "4")
        done = run_real(hub, tmp_path, *options, module="tools.real.answers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrote 4 tokens" in done.stdout
