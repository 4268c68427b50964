"""Pictures and clips as they stand in the conversation."""

from pathlib import Path

from PySide6.QtGui import QColor, QImage
from pytestqt.qtbot import QtBot

from app.chat.media_cards import ClipCard
from app.conversation.message import Attachment
from app.theme_source import ThemeSource


def test_white_frames_do_not_run_into_the_white_footer(qtbot: QtBot, themes: ThemeSource) -> None:
    frame = QImage(160, 120, QImage.Format.Format_RGB32)
    frame.fill(QColor("white"))
    card = ClipCard(themes, Attachment(Path("a.mp4"), "video", "a.mp4"), [frame] * 4)
    qtbot.addWidget(card)
    card.resize(card.size_for(400))
    shown = card.grab().toImage()
    colours = themes.theme.colours
    column = {shown.pixelColor(20, y).name() for y in range(2, card.height() - 2)}
    assert QColor(colours.card).name() in column
    assert QColor(colours.line).name() in column
