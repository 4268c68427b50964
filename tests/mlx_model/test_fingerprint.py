"""Fingerprints tell apart what has to be checked again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_model.fingerprint import checkpoint_identity, files_stamp, program_version

DEMO = Path(__file__).parents[2] / "assets" / "demo_model"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "model"))


def change_last_weight(model: Path) -> None:
    file = model / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)


def change_template(model: Path) -> None:
    file = model / "chat_template.jinja"
    file.write_text(file.read_text().replace("assistant", "butler", 1))


def change_config(model: Path) -> None:
    file = model / "config.json"
    file.write_text(file.read_text().replace("4096", "2048"))


def test_a_copy_is_the_same_checkpoint_in_other_files(model: Path) -> None:
    assert checkpoint_identity(model) == checkpoint_identity(DEMO)
    os.utime(model / "model.safetensors", (1, 1))
    assert files_stamp(model) != files_stamp(DEMO)
    assert checkpoint_identity(model) == checkpoint_identity(DEMO)
    assert files_stamp(model) == files_stamp(model)


@pytest.mark.parametrize("change", [change_last_weight, change_template, change_config])
def test_another_checkpoint_is_another(model: Path, change: Callable[[Path], None]) -> None:
    change(model)
    assert checkpoint_identity(model) != checkpoint_identity(DEMO)


def test_a_readme_is_not_part_of_it(model: Path) -> None:
    before = checkpoint_identity(model), files_stamp(model)
    (model / "README.md").write_text("hello")
    assert (checkpoint_identity(model), files_stamp(model)) == before


def test_a_link_counts_as_the_file_it_leads_to(model: Path, tmp_path: Path) -> None:
    file = model / "model.safetensors"
    before = files_stamp(model)
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "blob")
    assert files_stamp(model) == before


def test_the_program_has_one_version() -> None:
    assert program_version() == program_version() != ""
