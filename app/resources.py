"""Where the files that ship with the program lie.

Knows folders and names only; reading them is the caller's business.
"""

from pathlib import Path

ASSETS_DIR = Path(__file__).resolve().parent.parent / "assets"
FONTS_DIR = ASSETS_DIR / "fonts"
SAMPLES_DIR = ASSETS_DIR / "samples"
DEMO_MODEL_DIR = ASSETS_DIR / "demo_model"
