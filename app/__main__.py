"""Starts Fireside: `python -m app [--model DIR]`.

Imports nothing of the program before Ctrl+C can end it without a word: it takes seconds.
"""

import os
import signal
import sys
from types import FrameType

# What a shell expects of a program that Ctrl+C ended.
_INTERRUPTED = 130


def leave_at_once(number: int, frame: FrameType | None) -> None:
    """End the process. There is nothing to put away yet."""
    os._exit(_INTERRUPTED)


def main() -> int:
    """Import the program, run it, and return the exit status."""
    signal.signal(signal.SIGINT, leave_at_once)
    from app.program import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
