"""A question on a card: a sentence, perhaps a field, and two buttons."""

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from app.buttons import TextButton
from app.chat.label import ThemedLabel
from app.theme import FOCUS_WIDTH
from app.theme_source import ThemeSource

_FIELD_PX = 260


class CardQuestion(QWidget):
    """Hidden until something is asked; Return in the field is Yes.

    Its words begin `indent_px` from its left edge.

    Signals:
        answered(bool, str): whether the person agreed, and what was written in the field.
    """

    answered = Signal(bool, str)

    def __init__(self, themes: ThemeSource, indent_px: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sentence = ThemedLabel(themes, "small", parent=self)
        self.sentence.setWordWrap(True)
        self.field = QLineEdit(self)
        self.field.setEchoMode(QLineEdit.EchoMode.Password)
        self.field.setMaximumWidth(_FIELD_PX)
        self.field.setAcceptDrops(False)
        self.field.returnPressed.connect(self.on_yes_clicked)
        self.yes_button = TextButton(themes, "Yes", strong=True, parent=self)
        self.yes_button.clicked.connect(self.on_yes_clicked)
        self.no_button = TextButton(themes, "Not now", parent=self)
        self.no_button.clicked.connect(self.on_no_clicked)
        row = QHBoxLayout()
        row.setSpacing(4)
        # Buttons keep room for their focus ring; their ground stands in line with the text.
        row.setContentsMargins(indent_px - FOCUS_WIDTH, 0, 0, 0)
        row.addWidget(self.yes_button)
        row.addWidget(self.no_button)
        row.addStretch(1)
        words = QVBoxLayout()
        words.setContentsMargins(indent_px, 0, 0, 0)
        words.setSpacing(8)
        words.addWidget(self.sentence)
        words.addWidget(self.field)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(6)
        column.addLayout(words)
        column.addLayout(row)
        self.hide()

    def ask(self, sentence: str, yes: str, field: str = "") -> None:
        """Show the question; `field` says what is to be written, where anything is."""
        self.sentence.setText(sentence)
        self.sentence.setVisible(bool(sentence))
        self.field.clear()
        self.field.setPlaceholderText(field)
        self.field.setAccessibleName(field)
        self.field.setVisible(bool(field))
        self.yes_button.set_label(yes, strong=True)
        self.show()
        if field:
            self.field.setFocus(Qt.FocusReason.OtherFocusReason)
        else:
            self.no_button.setFocus(Qt.FocusReason.OtherFocusReason)

    def close_question(self) -> None:
        """Ask nothing any more."""
        self.field.clear()
        self.hide()

    @Slot()
    def on_yes_clicked(self) -> None:
        """Agreed; an empty field is no answer."""
        if not self.field.isHidden() and not self.field.text().strip():
            self.field.setFocus(Qt.FocusReason.OtherFocusReason)
            return
        self.answered.emit(True, self.field.text().strip())

    @Slot()
    def on_no_clicked(self) -> None:
        """Not agreed."""
        self.answered.emit(False, "")
