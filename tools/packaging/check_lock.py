"""Asks the package index whether every pinned file exists for each supported machine and Python.

    make check-lock

Nothing is downloaded or installed: uv resolves each lock file for the given platform with wheels
alone and with the lock's own hashes.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.prefix) / "bin" / "uv"
LOCKS = ("requirements.lock", "tools/setup/test-requirements.lock")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# The oldest systems for which wheels of both MLX and PySide6 exist: macOS 14; glibc 2.35 on x86_64
# (Debian 12, Ubuntu 22.04); glibc 2.39 on aarch64 (Debian 13, Ubuntu 24.04).
PLATFORMS = ("aarch64-apple-darwin", "x86_64-manylinux_2_35", "aarch64-manylinux_2_39")
OLDEST_MACOS = "14.0"


def check(lock: str, platform: str, python: str) -> str | None:
    """None if `lock` can be installed there from wheels alone, otherwise uv's reason."""
    command = [str(UV), "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python", sys.executable, "--target", "build/nowhere"]
    command += ["--python-platform", platform, "--python-version", python, "-r", lock]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS},
    )
    return None if answer.returncode == 0 else answer.stderr.strip()


def main() -> int:
    failures = 0
    for platform in PLATFORMS:
        for python in PYTHONS:
            for lock in LOCKS:
                reason = check(lock, platform, python)
                failures += reason is not None
                print(f"{platform:24} Python {python}  {lock}: {reason or 'all wheels exist'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
