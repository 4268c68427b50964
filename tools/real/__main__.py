"""Gets a real model, converts it, asks it about the samples, and prints answers and figures.

    python -m tools.real [--size 0.8B] [--reference PYTHON]

What `make real` runs. The download goes through the program's own library into the Hugging Face
cache, HF_ENDPOINT, HF_TOKEN and proxies honoured; what is there already is not fetched again.
--reference names a Python with torch and transformers, which then compute the same logits from the
same published weights. Exit status 0: everything went as it should.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_model import FiresideError
from mlx_model.byte_sizes import size_text
from mlx_model.library.access_token import find_access_token
from mlx_model.library.catalogue import CATALOGUE, CatalogueModel, catalogue_model
from mlx_model.library.download_events import (
    DownloadEvent,
    DownloadFinished,
    DownloadProgress,
    DownloadTrouble,
)
from mlx_model.library.hub import Hub, download_repository
from mlx_model.library.model_download import get_model
from mlx_model.progress_line import ProgressLine
from tools.real.comparison import compare_logits

_STATUS_USER_ERROR = 2
# 16-bit weights of these fit into most machines' memory as fp32, where a comparison is sharpest.
_FP32_SIZES = ("0.8B", "2B")


@dataclass(slots=True)
class Fetched:
    """How a model came here: its folder, and seconds spent; bytes are 0 if it was here."""

    folder: Path | None = None
    download_s: float = 0.0
    convert_s: float = 0.0
    downloaded_bytes: int = 0


def followed(events: Iterator[DownloadEvent]) -> Fetched:
    """Run a download to its end, with a line that says how far it is."""
    line = ProgressLine(sys.stderr)
    fetched = Fetched()
    stage, since_s = "", time.perf_counter()
    try:
        for event in events:
            now_s = time.perf_counter()
            if stage == "converting":
                fetched.convert_s += now_s - since_s
            else:
                fetched.download_s += now_s - since_s
            since_s = now_s
            match event:
                case DownloadProgress():
                    stage = event.stage
                    line.show(stage.capitalize(), event.done_bytes, event.total_bytes)
                    if stage == "downloading":
                        fetched.downloaded_bytes = event.done_bytes
                case DownloadTrouble(text, wait_s):
                    line.clear()
                    print(f"{text} Next try in {wait_s:.0f} s.", file=sys.stderr)
                case DownloadFinished():
                    fetched.folder = event.folder
    finally:
        line.clear()
    return fetched


def fetch(model: CatalogueModel, hub: Hub) -> Path:
    """Download and convert `model`; prints what that took and returns the converted folder."""
    fetched = followed(get_model(model, hub, threading.Event()))
    if fetched.folder is None:
        raise FiresideError("The download was stopped. The same command goes on from there.")
    if fetched.convert_s:
        print(f"Download: {size_text(fetched.downloaded_bytes)} in {fetched.download_s:.1f} s")
        # The conversion has been the only process that this one has waited for.
        resident = size_text(_children_bytes())
        print(f"Conversion: {fetched.convert_s:.1f} s, {resident} resident at most")
    else:
        print("Download and conversion: were here already")
    print(f"Model: {fetched.folder}")
    return fetched.folder


def _children_bytes() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def step(module: str, *arguments: str, python: str = sys.executable) -> None:
    """Run one of our modules in a process of its own, so that its memory goes with it.

    Raises FiresideError if it fails; it has then said why.
    """
    done = subprocess.run([python, "-m", module, *arguments], check=False)
    if done.returncode != 0:
        raise FiresideError(f"The step {module} has failed (status {done.returncode}).")


def compare_with_reference(
    model: CatalogueModel, hub: Hub, converted: Path, reference_python: str
) -> None:
    """Print how far our logits are from those of transformers; FiresideError if too far."""
    raw = followed(download_repository(model.raw_repository, hub, threading.Event())).folder
    assert raw is not None
    dtype = "float32" if model.size in _FP32_SIZES else "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        inputs, ours, packed, theirs = (
            str(Path(folder) / name) for name in ("inputs.npz", "ours.npz", "packed.npz", "ref.npz")
        )
        step("tools.real.our_logits", str(raw), ours, "--dtype", dtype, "--inputs", inputs)
        step("tools.real.our_logits", str(converted), packed, "--dtype", dtype)
        step(
            "tools.real.reference_logits",
            *(str(raw), inputs, theirs, "--dtype", dtype),
            python=reference_python,
        )
        print(f"\nAgainst transformers, {dtype}:")
        compare_logits(Path(theirs), Path(ours), Path(packed), dtype)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools.real", description="Tries a real model.")
    parser.add_argument("--size", choices=[model.size for model in CATALOGUE], default="0.8B")
    parser.add_argument("--reference", metavar="PYTHON")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument(
        "--random-weights", action="store_true", help="what the hub has is known to make no sense"
    )
    options = parser.parse_args()
    hub = Hub(token=find_access_token())
    model = catalogue_model(options.size)
    try:
        print(f"{model.raw_repository} from {hub.address}", flush=True)
        converted = fetch(model, hub)
        sys.stdout.flush()
        random = ["--random-weights"] if options.random_weights else []
        step("tools.real.answers", str(converted), "--max-tokens", str(options.max_tokens), *random)
        if options.reference:
            compare_with_reference(model, hub, converted, options.reference)
    except FiresideError as error:
        print(error, file=sys.stderr)
        return _STATUS_USER_ERROR
    print("\nEverything went as it should.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
