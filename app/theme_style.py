"""Palette and style sheet built from a theme: what Qt's own widgets need to look like ours.

Cards, pills and buttons of our own paint themselves and do not depend on this sheet.
"""

import sys

from PySide6.QtGui import QColor, QPalette

from app.theme import HOVER, RADIUS_FIELD, Theme, blended


def palette(theme: Theme) -> QPalette:
    """The palette for every widget of the application."""
    colours = theme.colours
    roles = {
        QPalette.ColorRole.Window: colours.page,
        QPalette.ColorRole.Base: colours.card,
        QPalette.ColorRole.AlternateBase: colours.code,
        QPalette.ColorRole.Button: colours.card,
        QPalette.ColorRole.WindowText: colours.text,
        QPalette.ColorRole.Text: colours.text,
        QPalette.ColorRole.ButtonText: colours.text,
        QPalette.ColorRole.PlaceholderText: colours.dim,
        QPalette.ColorRole.ToolTipBase: colours.card,
        QPalette.ColorRole.ToolTipText: colours.text,
        QPalette.ColorRole.Highlight: blended(colours.page, colours.accent, 0.28),
        QPalette.ColorRole.HighlightedText: colours.text,
        QPalette.ColorRole.Link: colours.accent,
        QPalette.ColorRole.LinkVisited: colours.accent,
        QPalette.ColorRole.Mid: colours.line,
        QPalette.ColorRole.Accent: colours.accent,
    }
    result = QPalette()
    for role, colour in roles.items():
        result.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        result.setColor(
            QPalette.ColorGroup.Disabled,
            role,
            QColor(blended(colours.card, colours.text, 0.4)),
        )
    return result


def style_sheet(theme: Theme) -> str:
    """The style sheet of the main window."""
    colours = theme.colours
    sheet = f"""
QMainWindow, QWidget#page {{ background: {colours.page}; }}
QScrollArea {{ background: transparent; border: none; }}
QTextBrowser, QPlainTextEdit {{ background: transparent; border: none; padding: 0; }}
QLabel {{ color: {colours.text}; background: transparent; }}
QLabel[tone="dim"] {{ color: {colours.dim}; }}
QLabel[tone="warn"] {{ color: {colours.warn}; }}
QLabel[tone="ok"] {{ color: {colours.ok}; }}
QLineEdit {{
    background: {colours.page}; border: 1px solid {colours.line}; border-radius: {RADIUS_FIELD}px;
    padding: 6px 8px;
}}
QLineEdit:focus {{ border-color: {colours.accent}; }}
QToolTip {{
    background: {colours.card}; color: {colours.text}; border: 1px solid {colours.line};
    padding: 4px 6px;
}}
"""
    # macOS draws its own menus and scroll bars, better than a style sheet can.
    return sheet if sys.platform == "darwin" else sheet + _menus(theme) + _scroll_bars(theme)


def _menus(theme: Theme) -> str:
    colours = theme.colours
    return f"""
QMenu {{
    background: {colours.card}; color: {colours.text}; border: 1px solid {colours.line};
    border-radius: {RADIUS_FIELD}px; padding: 4px;
}}
QMenu::item {{ padding: 6px 28px 6px 12px; border-radius: 6px; }}
QMenu::item:selected {{ background: {blended(colours.card, colours.text, HOVER * 2)}; }}
QMenu::item:disabled {{ color: {colours.dim}; }}
QMenu::separator {{ height: 1px; background: {colours.line}; margin: 4px 8px; }}
"""


def _scroll_bars(theme: Theme) -> str:
    colours = theme.colours
    handle = blended(colours.page, colours.text, 0.18)
    handle_hover = blended(colours.page, colours.text, 0.34)
    return f"""
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 2px; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 2px; }}
QScrollBar::handle {{ background: {handle}; border-radius: 3px; }}
QScrollBar::handle:vertical {{ min-height: 32px; }}
QScrollBar::handle:horizontal {{ min-width: 32px; }}
QScrollBar::handle:hover {{ background: {handle_hover}; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
"""
