"""Draws time to first word against turn number as an SVG: no library, text stays text."""

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

CAPTION = "MLX on CPU; ratios do not carry over to Metal"

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 40, 72
_COLOURS = ("#d9480f", "#1971c2", "#868e96", "#2f9e44", "#9c36b5")
_STYLE = "font-family: system-ui, sans-serif; font-size: 13px; fill: #444"


def line_plot(title: str, series: Mapping[str, Sequence[float]]) -> str:
    """An SVG with one line a series; the first value belongs to turn 1."""
    turns = max(len(values) for values in series.values())
    top = _round_up(max(max(values) for values in series.values()))

    def x(turn: int) -> float:
        return _LEFT + (turn - 1) / max(1, turns - 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(seconds: float) -> float:
        return _HEIGHT - _BOTTOM - seconds / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" style="{_STYLE}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-weight="600">{escape(title)}</text>',
    ]
    for step in range(5):
        seconds = top * step / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(seconds):.1f}" '
            f'y2="{y(seconds):.1f}" stroke="#e5e5e5"/>'
            f'<text x="{_LEFT - 8}" y="{y(seconds) + 4:.1f}" text-anchor="end">'
            f"{seconds:.3g} s</text>"
        )
    marks = range(1, turns + 1, 1 if turns <= 10 else 3)
    parts += [
        f'<text x="{x(turn):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{turn}</text>'
        for turn in marks
    ]
    labels = _spread({name: y(values[-1]) for name, values in series.items()})
    for (name, values), colour in zip(series.items(), _COLOURS, strict=False):
        points = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in enumerate(values, 1))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{_WIDTH - _RIGHT + 8}" y="{labels[name] + 4:.1f}" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 30}">turn</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 10}" fill="#777">{CAPTION}</text></svg>')
    return "\n".join(parts) + "\n"


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2 and so on times a power of ten, which four steps divide well."""
    power = 10.0 ** floor(log10(value))
    return next(
        (power * n for n in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8) if power * n >= value), 10 * power
    )


def _spread(places: Mapping[str, float], apart: float = 17) -> dict[str, float]:
    """The same heights, moved down where two would lie on each other."""
    spread: dict[str, float] = {}
    low = float("-inf")
    for name, height in sorted(places.items(), key=lambda item: item[1]):
        low = max(height, low + apart)
        spread[name] = low
    return spread
