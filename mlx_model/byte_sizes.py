"""How much of a disk something takes, in words; decimal units, as the system itself counts."""


def size_text(size_bytes: int) -> str:
    """Such as "2.9 GB", "431.0 MB" or "7.2 kB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"
