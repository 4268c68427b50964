"""Writes the lock files from pyproject.toml with uv: one set of pins for every supported machine.

    make lock [UPGRADE=--upgrade]

The files carry versions and hashes and no address, so that pip takes the packages from whatever
index it is configured for.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.prefix) / "bin" / "uv"
RUN_LOCK = "requirements.lock"
TEST_LOCK = "tools/setup/test-requirements.lock"
# Lowest supported Python; markers in the lock cover the newer ones.
LOWEST_PYTHON = "3.11"


def compile_lock(output: str, arguments: list[str]) -> None:
    """Resolve for Linux and macOS together and write `output`."""
    command = [
        str(UV),
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        LOWEST_PYTHON,
    ]
    command += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-build", *arguments, "--output-file", output]
    subprocess.run(command, check=True, cwd=ROOT)


def main(arguments: list[str]) -> int:
    compile_lock(RUN_LOCK, ["pyproject.toml", *arguments])
    # What both files hold must be the same version: the tests' packages go into the same .venv.
    compile_lock(TEST_LOCK, ["--group", "dev", "--constraint", RUN_LOCK, *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
