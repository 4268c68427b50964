"""How counts, times and files are put into words, the same everywhere in the window.

Pure text; knows attachments, no widget.
"""

from html import escape

from app.conversation.message import Attachment

SEPARATOR = " · "


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
    """How large it is: "128 x 96" for a picture, "0:10" for a clip, or nothing while unknown."""
    if attachment.kind == "video":
        return "" if attachment.duration_s is None else clock(attachment.duration_s)
    if not (attachment.width and attachment.height):
        return ""
    return f"{attachment.width:,} × {attachment.height:,}"


def joined(*parts: str) -> str:
    """The parts that say something, with dots between."""
    return SEPARATOR.join(part for part in parts if part)


def tip(words: str) -> str:
    """The words for a tool tip, where Qt would take what looks like markup in a name for markup."""
    if "<" not in words:
        return words
    return f"<p>{escape(words)}</p>".replace("\n", "<br>")
