"""The command line: measures what is not measured yet, prints all of it, draws the plot."""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from mlx_model.fingerprint import checkpoint_identity, program_version
from tools.bench.peers.checkpoint import find_checkpoint
from tools.bench.peers.contestants import PEERS_PYTHON, ROOT, TALKING
from tools.bench.peers.plot import line_plot
from tools.bench.peers.rows import GROUPS, Plan
from tools.bench.peers.table import tables

RESULTS = ROOT / "build" / "bench-peers"


def main() -> None:
    """Measure and print."""
    options = _options()
    if not options.peers_python.exists():
        raise SystemExit(f"{options.peers_python} is not there. Run: make peers")
    options.results.mkdir(parents=True, exist_ok=True)
    for checkpoint in options.model:
        file = options.results / f"{Path(checkpoint).name}.json"
        done = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if not options.print:
            _measure(checkpoint, done, file, options)
        print("\n".join(tables(checkpoint, done)), flush=True)
        if "turns" in done:
            _draw(checkpoint, done["turns"]["rows"], options.results)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")


def _measure(
    checkpoint: str, done: dict[str, Any], file: Path, options: argparse.Namespace
) -> None:
    plan = Plan(
        model=find_checkpoint(checkpoint, options.results),
        peers_python=options.peers_python,
        rounds=options.rounds,
        turns=options.turns,
    )
    asked = {
        "checkpoint": checkpoint_identity(plan.model),
        "program": program_version(),
        "rounds": plan.rounds,
        "turns": plan.turns,
    }
    for name in options.rows:
        if done.get(name, {}).get("asked") == asked and not options.again:
            continue
        started_s = time.perf_counter()
        rows = GROUPS[name](plan)
        done[name] = {
            "asked": asked,
            "rows": rows,
            "load": os.getloadavg()[0],
            "seconds": time.perf_counter() - started_s,
        }
        file.write_text(json.dumps(done, ensure_ascii=False, indent=1), encoding="utf-8")


def _draw(checkpoint: str, rows: dict[str, Any], folder: Path) -> None:
    series = {
        who.label: [turn["first_word_s"] for turn in rows[who.name]["turns"]] for who in TALKING
    }
    name = Path(checkpoint).name
    plot = line_plot(f"Time to the first word, turn by turn ({name})", series)
    (folder / f"turns-{name}.svg").write_text(plot, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools.bench.peers", description=__doc__)
    parser.add_argument("--model", nargs="+", default=["demo", "synthetic"], metavar="NAME|DIR")
    parser.add_argument("--rows", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--again", action="store_true", help="measure anew what this version has measured"
    )
    parser.add_argument("--print", action="store_true", help="measure nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
