"""The demo model made talkative: the real engine, which never gets to say a control token.

The demo model says a sentence and stops; whatever is measured over a long reply needs one. As a
program, `python -m tools.bench.long_reply DIR SECONDS` lets it talk for a while and prints nothing:
the same work for the machine as in the window, but in a process of its own.
"""

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_model import Engine, Message, ReplyRequest

if TYPE_CHECKING:
    from app.inference.worker import OnOpening, OpenJob

QUESTION = "Describe everything that you can think of."


def open_talkative(job: "OpenJob", _on_progress: "OnOpening") -> Engine:
    """Opens a model for the window; its replies are plain text up to the limit of tokens."""
    return load_talkative(job.folder, job.cancel)


def load_talkative(folder: Path, cancel: threading.Event | None = None) -> Engine:
    """The same without a window."""
    engine = Engine.load(folder, cancel=cancel)
    engine.processor.vocab_size_used = min(engine.processor.stop_token_ids)
    return engine


def talk(folder: Path, seconds: float) -> None:
    """Reply to nobody until the time is over."""
    engine = load_talkative(folder)
    cancel = threading.Event()
    end = time.monotonic() + seconds
    while not cancel.is_set():
        for _ in engine.reply(ReplyRequest((Message.text("user", QUESTION),)), cancel):
            if time.monotonic() > end:
                cancel.set()


if __name__ == "__main__":
    talk(Path(sys.argv[1]), float(sys.argv[2]))
