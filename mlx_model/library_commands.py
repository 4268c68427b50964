"""The commands that deal with the model library: what there is, getting it, deleting it."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mlx_model.byte_sizes import size_text
from mlx_model.errors import FiresideError
from mlx_model.progress_line import ProgressLine

if TYPE_CHECKING:
    from mlx_model.library.catalogue import CatalogueModel
    from mlx_model.library.download_events import DownloadProgress
    from mlx_model.library.found import FoundModel

_TOKENS = {"4k": 4096, "32k": 32768, "262k": 262144}
_PLACES = {"hub": "Hugging Face cache", "own": "Fireside", "lm_studio": "LM Studio"}

_DOWNLOAD_HELP = """\
The published weights are downloaded into the Hugging Face cache and converted to 4 bits. Ctrl-C
keeps what has arrived, and the same command goes on from there. HF_TOKEN, HF_ENDPOINT, HF_HOME and
the usual proxy variables are honoured.
"""


def add_models(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that lists the four sizes and what is on this machine."""
    models = commands.add_parser("models", help="list the models there are, here and on the hub")
    models.add_argument(
        "folders", nargs="*", type=Path, metavar="DIR", help="other folders that hold a model"
    )
    models.set_defaults(run=_models)


def add_download(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that gets a model."""
    download = commands.add_parser(
        "download",
        help="get a model and make it ready for use",
        description="Downloads a Qwen3.5 model and makes it ready for use.",
        epilog=_DOWNLOAD_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    download.add_argument("size", help="0.8B, 2B, 4B or 9B")
    download.add_argument(
        "--ready",
        action="store_true",
        help="take a conversion of somebody else's: less to download, less disk, less certain",
    )
    download.add_argument(
        "--delete-original",
        action="store_true",
        help="delete the published weights once they are converted",
    )
    download.set_defaults(run=_download)


def add_delete(commands: "argparse._SubParsersAction[Any]") -> None:
    """The command that deletes a downloaded or converted model."""
    delete = commands.add_parser("delete", help="delete a model that was downloaded or converted")
    delete.add_argument("name", help="as `models` shows it")
    delete.set_defaults(run=_delete)


def _models(options: argparse.Namespace) -> int:
    from mlx_model.library.catalogue import CATALOGUE
    from mlx_model.library.fit import check_fit
    from mlx_model.library.found import find_models
    from mlx_model.limits import MachineLimits

    working_set_bytes = MachineLimits.detect().working_set_bytes
    for model in CATALOGUE:
        print(f"{model.name}: {model.good_at}")
        print(f"  {_described(model)}")
        fit = check_fit(model.memory, working_set_bytes)
        if fit.verdict != "fits":
            print(f"  {fit.sentence}")
    here = [found for found in find_models(folders=options.folders) if _is_shown(found)]
    print("On this machine:" if here else "None of them is on this machine yet.")
    for found in here:
        print(f"  {_found_line(found)}")
    return 0


def _is_shown(model: "FoundModel") -> bool:
    """Other families only where somebody asks for that very folder."""
    return model.is_ours or model.source == "folder"


def _described(model: "CatalogueModel") -> str:
    from mlx_model.library.fit import in_gb

    memory = ", ".join(
        f"{in_gb(model.memory.total_bytes(tokens))} at {name}" for name, tokens in _TOKENS.items()
    )
    raw, ready, converted = (
        size_text(weights.size_bytes) for weights in (model.raw, model.ready, model.converted)
    )
    return (
        f"download {raw}, or {ready} ready; {converted} on disk, "
        f"{model.converted.bits_a_weight:.1f} bits a weight; memory {memory} tokens"
    )


def _found_line(model: "FoundModel") -> str:
    place = _PLACES.get(model.source, "folder")
    bits = "" if model.bits is None else f", {model.bits:.1f} bits a weight"
    line = f"{model.name} ({place}, {size_text(model.size_bytes)}{bits}): {model.folder}"
    return line if model.problem is None else f"{line}\n    {model.problem}"


def _download(options: argparse.Namespace) -> int:
    from mlx_model.library.access_token import find_access_token
    from mlx_model.library.catalogue import catalogue_model
    from mlx_model.library.download_events import (
        DownloadFinished,
        DownloadProgress,
        DownloadTrouble,
    )
    from mlx_model.library.hub import Hub
    from mlx_model.library.model_download import get_model

    model = catalogue_model(options.size)
    hub = Hub(token=find_access_token())
    line = ProgressLine(sys.stderr)
    folder = None
    with _stop_on_interrupt() as stop:
        try:
            for event in get_model(model, hub, stop, options.ready):
                match event:
                    case DownloadProgress():
                        line.say(_progress_text(event))
                    case DownloadTrouble(text, wait_s):
                        line.clear()
                        again = f" Next try in {wait_s:.0f} s." if wait_s >= 1 else ""
                        print(text + again, file=sys.stderr)
                    case DownloadFinished():
                        folder = event.folder
        finally:
            line.clear()
    if folder is None:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        raise KeyboardInterrupt
    print(f"{model.name} is ready: {folder}")
    if options.delete_original and not options.ready:
        freed = _delete_all(model.raw_repository)
        if freed is not None:
            print(f"The published weights are deleted, which frees {size_text(freed)}.")
    return 0


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second one is as usual."""
    stop = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _progress_text(progress: "DownloadProgress") -> str:
    words = [progress.stage.capitalize()]
    if progress.total_bytes:
        done, total = progress.done_bytes, progress.total_bytes
        words = [f"{words[0]}, {size_text(done)} of {size_text(total)}"]
    if progress.bytes_per_s and progress.stage == "downloading":
        words.append(f"{size_text(int(progress.bytes_per_s))}/s")
    if progress.seconds_left is not None and progress.stage != "checking":
        words.append(f"{_time_text(progress.seconds_left)} left")
    return " · ".join(words)


def _time_text(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _delete(options: argparse.Namespace) -> int:
    freed = _delete_all(options.name)
    if freed is None:
        raise FiresideError(
            f"There is no {options.name} on this machine. "
            "`python -m mlx_model models` lists what there is."
        )
    print(f"{options.name} is deleted, which frees {size_text(freed)}.")
    return 0


def _delete_all(name: str) -> int | None:
    """Delete the models of that name that are for us to delete; the bytes freed, None without any.

    RemovalError if only others have one.
    """
    from mlx_model.library.found import find_models
    from mlx_model.library.removal import delete_model

    found = [model for model in find_models() if model.name == name]
    ours = [model for model in found if model.may_be_deleted] or found
    return sum(delete_model(model) for model in ours) if ours else None
