"""Makes .venv hold exactly what the lock files say, and does nothing when it already does.

Runs on a bare Python 3.11 or newer, before any package is there. It owns .venv, build/lock-tools
and the stamps inside them, and must not import anything that has to be installed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN_LOCK = ROOT / "requirements.lock"
TEST_LOCK = ROOT / "tools" / "setup" / "test-requirements.lock"
LOCK_TOOLS_LOCK = ROOT / "tools" / "packaging" / "lock-tools.lock"

# Personal pip settings that would put packages elsewhere than in the environment. Those that name
# an index or a certificate stay: a company network needs them.
MISLEADING_SETTINGS = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")


class Environment:
    """One virtual environment in `folder`, with a stamp for each lock that was fully installed.

    A file named `unfinished` is there while packages go in: an environment that was interrupted is
    made again, because pip cannot tell a half-written package from a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self._unfinished = folder / "unfinished"

    def holds(self, lock: Path) -> bool:
        """Whether `lock`, as it is now, was installed here completely."""
        try:
            return self._stamp(lock).read_text() == fingerprint(lock)
        except OSError:
            return False

    def works(self) -> bool:
        """Whether the environment is whole and its Python starts from this very folder."""
        if self._unfinished.exists():
            return False
        question = "import sys; print(sys.prefix != sys.base_prefix and sys.prefix)"
        try:
            answer = subprocess.run(
                [self.python, "-I", "-c", question], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return False
        return Path(answer.stdout.strip()).resolve() == self.folder.resolve()

    def make(self) -> None:
        """Start over with an empty environment."""
        if self.folder.exists():
            print(
                f"{self.folder.name} is incomplete, broken or out of date: making it again.",
                flush=True,
            )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self._unfinished.touch()
        # Symlinks, as `python -m venv` does: a copied macOS framework Python does not start.
        venv.create(self.folder, with_pip=True, symlinks=True)

    def install(self, lock: Path) -> None:
        """Install every pin of `lock`; raises CalledProcessError after pip has said why."""
        print(
            f"Installing {lock.relative_to(ROOT)} into {self.folder.relative_to(ROOT)}: "
            "a minute or more, depending on the network.",
            flush=True,
        )
        self._unfinished.touch()
        settings = {k: v for k, v in os.environ.items() if k not in MISLEADING_SETTINGS}
        command = [str(self.python), "-m", "pip", "install", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
        command += ["--requirement", str(lock)]
        command += [] if sys.stdout.isatty() else ["--quiet"]
        subprocess.run(command, check=True, env=settings)
        self._stamp(lock).write_text(fingerprint(lock))
        self._unfinished.unlink()

    def _stamp(self, lock: Path) -> Path:
        return self.folder / f"installed-{lock.stem}"


def fingerprint(lock: Path) -> str:
    """What changes when, and only when, the text of `lock` changes."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other run of this script is at work: two terminals may start at once."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "environment.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def provide(environment: Environment, base: Path, extra: Path | None = None) -> None:
    """Make `environment` hold `base`, and `extra` on top of it."""
    if not (environment.works() and environment.holds(base)):
        environment.make()
        environment.install(base)
    if extra is not None and not environment.holds(extra):
        environment.install(extra)


def main(purpose: str) -> int:
    try:
        with one_at_a_time():
            if purpose == "lock":
                provide(Environment(ROOT / "build" / "lock-tools"), LOCK_TOOLS_LOCK)
            else:
                extra = TEST_LOCK if purpose == "test" else None
                provide(Environment(ROOT / ".venv"), RUN_LOCK, extra)
    except subprocess.CalledProcessError:
        print(
            "The packages could not be installed; the lines above say why. "
            "With a network connection, the same command tries again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command starts the installation again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "test", "lock"):
        sys.exit("usage: environment.py run|test|lock")
    sys.exit(main(sys.argv[1]))
