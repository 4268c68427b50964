"""Small ICC profiles, built byte by byte: Display P3, linear grey, and a printer of our own."""

import struct
from collections.abc import Sequence

_D50 = (0.9642, 1.0, 0.8249)
# Of sRGB and Display P3 alike: a power, here left out, with a straight beginning.
_SRGB_CURVE = (1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_P3_PRIMARIES = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _profile(kind: bytes, space: bytes, between: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz(_D50), **tags}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = b"\0\0\0\0" + b"\4\0\0\0" + kind + space + between
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    whole = head.ljust(124, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole) + 4) + whole


def display_p3(power: float = 2.4) -> bytes:
    """The colours of an iPhone's camera; another power makes other brightnesses of them."""
    curve = b"para\0\0\0\0\0\3\0\0" + _fixed(power, *_SRGB_CURVE)
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    primaries = {name: _xyz(values) for name, values in _P3_PRIMARIES.items()}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**primaries, **curves})


def linear_grey() -> bytes:
    """Levels in proportion to the light, as scanners and telescopes write them."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv\0\0\0\0\0\0\0\0"})


def odd_printer() -> bytes:
    """A printer that has red in its cyan cartridge and leaves the other three empty."""
    paper, red = (255, 128, 128), (128, 188, 168)
    corners = [red if number & 8 else paper for number in range(16)]  # cyan varies slowest
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * ramp + bytes(level for corner in corners for level in corner) + 3 * ramp
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})
