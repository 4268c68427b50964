"""What a download tells while it runs: frozen, safe to pass between threads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# listing: asking what there is; waiting: another program downloads the same file; checking: the
# hash of what has arrived; converting: to 4 bits, after the download.
DownloadStage = Literal["listing", "waiting", "downloading", "checking", "converting"]


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a stage has come.

    `done_bytes` and `total_bytes` are of the whole model but for "checking", where they are of
    `file`, and "converting", where they are of the original. `bytes_per_s` is 0 and `seconds_left`
    None as long as nobody knows.
    """

    stage: DownloadStage
    file: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class DownloadTrouble:
    """Something went wrong and will be tried again in `wait_s`; `text` is a sentence to show."""

    text: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class DownloadFinished:
    """The last event of every download that did not raise.

    `folder` holds the whole model; None if the download was stopped, which keeps what has arrived.
    """

    folder: Path | None


DownloadEvent = DownloadProgress | DownloadTrouble | DownloadFinished
