"""The tests' side of the process that reads damaged files."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
# By the clock of a busy machine; between two answers may lie the start of Python, too.
MOST_SILENT_SECONDS = 60.0


class ReadingProcess:
    """The process that reads dangerous files, replaced by a new one whenever it dies.

    A file that ended the process has the outcome "died ...".
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def damaged(self, format_name: str, first: int, stop: int) -> Iterator[dict[str, Any]]:
        """One answer for each damaged file of a format."""
        number = first
        while number < stop:
            self._ask(f"damaged {format_name} {number} {stop}\n")
            while number < stop:
                answer = self._answer(number)
                yield answer
                number += 1
                if answer["outcome"].startswith("died"):
                    break

    def read(self, kind: str, path: Path) -> dict[str, Any]:
        """The answer for one file, read as a picture or a clip."""
        self._ask(f"{kind} {path}\n")
        return self._answer(0)

    def kill(self) -> None:
        """Do what a decoder might do."""
        assert self._process
        self._process.kill()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def _ask(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.reading_process"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._answers = queue.Queue()
            listener = threading.Thread(
                target=_listen, args=(self._process.stdout, self._answers), daemon=True
            )
            listener.start()
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answer(self, number: int) -> dict[str, Any]:
        """What was read, or how the process ended."""
        try:
            line = self._answers.get(timeout=MOST_SILENT_SECONDS)
            end = "died"
        except queue.Empty:
            line, end = None, f"died: silent for {MOST_SILENT_SECONDS:.0f} s"
        if line is not None:
            answer: dict[str, Any] = json.loads(line)
            return answer
        assert self._process
        end += f" with exit status {self._process.wait()}" if end == "died" else ""
        self.close()
        return {"number": number, "outcome": end, "sentence": "", "seconds": 0, "peak_bytes": 0}


def _listen(stream: IO[str], answers: "queue.Queue[str | None]") -> None:
    for line in stream:
        answers.put(line)
    answers.put(None)
