"""Prints what was measured as Markdown tables."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from tools.bench.peers.contestants import CHANGING, RUNNING, TALKING

Rows = dict[str, Any]
_SHOWN_TURNS = (2, 6, 20)


def tables(checkpoint: str, groups: Mapping[str, Rows]) -> Iterator[str]:
    """The lines of all tables of one checkpoint."""
    for name, make in (
        ("speed", _speed),
        ("start", _start),
        ("turns", _turns),
        ("changes", _changes),
    ):
        if name in groups:
            yield f"\n### {checkpoint}: {name}\n"
            yield from make(groups[name]["rows"])
            yield f"\nLoad of the machine (1 min): {groups[name]['load']:.1f}.\n"


def _speed(rows: Rows) -> Iterator[str]:
    labels = {who.name: who.label.partition(",")[0] for who in RUNNING}
    keys = ("read_tokens_per_s", "write_tokens_per_s", "write_tokens_per_processor_s")
    header = [
        "",
        "prefill, tokens/s",
        "decode, tokens/s",
        "decode, tokens per processor second",
        "highest resident",
        "tokens like ours",
    ]
    yield from _head(header)
    for name, row in rows.items():
        cells = [labels[name]]
        for key in keys:
            cells.append(_with_ratio(rows["ours"][key], row[key], name))
        cells += [f"{row['peak_bytes'] / 1e6:,.0f} MB", str(row["same_tokens_as_ours"])]
        yield _line(cells)


def _with_ratio(ours: Sequence[float], theirs: Sequence[float], name: str) -> str:
    if name == "ours":
        return f"{median(theirs):,.0f}"
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{median(theirs):,.0f} (ours {ratio:.2f} x)"


def _start(rows: Rows) -> Iterator[str]:
    yield from _head(["", "import", "load", "process start to first token", "resident after load"])
    for who in RUNNING:
        values = rows[who.name]
        cells = [who.label.partition(",")[0]]
        for key in ("import_s", "load_s", "first_token_s"):
            cells.append(f"{median(value[key] for value in values):.2f} s")
        cells.append(f"{median(value['peak_bytes'] for value in values) / 1e6:,.0f} MB")
        yield _line(cells)


def _turns(rows: Rows) -> Iterator[str]:
    last = len(rows["ours"]["turns"])
    shown = [number for number in _SHOWN_TURNS if number <= last]
    header = ["", *(f"turn {number}: first word" for number in shown)]
    header += [f"turn {number}: reused" for number in shown]
    header += ["read while idle, tokens a turn", "patches encoded again"]
    header += ["texts as from a cold process"]
    yield from _head(header)
    for who in TALKING:
        turns = rows[who.name]["turns"]
        cells = [who.label, *(f"{turns[number - 1]['first_word_s']:.2f} s" for number in shown)]
        for number in shown:
            turn = turns[number - 1]
            reused = max(0, turn["prompt_tokens"] - turn["read_again"])
            cells.append(f"{reused:,} of {turn['prompt_tokens']:,}")
        cells.append(f"{median(turn['idle_forwards'] for turn in turns[1:]):.0f}")
        cells.append(str(sum(turn["patches"] for turn in turns[1:])))
        same = rows[who.name]["same_as_cold"].values()
        cells.append(f"{sum(same)} of {len(same)}")
        yield _line(cells)
    yield ""
    first_s = {
        who.name: [turn["first_word_s"] for turn in rows[who.name]["turns"]] for who in TALKING
    }
    for who in TALKING[1:]:
        ratios = ", ".join(
            f"turn {number}: {first_s[who.name][number - 1] / first_s['ours'][number - 1]:.1f} x"
            for number in shown
        )
        yield f"Time to first word of {who.label} over ours: {ratios}."


def _changes(rows: Rows) -> Iterator[str]:
    yield from _head(["", *(who.label for who in CHANGING)])
    for what in rows["ours"]:
        cells = [what]
        for who in CHANGING:
            turn = rows[who.name].get(what)
            if turn is None:
                cells.append("cannot")
                continue
            patches = f", {turn['patches']} patches" if turn["patches"] else ""
            same = "" if turn["same_as_cold"] else ", other text than cold"
            cells.append(
                f"{turn['first_word_s']:.2f} s (cold {turn['cold_s']:.2f}), "
                f"read {turn['read_again']:,} of {turn['prompt_tokens']:,}{patches}{same}"
            )
        yield _line(cells)


def _head(cells: Sequence[str]) -> Iterator[str]:
    yield _line(cells)
    yield "|" + "---|" * len(cells)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
