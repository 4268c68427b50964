"""The pill that says how closely pictures are looked at, and opens the choice.

Shows what each choice costs; knows neither files nor tokens beyond the counts it is given.
"""

from PySide6.QtCore import QPoint, Signal, Slot
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu, QWidget

from app.buttons import PillButton
from app.chat import wording
from app.conversation.detail import DetailChoice, PictureDetail
from app.theme_source import ThemeSource

_GAP_PX = 4


class DetailPill(PillButton):
    """Hidden while there is nothing to choose.

    Signals:
        detail_chosen(str): a PictureDetail.
        offered(): it appeared, went away or changed its width.
    """

    detail_chosen = Signal(str)
    offered = Signal()

    def __init__(self, themes: ThemeSource, parent: QWidget | None = None) -> None:
        super().__init__(themes, "Detail", "normal", parent=parent)
        self.menu = QMenu(self)
        self._actions = QActionGroup(self)
        self._offer: tuple[list[DetailChoice], PictureDetail] = ([], "normal")
        self.setToolTip("How closely the model looks at the pictures of this chat")
        self.clicked.connect(self.on_clicked)
        self.hide()

    def set_choices(self, choices: list[DetailChoice], chosen: PictureDetail) -> None:
        """What there is to choose from, and what is chosen; nothing hides the pill."""
        if (choices, chosen) == self._offer:
            return
        self._offer = (list(choices), chosen)
        self.set_value(chosen)
        self.menu.clear()
        for choice in choices:
            cost = wording.counted(choice.token_count, "token")
            action = QAction(f"{choice.detail.capitalize()}{wording.SEPARATOR}{cost}", self.menu)
            action.setCheckable(True)
            action.setChecked(choice.detail == chosen)
            action.setData(choice.detail)
            action.triggered.connect(self.on_chosen)
            self._actions.addAction(action)
            self.menu.addAction(action)
        self.setVisible(bool(choices))
        self.offered.emit()

    @Slot()
    def on_clicked(self) -> None:
        """Open the choice above the pill, where nothing covers the draft's end."""
        above = QPoint(0, -self.menu.sizeHint().height() - _GAP_PX)
        self.menu.popup(self.mapToGlobal(above))

    @Slot()
    def on_chosen(self) -> None:
        """Tell what was chosen."""
        action = self.sender()
        assert isinstance(action, QAction)
        self.detail_chosen.emit(action.data())
