"""What `make install` does to .venv: with a real pip, offline, from one tiny wheel made here."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tools.setup import environment
from tools.setup.environment import Environment, provide


@pytest.fixture
def bare(tmp_path: Path) -> Environment:
    """A working environment without pip: quick to make."""
    made = Environment(tmp_path / "bare")
    venv.create(made.folder, with_pip=False, symlinks=True)
    return made


def make_wheel(folder: Path, version: str) -> str:
    """Write a wheel of the package `ember` into `folder`; returns its pin with the hash."""
    files = {
        "ember.py": f'VERSION = "{version}"\n',
        f"ember-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: ember\nVersion: {version}\n"
        ),
        f"ember-{version}.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = f"ember-{version}.dist-info/RECORD"
    wheel = folder / f"ember-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        rows = [
            f"{name},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(text)}"
            for name, text in files.items()
            for digest in [hashlib.sha256(text.encode()).digest()]
        ]
        archive.writestr(record, "\n".join([*rows, f"{record},,"]) + "\n")
    return f"ember=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def ember_version(made: Environment) -> str:
    command = [str(made.python), "-c", "import ember; print(ember.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_whole_environment_works(bare: Environment) -> None:
    assert bare.works()


def test_no_environment_does_not_work(tmp_path: Path) -> None:
    assert not Environment(tmp_path / "nothing").works()


def test_a_python_that_is_gone_is_noticed(bare: Environment) -> None:
    bare.python.unlink()
    bare.python.symlink_to("/nowhere/python3")
    assert not bare.works()


def test_a_python_of_another_environment_is_noticed(bare: Environment, tmp_path: Path) -> None:
    copy = Environment(tmp_path / "copy")
    shutil.copytree(bare.folder, copy.folder, symlinks=True)
    (copy.folder / "pyvenv.cfg").unlink()
    assert not copy.works()


def test_an_interrupted_installation_is_noticed(bare: Environment) -> None:
    (bare.folder / "unfinished").touch()
    assert not bare.works()


def test_a_lock_counts_as_installed_only_as_it_was(bare: Environment, tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("ember==1\n")
    assert not bare.holds(lock)
    (bare.folder / "installed-some").write_text(environment.fingerprint(lock))
    assert bare.holds(lock)
    lock.write_text("ember==2\n")
    assert not bare.holds(lock)


def test_installing_twice_installs_once_and_a_new_lock_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # Somebody's own settings must not send the packages elsewhere.
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    lock = tmp_path / "run.lock"
    lock.write_text(make_wheel(tmp_path, "1.0"))
    made = Environment(tmp_path / ".venv")

    provide(made, lock)
    assert ember_version(made) == "1.0"
    left_by_hand = made.folder / "left-by-hand"
    left_by_hand.touch()
    provide(made, lock)
    assert left_by_hand.exists(), "a second run touched the environment"

    lock.write_text(make_wheel(tmp_path, "2.0"))
    provide(made, lock)
    assert ember_version(made) == "2.0"
    assert not left_by_hand.exists(), "packages of the old lock would have stayed"

    lock.write_text(lock.read_text().replace("ember==2.0", "ember==3.0"))
    with pytest.raises(subprocess.CalledProcessError):
        provide(made, lock)
    assert not made.works(), "a failed installation passes for a whole one"


def test_the_search_passes_over_pythons_that_do_not_run(tmp_path: Path) -> None:
    script = environment.ROOT / "tools" / "setup" / "python.sh"
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    (tmp_path / "python3.13").chmod(0o755)
    (tmp_path / "python3.12").write_text("not executable")
    (tmp_path / "python3.14").symlink_to(sys.executable)
    answer = subprocess.run(
        ["sh", script, "-c", "import sys; print(sys.executable)"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(answer.stdout.strip()).exists()
    assert answer.stderr == ""


def test_without_a_usable_python_one_line_says_what_to_do() -> None:
    answer = subprocess.run(
        ["sh", environment.ROOT / "tools" / "setup" / "python.sh", "-c", "pass"],
        env={**os.environ, "FIRESIDE_PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert "3.11" in line
