"""How counts, times and files are put into words, the same everywhere in the window.

Pure text; knows attachments, no widget.
"""

from html import escape

from app.conversation.message import Attachment

SEPARATOR = " · "

# Sides are rounded to whole tokens, so that a size a little smaller is the same size.
_SMALLER = 0.9


def clock(seconds: float) -> str:
    """A length of time as on a clock: "0:10", "12:05", "1:00:00"."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 frame", "1,728 tokens"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cost(attachment: Attachment) -> str:
    """What will be looked at: "16 frames · 64 tokens", "12 tokens", or nothing while unknown."""
    parts = []
    if attachment.frame_count is not None:
        parts.append(counted(attachment.frame_count, "frame"))
    if attachment.token_count is not None:
        parts.append(counted(attachment.token_count, "token"))
    return SEPARATOR.join(parts)


def extent(attachment: Attachment) -> str:
    """How large it is: "128 × 96" for a picture, "0:10" for a clip, or nothing while unknown."""
    if attachment.kind == "video":
        return "" if attachment.duration_s is None else clock(attachment.duration_s)
    return pixels(attachment.width, attachment.height)


def pixels(width: int, height: int) -> str:
    """A size in pixels: "4,032 × 3,024", or nothing while unknown."""
    return f"{width:,} × {height:,}" if width and height else ""


def seen(attachment: Attachment) -> str:
    """How small the model sees it, such as "seen as 1,664 × 1,248"; nothing when not smaller."""
    seen_area = attachment.seen_width * attachment.seen_height
    if not seen_area or seen_area > _SMALLER * attachment.width * attachment.height:
        return ""
    return f"seen as {pixels(attachment.seen_width, attachment.seen_height)}"


def facts(attachment: Attachment) -> str:
    """Everything about a file in one line, without its name."""
    size = extent(attachment)
    if attachment.kind == "image":
        size = ", ".join(part for part in (size, seen(attachment)) if part)
    return joined(size, cost(attachment), attachment.remark)


def short_facts(attachment: Attachment) -> str:
    """The same for a chip, where there is room for one of two sizes."""
    size = extent(attachment)
    if attachment.kind == "image":
        size = seen(attachment) or size
    return joined(size, cost(attachment), attachment.remark)


def full_facts(attachment: Attachment) -> str:
    """The same in lines for a tool tip, which has room for everything."""
    size = pixels(attachment.width, attachment.height)
    if size and attachment.seen_width:
        frames = "frames " if attachment.kind == "video" else ""
        size += f", {frames}seen as {pixels(attachment.seen_width, attachment.seen_height)}"
    rate = ""
    if attachment.duration_s and attachment.frame_count:
        rate = f"one about every {attachment.duration_s / attachment.frame_count:.2g} s"
    length = extent(attachment) if attachment.kind == "video" else ""
    lines = (attachment.name, joined(length, size), joined(cost(attachment), rate))
    return "\n".join(line for line in (*lines, attachment.remark) if line)


def joined(*parts: str) -> str:
    """The parts that say something, with dots between."""
    return SEPARATOR.join(part for part in parts if part)


def tip(words: str) -> str:
    """The words for a tool tip, where Qt would take what looks like markup in a name for markup."""
    if "<" not in words:
        return words
    return f"<p>{escape(words)}</p>".replace("\n", "<br>")
