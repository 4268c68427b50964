"""The theme: everything that is text can be read, and nobody else names a colour."""

import dataclasses
import re
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFontInfo, QFontMetricsF, QGuiApplication
from PySide6.QtWidgets import QApplication

from app.theme import DARK, LIGHT, PRESSED, TEXT_ON_GROUND, Colours, blended
from app.theme_source import ThemeSource
from app.theme_style import style_sheet

APP = Path(__file__).resolve().parents[2] / "app"
BOTH = pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""

    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4

    parsed = QColor(colour)
    red, green, blue = (linear(c) for c in (parsed.redF(), parsed.greenF(), parsed.blueF()))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@BOTH
def test_every_text_can_be_read_on_its_ground(colours: Colours) -> None:
    weak = {
        f"{ink} on {ground}": round(contrast(getattr(colours, ink), getattr(colours, ground)), 2)
        for ink, grounds in TEXT_ON_GROUND.items()
        for ground in grounds
        if contrast(getattr(colours, ink), getattr(colours, ground)) < 4.5
    }
    assert not weak


@BOTH
def test_code_can_be_read(colours: Colours) -> None:
    for ink in dataclasses.astuple(colours.syntax):
        assert contrast(ink, colours.code) >= 4.5, ink


@BOTH
def test_pressed_buttons_can_be_read(colours: Colours) -> None:
    assert contrast(colours.dim, blended(colours.page, colours.text, PRESSED)) >= 4.5
    assert contrast(colours.on_accent, blended(colours.accent, colours.text, PRESSED)) >= 4.5


def test_only_the_theme_names_colours() -> None:
    named = re.compile(
        r"#[0-9A-Fa-f]{6}\b|GlobalColor|QColor\(\s*[\d\"']|QColorConstants|\brgba?\("
    )
    found = [
        f"{path.relative_to(APP)}: {line.strip()}"
        for path in sorted(APP.rglob("*.py"))
        if path.name != "theme.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if named.search(line)
    ]
    assert not found


def test_bundled_fonts_are_used(themes: ThemeSource) -> None:
    assert QFontInfo(themes.theme.font("transcript")).family() == "Inter"
    assert QFontInfo(themes.theme.font("code")).family() == "JetBrains Mono"


def test_figures_in_footnotes_are_equally_wide(themes: ThemeSource) -> None:
    metrics = QFontMetricsF(themes.theme.font("note"))
    assert metrics.horizontalAdvance("1111") == metrics.horizontalAdvance("8888")


def test_choice_changes_palette_and_tells_the_widgets(themes: ThemeSource) -> None:
    heard = []
    themes.changed.connect(lambda: heard.append(themes.theme.is_dark))
    themes.set_choice("dark")
    assert heard == [True]
    assert QApplication.palette().window().color() == QColor(DARK.page)
    themes.set_choice("light")
    assert QApplication.palette().window().color() == QColor(LIGHT.page)


def test_system_is_followed_only_when_asked_to(themes: ThemeSource) -> None:
    themes.set_choice("dark")
    themes.on_system_scheme_changed()
    assert themes.theme.is_dark
    themes.set_choice("system")
    expected = QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark
    assert themes.theme.is_dark == expected


def test_text_size_steps_and_stops_at_the_ends(themes: ThemeSource) -> None:
    usual = themes.theme.font_px("transcript")
    themes.step_text_size(1)
    assert themes.theme.font_px("transcript") > usual
    for _ in range(10):
        themes.step_text_size(1)
    largest = themes.theme.font_px("transcript")
    assert largest <= 2 * usual
    themes.step_text_size(0)
    assert themes.theme.font_px("transcript") == usual


@BOTH
def test_style_sheet_uses_the_colours(themes: ThemeSource, colours: Colours) -> None:
    sheet = style_sheet(dataclasses.replace(themes.theme, colours=colours))
    assert colours.dim in sheet
    assert colours.warn in sheet
