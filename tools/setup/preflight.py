"""Says in one line which Debian packages are missing before Qt fails with a page of its own.

Runs on a bare Python, before any package is there; on macOS there is nothing to check. Exits with
status 2 when something is missing. `--packages` prints the names alone, `--offscreen` leaves out
what only a window on a screen needs.
"""

import argparse
import ctypes
import os
import sys
from collections.abc import Mapping

# What the PySide6 wheels (QtWidgets, QtSvg, QtMultimedia and the offscreen platform) link to and do
# not bring, with the Debian package that holds it.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrandr.so.2": "libxrandr2",
    "libbrotlidec.so.1": "libbrotli1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libpulse.so.0": "libpulse0",
    "libstdc++.so.6": "libstdc++6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libzstd.so.1": "libzstd1",
}
X11_LIBRARIES = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
WAYLAND_LIBRARIES = {
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
}
FONTS = "fonts-dejavu-core"


class FontSet(ctypes.Structure):
    """The head of fontconfig's FcFontSet."""

    _fields_ = (("count", ctypes.c_int), ("capacity", ctypes.c_int), ("fonts", ctypes.c_void_p))


def missing_packages(environment: Mapping[str, str], offscreen: bool) -> list[str]:
    """Debian packages whose libraries cannot be loaded here, sorted."""
    wanted = dict(LIBRARIES)
    if not offscreen and environment.get("QT_QPA_PLATFORM", "") != "offscreen":
        if environment.get("DISPLAY"):
            wanted.update(X11_LIBRARIES)
        elif environment.get("WAYLAND_DISPLAY"):
            wanted.update(WAYLAND_LIBRARIES)
    missing = {package for library, package in wanted.items() if not loads(library)}
    if "libfontconfig1" in missing or not has_fonts():
        missing.add(FONTS)
    return sorted(missing)


def loads(library: str) -> bool:
    """Whether the dynamic linker finds `library` and everything that it needs in turn."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_fonts() -> bool:
    """Whether fontconfig knows at least one font: Qt draws empty boxes without."""
    fontconfig = ctypes.CDLL("libfontconfig.so.1")
    fontconfig.FcInitLoadConfigAndFonts.restype = ctypes.c_void_p
    fontconfig.FcConfigGetFonts.restype = ctypes.POINTER(FontSet)
    fontconfig.FcConfigGetFonts.argtypes = (ctypes.c_void_p, ctypes.c_int)
    system_fonts = 0
    fonts = fontconfig.FcConfigGetFonts(fontconfig.FcInitLoadConfigAndFonts(), system_fonts)
    return bool(fonts) and fonts.contents.count > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", action="store_true", help="print the package names alone")
    parser.add_argument("--offscreen", action="store_true", help="no window on a screen is needed")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages(os.environ, options.offscreen)
    if not missing:
        return 0
    if options.packages:
        print(*missing)
    else:
        print(
            "Fireside needs system libraries that are missing here. On Debian or Ubuntu: "
            f"sudo apt install {' '.join(missing)}",
            file=sys.stderr,
        )
    return 2


if __name__ == "__main__":
    sys.exit(main())
