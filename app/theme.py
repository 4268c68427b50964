"""The look of the program as data: colours, type and measures, light and dark.

The only module that names a colour. Knows no widget; `theme_style` turns it into a palette and a
style sheet, `theme_source` decides which theme is in force.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from PySide6.QtGui import QColor, QFont

FontRole = Literal["transcript", "base", "small", "note", "title", "code"]

# Measures in px at text size 1; the grid is 8 px with half steps of 4.
HEADER_HEIGHT: Final = 52
COLUMN_WIDTH: Final = 720
COMPOSER_WIDTH: Final = 760
SIDE_MARGIN: Final = 20
NARROW_WIDTH: Final = 600
FIRST_SIZE: Final = (1180, 800)
MINIMUM_SIZE: Final = (480, 560)
RADIUS_FIELD: Final = 8
RADIUS_CHIP: Final = 10
RADIUS_CARD: Final = 14
RADIUS_BUBBLE: Final = 16
RADIUS_COMPOSER: Final = 18

HOVER: Final = 0.04
PRESSED: Final = 0.08
DISABLED_OPACITY: Final = 0.4
FOCUS_OPACITY: Final = 0.6
FOCUS_WIDTH: Final = 2

FONT_SIZES: Final[Mapping[FontRole, int]] = MappingProxyType(
    {"transcript": 15, "base": 14, "small": 13, "note": 12, "title": 30, "code": 13}
)
LINE_HEIGHT: Final = 1.6


@dataclass(frozen=True, slots=True)
class CodeColours:
    """Colours of highlighted code, all readable on the code ground."""

    keyword: str
    string: str
    number: str
    comment: str
    name: str


@dataclass(frozen=True, slots=True)
class Colours:
    """One set of colours as `#RRGGBB`.

    `page`, `side`, `card`, `user`, `code` and `selected` are grounds; `text`, `dim`, `accent`, `ok`
    and `warn` are drawn on them; `on_accent` is drawn on `accent`. `shadow` is black for light and
    dark, with its own strength.
    """

    page: str
    side: str
    card: str
    line: str
    text: str
    dim: str
    accent: str
    on_accent: str
    user: str
    code: str
    selected: str
    ok: str
    warn: str
    shadow: str
    shadow_strength: float
    syntax: CodeColours
    sample_ground: str
    sample_shapes: tuple[str, str, str]


LIGHT: Final = Colours(
    page="#FBFAF8",
    side="#F2EFEA",
    card="#FFFFFF",
    line="#E4DFD8",
    text="#1F1D1A",
    dim="#6B655D",
    accent="#B4472F",
    on_accent="#FFFFFF",
    user="#EFEAE3",
    code="#F5F2EE",
    selected="#E9E3DA",
    ok="#2E7D4F",
    warn="#9A6A00",
    shadow="#3A2A18",
    shadow_strength=0.075,
    syntax=CodeColours(
        keyword="#A03A6B", string="#3B6E37", number="#8A4B12", comment="#716A61", name="#2A5FA5"
    ),
    sample_ground="#F2EDE7",
    sample_shapes=("#D92F2F", "#2A62DC", "#E2B10D"),
)

DARK: Final = Colours(
    page="#1D1B1A",
    side="#171615",
    card="#262321",
    line="#3A3633",
    text="#ECE8E2",
    dim="#A8A198",
    accent="#EE8A6A",
    on_accent="#231512",
    user="#2E2A27",
    code="#24211F",
    selected="#2B2724",
    ok="#6CC08B",
    warn="#E0B052",
    shadow="#000000",
    shadow_strength=0.35,
    syntax=CodeColours(
        keyword="#E39AC0", string="#9CCB93", number="#E5B27C", comment="#948C82", name="#8FB8EC"
    ),
    sample_ground="#332E2A",
    sample_shapes=("#E5534B", "#5B8DEF", "#E8BE3A"),
)

# Every colour that text is drawn in, with the grounds it is drawn on.
TEXT_ON_GROUND: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "text": ("page", "side", "card", "user", "code", "selected"),
        "dim": ("page", "side", "card", "user", "code", "selected"),
        "accent": ("page", "card"),
        "on_accent": ("accent",),
        "ok": ("page", "card"),
        "warn": ("page", "card"),
    }
)


@dataclass(frozen=True, slots=True)
class Fonts:
    """Families in order of preference."""

    text: tuple[str, ...]
    code: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Theme:
    """What is in force now: one set of colours, the families, and the text-size factor."""

    colours: Colours = LIGHT
    fonts: Fonts = field(
        default=Fonts(text=("Inter",), code=("JetBrains Mono", "DejaVu Sans Mono"))
    )
    text_scale: float = 1.0

    def font_px(self, role: FontRole) -> int:
        """Size in px of a role at the present text size."""
        return round(FONT_SIZES[role] * self.text_scale)

    def line_px(self, role: FontRole) -> int:
        """Distance between base lines of running text in this role."""
        return round(FONT_SIZES[role] * self.text_scale * LINE_HEIGHT)

    def font(self, role: FontRole, weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
        """The font of a role; footnotes have figures of equal width."""
        font = QFont()
        font.setFamilies(list(self.fonts.code if role == "code" else self.fonts.text))
        font.setPixelSize(self.font_px(role))
        font.setWeight(QFont.Weight.DemiBold if role == "title" else weight)
        font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
        if role == "note":
            font.setFeature(QFont.Tag("tnum"), 1)
        if role == "title":
            font.setLetterSpacing(QFont.SpacingType.PercentageSpacing, 98)
        if role == "code":
            font.setStyleHint(QFont.StyleHint.Monospace)
            # Ligatures would show "->" as an arrow that is not in the code.
            font.setFeature(QFont.Tag("calt"), 0)
        return font

    @property
    def is_dark(self) -> bool:
        """Whether text is lighter than its ground."""
        return QColor(self.colours.page).lightnessF() < 0.5


def blended(ground: str, ink: str, share: float) -> str:
    """`ground` with `share` (0 to 1) of `ink` over it, as `#RRGGBB`."""
    low, high = QColor(ground), QColor(ink)
    mixed = QColor(
        round(low.red() + (high.red() - low.red()) * share),
        round(low.green() + (high.green() - low.green()) * share),
        round(low.blue() + (high.blue() - low.blue()) * share),
    )
    return mixed.name()


def translucent(colour: str, opacity: float) -> QColor:
    """A colour with an opacity from 0 to 1, for painters."""
    result = QColor(colour)
    result.setAlphaF(opacity)
    return result
