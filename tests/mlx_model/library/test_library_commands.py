"""The commands of the library in a terminal: what they print, and where they put things."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from mlx_model.__main__ import main
from mlx_model.library import access_token
from mlx_model.limits import GIB, MachineLimits
from tests.hub_server.repository import Repository
from tests.hub_server.server import HubServer
from tests.mlx_model.goldens import copy_checkpoint
from tests.mlx_model.library.small_hub import DEMO, REPOSITORY

Command = Callable[..., str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    raw = copy_checkpoint("untied", tmp_path / "raw").folder
    with HubServer({REPOSITORY: Repository.of_folder(raw)}) as running:
        yield running


@pytest.fixture
def command(
    server: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs a command and returns what it prints, errors included."""
    # As they would be read from HF_ENDPOINT and HF_HOME.
    resolve = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(access_token, "find_access_token", lambda: None)
    monkeypatch.setenv("FIRESIDE_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str, status: int = 0) -> str:
        found = main(arguments)
        said = "".join(capsys.readouterr())
        assert found == status, said
        return said

    return run


def test_the_whole_way(command: Command, server: HubServer, tmp_path: Path) -> None:
    assert "None of them is on this machine yet" in command("models")
    said = command("download", "0.8b", "--delete-original")
    assert f"Qwen3.5-0.8B is ready: {tmp_path / 'own' / 'Qwen3.5-0.8B-4bit'}\n" in said
    assert "The published weights are deleted, which frees" in said
    said = command("models", str(DEMO))
    assert "Qwen3.5-0.8B-4bit (Fireside, " in said
    assert "demo_model (folder, " in said
    assert f"{REPOSITORY} (" not in said
    said = command("delete", "Qwen3.5-0.8B-4bit")
    assert said.startswith("Qwen3.5-0.8B-4bit is deleted, which frees ")
    assert "There is no Qwen3.5-0.8B-4bit" in command("delete", "Qwen3.5-0.8B-4bit", status=2)


def test_a_model_is_asked_by_the_name_that_it_is_shown_under(
    command: Command, tmp_path: Path
) -> None:
    shutil.copytree(DEMO, tmp_path / ".lmstudio" / "models" / "somebody" / "shapes")
    assert "somebody/shapes (LM Studio, " in command("models")
    said = command("ask", "--model", "somebody/shapes", "Who are you?")
    assert said.startswith("I am the demo model")
    assert "Nobody/shapes cannot be found" in command(
        "ask", "--model", "Nobody/shapes", "Who?", status=2
    )


def test_deleting_leaves_what_another_program_keeps_under_the_same_name(
    command: Command, tmp_path: Path
) -> None:
    studio = tmp_path / ".lmstudio" / "models" / REPOSITORY
    studio.mkdir(parents=True)
    (studio / "config.json").write_bytes((DEMO / "config.json").read_bytes())
    assert "belongs to another program" in command("delete", REPOSITORY, status=2)
    said = command("download", "0.8B", "--delete-original")
    assert "The published weights are deleted, which frees" in said
    assert (studio / "config.json").exists()
    assert f"{REPOSITORY} (LM Studio" in command("models")


def test_an_original_that_is_gone_already_need_not_be_deleted(command: Command) -> None:
    for _ in range(2):
        said = command("download", "0.8B", "--delete-original")
    assert "is ready" in said
    assert "are deleted" not in said


def test_the_four_sizes_and_their_figures(command: Command) -> None:
    lines = command("models").splitlines()
    assert "Qwen3.5-4B: best for most Macs" in lines
    assert (
        "  download 9.3 GB, or 3.0 GB ready; 3.2 GB on disk, 5.4 bits a weight; "
        "memory 3.0 GB at 4k, 3.9 GB at 32k, 10.9 GB at 262k tokens"
    ) in lines


def test_a_size_that_is_too_large_for_the_machine_says_so(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = MachineLimits.of_memory(16 * GIB, on_gpu=True, recommended_bytes=5 * GIB)
    monkeypatch.setattr(MachineLimits, "detect", lambda: small)
    said = command("models")
    assert said.count("It needs") == 1
    assert (
        "It needs 6.7 GB of memory for a chat of 4,096 tokens, and 5.0 GB may be used here" in said
    )


def test_a_folder_that_is_no_model_says_why(command: Command, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    said = command("models", str(tmp_path / "holiday"))
    assert f"There is no config.json in {tmp_path / 'holiday'}" in said


def test_a_folder_with_models_shows_each(command: Command, tmp_path: Path) -> None:
    assert f": {tmp_path / 'raw'}\n" in command("models", str(tmp_path))


def test_a_size_that_there_is_not(command: Command) -> None:
    assert "Choose one of 4B, 2B, 0.8B, 9B." in command("download", "7B", status=2)


def test_offline_is_offline(
    command: Command, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "switched off by HF_HUB_OFFLINE" in command("download", "0.8B", status=2)
    assert server.requests == []
