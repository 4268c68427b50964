"""Reads JSON that may be anybody's: of a size that settings have, and not nested without end."""

import json
from pathlib import Path
from typing import Any

# The index of a large mixture of experts, each in tensors of its own, takes some 30 MB.
_LIMIT_BYTES = 64 << 20


def read_json(file: Path) -> Any:
    """What `file` says. ValueError if that is no JSON or too much of it, OSError as the disk does.

    A pipe or a device, which could be waited on for ever, is a ValueError too.
    """
    if file.exists() and not file.is_file():
        raise ValueError("not a file")
    with file.open("rb") as stream:
        content = stream.read(_LIMIT_BYTES + 1)
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """What `content`, in UTF-8, says; ValueError if it is no JSON or too much of it."""
    if len(content) > _LIMIT_BYTES:
        raise ValueError("too large")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
