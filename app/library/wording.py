"""How sizes, speeds and what can be done with a model are put into words. Pure text."""

import os
import re
from html import escape

from app.model_entry import ModelEntry, ModelState, Transfer, WayToGet

SEPARATOR = " · "
_GB = 10**9
_MB = 10**6
_GIB = 1 << 30

# Up to the dot or comma that ends it in a sentence.
_ADDRESS = re.compile(r"https?://[^\s<>]*[^\s<>.,;:)]")
# For whoever wonders about the words in the figures.
FIGURES_NOTE = (
    "A token is about three quarters of a word; a picture is some hundreds of them or a few "
    "thousand. The longer the chat, the more memory it takes. Fewer bits a weight need less room "
    "and cost some precision. A model that is converted here needs room beside its download, which "
    "can be deleted afterwards."
)

# The states of a model that is on this machine.
ON_DISK = ("here", "next", "opening", "in_use", "broken")
_DOING: dict[ModelState, str] = {
    "queued": "Waits for the download before it",
    "arrived": "Looking at what has arrived",
    "checking": "Checking what has arrived",
    "converting": "Converting to 4 bits",
    "next": "Opens when the answer is finished",
    "opening": "Opening",
}


def size(count: float) -> str:
    """Bytes as people buy them: "2.9 GB", "12 GB", "9 MB"."""
    if count >= 9.95 * _GB:
        return f"{count / _GB:,.0f} GB"
    if count >= 0.1 * _GB:
        return f"{count / _GB:.1f} GB"
    return f"{max(1, round(count / _MB)) if count else 0} MB"


def memory(count: float) -> str:
    """Bytes of memory, as memory is sold: 8 GB are 8 times 2 to the 30."""
    gigabytes = count / _GIB
    return f"{gigabytes:,.0f} GB" if gigabytes >= 9.95 else f"{max(0.1, gigabytes):.1f} GB"


def transferred(done: float, total: float) -> str:
    """Such as "1.8 of 2.9 GB", or "32 MB of 2.9 GB" in the beginning."""
    part, whole = size(min(done, total)), size(total)
    number, unit = part.split(" ")
    return f"{number if whole.endswith(unit) else part} of {whole}"


def time_left(seconds: float) -> str:
    """Such as "1 min left": never more exact than anybody can know."""
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min left"
    hours = round(minutes / 60)
    return f"{hours} h left" if hours < 48 else "days left"


def transfer_line(transfer: Transfer) -> str:
    """Such as "1.8 of 2.9 GB · 11 MB/s · 1 min left", without what is not known."""
    parts = [transferred(transfer.done_bytes, transfer.total_bytes)]
    if transfer.bytes_per_s is not None:
        parts.append(_speed(transfer.bytes_per_s))
        if transfer.left_s is not None and transfer.bytes_per_s > 0:
            parts.append(time_left(transfer.left_s))
    return SEPARATOR.join(parts)


def progress_line(entry: ModelEntry) -> str:
    """What is being done with a model now."""
    transfer = entry.transfer
    if entry.state == "downloading":
        return transfer_line(transfer) if transfer else "Asking for the files"
    if entry.state == "paused":
        if transfer is None:
            return "Paused"
        return f"Paused at {transferred(transfer.done_bytes, transfer.total_bytes)}"
    if entry.state == "failed" and transfer is not None and _is_part(transfer):
        return f"Stopped at {transferred(transfer.done_bytes, transfer.total_bytes)}"
    doing = _DOING.get(entry.state, "")
    if entry.done is None:
        return doing
    if entry.state == "opening":
        doing = "Checking the model"
    return f"{doing}, {round(100 * entry.done)} %"


def progress_share(entry: ModelEntry) -> float | None:
    """How much of what is being done is done, from 0 to 1; None where no bar is shown."""
    if entry.state in ("downloading", "paused", "failed"):
        transfer = entry.transfer
        if transfer is None or transfer.total_bytes <= 0:
            return None
        return transfer.done_bytes / transfer.total_bytes
    return entry.done


def figures(entry: ModelEntry, computer: str) -> str:
    """What a model costs, such as "2.9 GB · memory 3.2 GB at 4k tokens, 3.9 GB at 32k"."""
    parts = []
    way = entry.way
    if entry.state in ON_DISK:
        if entry.kept_bytes:
            parts.append(f"{size(entry.kept_bytes)} on this {computer}")
    elif way is not None:
        download, kept = size(way.download_bytes), size(way.kept_bytes)
        if not way.download_bytes:
            parts.append(f"the original is here, {kept} more")
        else:
            more = f", {kept} more" if way.key == "convert" else ""
            parts.append(f"{download} to download{more}")
    if entry.memory:
        first, *rest = entry.memory
        amounts = [_whole(f"memory {memory(first.size_bytes)} at {thousands(first.tokens)} tokens")]
        amounts += [_whole(f"{memory(use.size_bytes)} at {thousands(use.tokens)}") for use in rest]
        parts.append(", ".join(amounts))
    bits = entry.bits_per_weight
    if bits is None and way is not None:
        bits = way.bits_per_weight
    if bits:
        parts.append(_whole(f"{round(bits, 1):g} bits a weight"))
    if entry.place:
        parts.append(entry.place if os.sep in entry.place else _whole(entry.place))
    # A line may end before a dot, not after it.
    return " ·\N{NO-BREAK SPACE}".join(parts)


def thousands(tokens: int) -> str:
    """A number of tokens in thousands, as they are counted: 262,144 is "262k"."""
    return f"{tokens // 1000}k" if tokens >= 1000 else str(tokens)


def linked(sentence: str, colour: str) -> str:
    """The sentence as rich text, its addresses to be clicked; "" if there are none in it."""
    if not _ADDRESS.search(sentence):
        return ""
    link = f'<a href="\\g<0>" style="color:{colour}">\\g<0></a>'
    return _ADDRESS.sub(link, escape(sentence))


def way_name(way: WayToGet) -> str:
    """The way in a few words."""
    return "convert here (best)" if way.key == "convert" else "ready-made 4-bit"


def way_offer(way: WayToGet) -> str:
    """The way with its cost, for the menu."""
    if way.key == "convert":
        what = "Convert the original here (best answers)"
    else:
        what = "Ready-made 4-bit (less disk and time)"
    download = f"{size(way.download_bytes)} to download" if way.download_bytes else ""
    return SEPARATOR.join(
        part for part in (what, download, f"{round(way.bits_per_weight, 1):g} bits") if part
    )


def delete_question(entry: ModelEntry) -> str:
    """What is asked before a model is deleted."""
    return f"Delete {entry.name}? That frees {size(entry.kept_bytes)}."


def cancel_question(entry: ModelEntry) -> str:
    """What is asked before a download is given up; empty where nothing would be lost."""
    if entry.transfer is None or not entry.transfer.done_bytes:
        return ""
    lost = size(entry.transfer.done_bytes)
    return f"Give up the download of {entry.name}? What has arrived, {lost}, is deleted."


def _is_part(transfer: Transfer) -> bool:
    return 0 < transfer.done_bytes < transfer.total_bytes


def _whole(words: str) -> str:
    """The words with spaces at which no line ends."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _speed(bytes_per_s: float) -> str:
    if bytes_per_s >= 0.95 * _MB:
        number = bytes_per_s / _MB
        return f"{number:.1f} MB/s" if number < 9.95 else f"{number:,.0f} MB/s"
    return f"{bytes_per_s / 1000:.0f} kB/s"
