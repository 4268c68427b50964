"""One model on a card: what it is, what it costs or how far it is, and what can be done with it.

Asks before anything is lost, on the card itself. Knows no engine: it tells what the person wants.
"""

import sys
from html import escape
from typing import Literal

from PySide6.QtCore import QRectF, Qt, Signal, Slot
from PySide6.QtGui import QAction, QActionGroup, QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QVBoxLayout, QWidget

from app.buttons import QuietButton, RoundButton, TextButton
from app.chat.label import ThemedLabel
from app.chat.progress_line import ProgressLine
from app.library import wording
from app.library.card_question import CardQuestion
from app.model_entry import ModelEntry
from app.theme import FOCUS_WIDTH, RADIUS_CARD
from app.theme_source import ThemeSource

Verb = Literal["download", "pause", "cancel", "use", "use_anyway", "delete", "forget", "stay"]

_PADDING_PX = 16
_BAR_PX = 220
# A quiet button has this much room before its icon, which stands in line with the text above.
_QUIET_INSET_PX = 9
_TOP_ROW_PX = 38
_COMPUTER = "Mac" if sys.platform == "darwin" else "computer"


class HeadingLabel(QLabel):
    """A model's name, what it is good at, and what speaks for it, in one line or more."""

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._themes = themes
        self._parts = ("", "", "")
        self.setTextFormat(Qt.TextFormat.RichText)
        themes.changed.connect(self.on_theme_changed)

    def show_heading(self, name: str, purpose: str, praise: str) -> None:
        """`name` stands out; `praise` is in the colour of what is all right."""
        self._parts = (name, purpose, praise)
        self.setAccessibleName(", ".join(part for part in self._parts if part))
        self.on_theme_changed()

    @Slot()
    def on_theme_changed(self) -> None:
        """Write it anew in the colours and sizes of now."""
        theme = self._themes.theme
        self.setFont(theme.font("small"))
        name, purpose, praise = (escape(part) for part in self._parts)
        praised = f" ·&nbsp;{praise}" if praise else ""
        self.setText(
            f'<span style="font-size:{theme.font_px("base")}px; font-weight:600">{name}</span>'
            f' <span style="color:{theme.colours.dim}">{purpose}</span>'
            f'<span style="color:{theme.colours.ok}">{praised}</span>'
        )


class ModelCardView(QWidget):
    """The card of one model.

    Signals:
        commanded(str, str): a Verb and the key of the model.
        way_chosen(str, str): the key of the model and how it is to be got.
        token_given(str, str): the key of the model and a token for its download.
    """

    commanded = Signal(str, str)
    way_chosen = Signal(str, str)
    token_given = Signal(str, str)

    def __init__(
        self, themes: ThemeSource, entry: ModelEntry, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._themes = themes
        self.entry = entry
        self.heading = HeadingLabel(themes, self)
        self.main_button = TextButton(themes, "", parent=self)
        self.main_button.clicked.connect(self.on_main_clicked)
        self.side_button = RoundButton(
            themes, "x", "Cancel", diameter=34, icon_px=16, kind="bare", parent=self
        )
        self.side_button.clicked.connect(self.on_side_clicked)
        self.in_use_label = ThemedLabel(themes, "small", "ok", parent=self)
        self.in_use_label.setText("In use")
        self.in_use_label.setContentsMargins(0, 0, FOCUS_WIDTH, 0)
        self.progress = ProgressLine(themes, _BAR_PX, self)
        self.figures = ThemedLabel(themes, "small", "dim", parent=self)
        self.fit_note = ThemedLabel(themes, "small", "warn", parent=self)
        self.problem = ThemedLabel(themes, "small", "warn", parent=self)
        for label in (self.heading, self.figures, self.fit_note, self.problem):
            label.setWordWrap(True)
            # A word wider than the card, such as a folder's name, must not push buttons out.
            label.setMinimumWidth(1)
        self.figures.setToolTip(wording.FIGURES_NOTE)
        self.problem.setOpenExternalLinks(True)
        self.way_button = QuietButton(themes, "caret-down", "", parent=self)
        self.way_button.clicked.connect(self.on_way_clicked)
        self.way_menu = QMenu(self)
        self._way_actions = QActionGroup(self)
        self.question = CardQuestion(themes, _QUIET_INSET_PX, self)
        self.question.answered.connect(self.on_question_answered)
        self._asked: Verb | Literal["token"] | None = None
        self._lay_out()
        themes.changed.connect(self.on_theme_changed)
        self.show_entry(entry)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addStrut(_TOP_ROW_PX)
        top.addWidget(self.heading, 1)
        for button in (self.in_use_label, self.main_button, self.side_button):
            top.addWidget(button)
        body = QVBoxLayout()
        body.setContentsMargins(_QUIET_INSET_PX, 0, 0, 0)
        body.setSpacing(6)
        body.addLayout(top)
        for row in (self.progress, self.fit_note, self.problem, self.figures):
            body.addWidget(row)
        column = QVBoxLayout(self)
        column.setContentsMargins(_PADDING_PX - _QUIET_INSET_PX, 10, _PADDING_PX - 2, 12)
        column.setSpacing(4)
        column.addLayout(body)
        column.addWidget(self.way_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.question)

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key stops at, from the top."""
        asked = self.question
        answers = [asked.field, asked.yes_button, asked.no_button]
        return [self.main_button, self.side_button, self.problem, self.way_button, *answers]

    def show_entry(self, entry: ModelEntry) -> None:
        """Show the present state; a question that has been overtaken goes away."""
        if entry.state != self.entry.state:
            self.close_question()
        self.entry = entry
        name = f"{entry.name}{'' if not entry.purpose else ','} {entry.purpose}".strip()
        self.setAccessibleName(name)
        self.heading.show_heading(
            entry.name, entry.purpose, f"right for this {_COMPUTER}" if entry.recommended else ""
        )
        words = wording.progress_line(entry)
        self.progress.show_progress(words, wording.progress_share(entry))
        self.progress.setFixedHeight(self.progress.height_for(0))
        self.progress.setVisible(bool(words))
        self._show_text(self.figures, "" if words else wording.figures(entry, _COMPUTER))
        self._show_text(self.fit_note, "" if words else entry.fit_note)
        self._show_problem()
        self._show_buttons()
        self._show_ways()
        if entry.state == "failed" and entry.needs_token and self._asked is None:
            self._ask("token", entry.token_note, "Continue", field="Hugging Face token")
        self.updateGeometry()

    def close_question(self) -> bool:
        """Nobody wants to know any more what is being asked; False when nothing was."""
        was_asking = self._asked is not None
        self._asked = None
        self.question.close_question()
        return was_asking

    @Slot()
    def on_main_clicked(self) -> None:
        """The button with a word on it: the next step for this model."""
        entry = self.entry
        if entry.state in ("downloading", "queued", "checking"):
            self.commanded.emit("pause", entry.key)
        elif entry.state == "converting":
            self.commanded.emit("cancel", entry.key)
        elif entry.state == "opening":
            self.commanded.emit("stay", entry.key)
        elif entry.state in ("absent", "here") and entry.fit_question:
            if entry.state == "here":
                self._ask("use_anyway", entry.fit_question, "Use anyway")
            else:
                self._ask("download", entry.fit_question, "Download anyway")
        else:
            verb: Verb = "use" if entry.state in wording.ON_DISK else "download"
            self.commanded.emit(verb, entry.key)

    @Slot()
    def on_side_clicked(self) -> None:
        """Cancel, or delete: both ask first where something is lost."""
        entry = self.entry
        if entry.state == "next" or entry.can_forget:
            self.commanded.emit("stay" if entry.state == "next" else "forget", entry.key)
            return
        if entry.state in wording.ON_DISK:
            self._ask("delete", wording.delete_question(entry), "Delete")
            return
        sentence = wording.cancel_question(entry)
        if sentence:
            self._ask("cancel", sentence, "Give up")
        else:
            self.commanded.emit("cancel", entry.key)

    @Slot(bool, str)
    def on_question_answered(self, agreed: bool, text: str) -> None:
        """The person answered what the card asked."""
        asked, self._asked = self._asked, None
        self.question.close_question()
        if not agreed or asked is None:
            return
        if asked == "token":
            self.token_given.emit(self.entry.key, text)
        else:
            self.commanded.emit(asked, self.entry.key)

    @Slot()
    def on_way_clicked(self) -> None:
        """Offer the ways below the button."""
        self.way_menu.popup(self.way_button.mapToGlobal(self.way_button.rect().bottomLeft()))

    @Slot()
    def on_way_chosen(self) -> None:
        """One of the ways was picked."""
        action = self.sender()
        assert isinstance(action, QAction)
        self.way_chosen.emit(self.entry.key, str(action.data()))

    @Slot()
    def on_theme_changed(self) -> None:
        """Sizes of text may have changed."""
        self.progress.setFixedHeight(self.progress.height_for(0))
        self._show_problem()
        self.update()

    def _ask(self, verb: Verb | Literal["token"], sentence: str, yes: str, field: str = "") -> None:
        self._asked = verb
        self.question.ask(sentence, yes, field)

    def _show_buttons(self) -> None:
        entry = self.entry
        word = {
            "queued": "Pause",
            "downloading": "Pause",
            "paused": "Resume",
            "failed": "Try again",
            "checking": "Pause",
            "converting": "Stop",
            "here": "Use",
            "opening": "" if entry.is_demo else "Cancel",
            "next": "Open now",
        }.get(entry.state, "")
        strong = entry.state == "paused"
        if entry.state == "absent" and entry.way is not None:
            needed = entry.way.download_bytes
            word = f"Download {wording.size(needed)}" if needed else "Convert here"
            strong = entry.recommended
        self.main_button.set_label(word, strong=strong)
        self.main_button.setAccessibleName(f"{word} {entry.name}")
        self.main_button.setVisible(bool(word))
        self.in_use_label.setVisible(entry.state == "in_use")
        if entry.state == "next":
            self.side_button.set_icon("x", "Stay with the model that answers")
            self.side_button.show()
        elif entry.can_forget:
            self.side_button.set_icon("x", f"Take {entry.name} off the list")
            self.side_button.setVisible(entry.state in ("here", "broken"))
        elif entry.state in wording.ON_DISK:
            self.side_button.set_icon("trash", f"Delete {entry.name}")
            self.side_button.setVisible(entry.can_delete and entry.state in ("here", "broken"))
        else:
            self.side_button.set_icon("x", f"Cancel the download of {entry.name}")
            self.side_button.setVisible(
                entry.state in ("queued", "downloading", "checking", "paused")
                or (entry.state == "failed" and bool(entry.ways))
            )

    def _show_ways(self) -> None:
        entry = self.entry
        way = entry.way
        offered = entry.state in ("absent", "failed") and len(entry.ways) > 1
        self.way_button.setVisible(offered)
        if not offered or way is None:
            return
        self.way_button.set_label("caret-down", wording.way_name(way).capitalize())
        self.way_button.setAccessibleName(f"How to get {entry.name}: {wording.way_name(way)}")
        self.way_menu.clear()
        for each in entry.ways:
            action = QAction(wording.way_offer(each), self.way_menu)
            action.setCheckable(True)
            action.setChecked(each.key == way.key)
            action.setData(each.key)
            action.triggered.connect(self.on_way_chosen)
            self._way_actions.addAction(action)
            self.way_menu.addAction(action)

    def _show_problem(self) -> None:
        sentence = self.entry.problem
        linked = wording.linked(sentence, self._themes.theme.colours.accent)
        rich = Qt.TextFormat.RichText if linked else Qt.TextFormat.PlainText
        self.problem.setTextFormat(rich)
        # Only a link is worth a stop of the Tab key.
        flags = Qt.TextInteractionFlag
        self.problem.setTextInteractionFlags(
            flags.TextBrowserInteraction if linked else flags.TextSelectableByMouse
        )
        self.problem.setAccessibleName(sentence)
        self._show_text(self.problem, linked or sentence)

    def _show_text(self, label: QLabel, text: str) -> None:
        label.setText(text)
        label.setVisible(bool(text))

    def heightForWidth(self, width: int) -> int:
        layout = self.layout()
        assert layout is not None
        # Asking for the height takes the mark off rows that have changed and not moved yet.
        layout.activate()
        if layout.hasHeightForWidth():
            return layout.totalHeightForWidth(width)
        return layout.totalSizeHint().height()

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self._themes.theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(colours.line), 1))
        painter.setBrush(QColor(colours.card))
        place = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(place, RADIUS_CARD, RADIUS_CARD)
