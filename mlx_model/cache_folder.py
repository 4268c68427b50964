"""Where the program keeps what it can do without: records that it makes again when they are lost.

Nothing of the person's, and no weights. Knows no Qt, so that window and terminal share one folder.
"""

import os
import sys
from pathlib import Path

# Names another folder, for tests and for people who keep such things elsewhere.
VARIABLE = "FIRESIDE_CACHE"


def cache_folder() -> Path:
    """The folder, which may not exist yet."""
    if own := os.environ.get(VARIABLE):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "Fireside"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fireside"
