"""Where the models that this program has converted itself are kept."""

import os
import sys
from pathlib import Path

# Names another folder, for tests and for people who keep such things elsewhere.
VARIABLE = "FIRESIDE_MODELS"


def own_models_folder() -> Path:
    """The folder, which may not exist yet."""
    if own := os.environ.get(VARIABLE):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Fireside" / "models"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "fireside" / "models"
