"""An answer's text: what is finished stays, what is dangerous is only text, colours follow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import (
    QColor,
    QDesktopServices,
    QFont,
    QGuiApplication,
    QImage,
    QTextDocument,
)
from pytestqt.qtbot import QtBot

from app.chat.code_block import CodeBlock
from app.chat.markdown_blocks import MarkdownBlock
from app.chat.markdown_render import LIST_MARKER, TASK_DONE, TASK_OPEN
from app.chat.markdown_view import MarkdownView
from app.chat.text_block import TextBlock
from app.theme import DARK, LIGHT
from app.theme_source import ThemeSource

PARAGRAPH = "The circle is red and the **square** is blue, as `one` can see in the picture. "


@pytest.fixture
def view(qtbot: QtBot, themes: ThemeSource) -> MarkdownView:
    made = MarkdownView(themes)
    qtbot.addWidget(made)
    return made


def texts(view: MarkdownView) -> list[TextBlock]:
    return [part for part in view.findChildren(TextBlock) if not part.isHidden()]


def show(view: MarkdownView, source: str) -> TextBlock:
    view.append(source)
    view.finish()
    view.height_for(720)
    return texts(view)[0]


def test_finished_blocks_are_never_drawn_again(
    view: MarkdownView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8,000 tokens of prose and code: one drawing for each finished block, whatever follows."""
    drawn: list[MarkdownBlock] = []
    add_block = TextBlock.add_block

    def counting(self: TextBlock, block: MarkdownBlock) -> None:
        drawn.append(block)
        add_block(self, block)

    monkeypatch.setattr(TextBlock, "add_block", counting)
    turn = (PARAGRAPH * 4).strip() + "\n\n```python\nfor i in range(3):\n    print(i)\n```\n\n"
    tokens = turn.replace(" ", " \0").split("\0")
    fed = 0
    longest_tail = 0
    while fed < 8000:
        for start in range(0, len(tokens), 4):
            view.append("".join(tokens[start : start + 4]))
            view.height_for(720)
            tail = view.tail_text
            longest_tail = max(longest_tail, len(tail.toPlainText()))
        fed += len(tokens)
    view.finish()
    prose = [block for block in drawn if block.kind == "text"]
    assert len(prose) == view.source.count(turn)
    assert longest_tail <= len(PARAGRAPH * 4)
    assert view.frozen_count == 2 * view.source.count(turn)


def test_redrawing_the_tail_leaves_the_frozen_document_alone(view: MarkdownView) -> None:
    view.append("first\n\nsec")
    (frozen,) = (text for text in texts(view) if text is not view.tail_text)
    revision = frozen.document().revision()
    for _ in range(20):
        view.append("ond ")
    assert frozen.document().revision() == revision
    assert frozen.toPlainText() == "first"


def test_stacking_is_the_same_while_streaming_and_after(view: MarkdownView) -> None:
    source = "one\n\ntwo\n\n## three\n\n- four\n- five\n\nsix"
    view.append(source)
    streaming = view.height_for(500)
    view.finish()
    assert view.height_for(500) == streaming
    view.replace(source)
    assert view.height_for(500) == streaming


@pytest.mark.parametrize(
    "source",
    ["vector<int> x", "a <think> b", "<script>alert(1)</script>", "<b>bold</b> & <br>"],
)
def test_tags_are_text(view: MarkdownView, source: str) -> None:
    assert show(view, source).toPlainText() == source


def test_pictures_of_an_answer_are_words(
    view: MarkdownView, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(TextBlock, "loadResource", lambda *given: asked.append(given))
    block = show(view, "before ![a cat](https://example.org/cat.png) after ![](/etc/cat.png)")
    view.grab()
    assert block.toPlainText() == "before a cat after "
    assert not asked


def test_no_file_is_read_because_a_text_names_it(view: MarkdownView, tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    picture = QImage(4, 4, QImage.Format.Format_RGB32)
    picture.fill(0)
    assert picture.save(str(path))
    block = show(view, "words")
    kind = QTextDocument.ResourceType.ImageResource.value
    assert not block.document().resource(kind, QUrl.fromLocalFile(str(path)))


def markers_of(block: TextBlock) -> list[str]:
    markers = []
    line = block.document().begin()
    while line.isValid():
        markers.append(line.blockFormat().stringProperty(LIST_MARKER))
        line = line.next()
    return markers


def test_tasks_have_a_box_in_place_of_brackets(view: MarkdownView) -> None:
    block = show(view, "- [ ] one **b**\n- [x] two\n- three [ ] 3\n  - [X] four\n\n[ ] five\n")
    assert markers_of(block) == [TASK_OPEN, TASK_DONE, "•", TASK_DONE, ""]
    assert block.toPlainText().split("\n") == ["one b", "two", "three [ ] 3", "four", "[ ] five"]
    block.grab()


def test_half_written_brackets_do_not_flash_by(view: MarkdownView) -> None:
    for character in "- [ ] one\n- [x] two":
        view.append(character)
        assert "[" not in view.tail_text.toPlainText()
        assert "]" not in view.tail_text.toPlainText()
    assert view.tail_text.toPlainText() == "one\ntwo"


def test_emphasis_lists_and_tables_are_drawn(view: MarkdownView) -> None:
    block = show(view, "a **b** *c*\n\n7. x\n8. y\n   - z\n\n| h | i |\n|---|--:|\n| 1 | 2 |")
    markers = []
    weights: dict[str, int] = {}
    line = block.document().begin()
    while line.isValid():
        markers.append(line.blockFormat().stringProperty(LIST_MARKER))
        piece = line.begin()
        while not piece.atEnd():
            fragment = piece.fragment()
            weights[fragment.text()] = fragment.charFormat().fontWeight()
            piece += 1
        line = line.next()
    assert [marker for marker in markers if marker] == ["7.", "8.", "◦"]
    assert weights["b"] == weights["h"] == QFont.Weight.DemiBold.value
    assert weights["1"] != QFont.Weight.DemiBold.value
    assert "1" in block.toPlainText()


def test_links_open_only_in_the_browser(
    view: MarkdownView, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda address: opened.append(address.toString())
    )
    block = show(view, "[x](https://example.org) [y](file:///etc/passwd)")
    block.on_link_clicked(QUrl("file:///etc/passwd"))
    block.on_link_clicked(QUrl("javascript:alert(1)"))
    block.on_link_clicked(QUrl("https://example.org"))
    assert opened == ["https://example.org"]


def test_selected_text_is_copied_without_our_colours(view: MarkdownView) -> None:
    block = show(view, "a **b** c")
    block.selectAll()
    block.copy()
    data = QGuiApplication.clipboard().mimeData()
    assert data.text() == "a b c"
    assert not data.hasHtml()


def test_copied_text_survives_the_end_of_the_program() -> None:
    """Leaving with our text on the clipboard is no crash."""
    program = """
import sys
from PySide6.QtWidgets import QApplication
from app.chat.text_block import TextBlock
from app.theme_source import ThemeSource
application = QApplication([])
block = TextBlock(ThemeSource())
block.show_plain("words")
block.selectAll()
block.copy()
assert QApplication.clipboard().text() == "words"
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        check=False,
    )
    assert ended.returncode == 0


def test_code_block_shows_copies_and_colours_its_code(
    qtbot: QtBot, view: MarkdownView, themes: ThemeSource
) -> None:
    code = 'def f():\n    return "x"  # why\n'
    view.append(f"```python\n{code}")
    view.append("```\n")
    view.finish()
    (block,) = view.findChildren(CodeBlock)
    assert block.code == code.rstrip("\n")
    view.resize(600, view.height_for(600))
    assert block.ink_at(0) == QColor(LIGHT.syntax.keyword)
    themes.set_choice("dark")
    assert block.ink_at(0) == QColor(DARK.syntax.keyword)
    block.copy_button.click()
    assert QGuiApplication.clipboard().text() == block.code
    assert block.copy_button.text() == "Copied"
    qtbot.waitUntil(lambda: block.copy_button.text() == "Copy")


def test_code_of_an_unknown_language_is_plain(view: MarkdownView) -> None:
    view.append("```nosuchlanguage\nx = 1\n```\n")
    (block,) = view.findChildren(CodeBlock)
    assert block.code == "x = 1"


def test_no_line_of_code_is_cut_off(view: MarkdownView) -> None:
    view.append("```\n" + "\n".join("line" for _ in range(40)) + "\n```\n")
    view.finish()
    view.height_for(400)
    (block,) = view.findChildren(CodeBlock)
    view.show()
    view.grab()
    assert block.lines_fit()


def test_narrow_widths_wrap_and_never_scroll_sideways(view: MarkdownView) -> None:
    block = show(view, PARAGRAPH * 3 + "\n\n" + "x" * 300)
    heights = []
    for width in (720, 440, 200):
        heights.append(view.height_for(width))
        assert block.document().idealWidth() <= width
    assert heights == sorted(heights)
    assert heights[2] > 2 * heights[0]
