"""The menus and their shortcuts.

Qt turns Ctrl into Command on macOS. Where the desktop has no menu bar at the top of the screen, the
same menus open from the window's header.
"""

import sys

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QApplication, QLineEdit, QMainWindow, QMenu, QPlainTextEdit, QTextEdit

from app.theme_source import AppearanceChoice, ThemeSource

NATIVE_MENU_BAR = sys.platform == "darwin"
_EDIT_VERBS = {
    "Undo": (QKeySequence.StandardKey.Undo, "undo"),
    "Redo": (QKeySequence.StandardKey.Redo, "redo"),
    "Cut": (QKeySequence.StandardKey.Cut, "cut"),
    "Copy": (QKeySequence.StandardKey.Copy, "copy"),
    "Paste": (QKeySequence.StandardKey.Paste, "paste"),
    "Select all": (QKeySequence.StandardKey.SelectAll, "selectAll"),
}


class WindowActions(QObject):
    """Builds the menus of one window.

    Signals:
        new_chat_chosen(), attach_chosen(), stop_chosen(), models_chosen(), back_chosen(): the menu
            item or its shortcut.
        paste_outside(): Paste, while no text field has the focus.
    """

    new_chat_chosen = Signal()
    attach_chosen = Signal()
    stop_chosen = Signal()
    models_chosen = Signal()
    back_chosen = Signal()
    paste_outside = Signal()

    def __init__(self, window: QMainWindow, themes: ThemeSource) -> None:
        super().__init__(window)
        self._window = window
        self._themes = themes
        self.menu = QMenu(window)
        self.new_chat = self._action("New chat", QKeySequence.StandardKey.New)
        self.new_chat.triggered.connect(self.new_chat_chosen)
        self.attach = self._action("Attach…", QKeySequence.StandardKey.Open)
        self.attach.triggered.connect(self.attach_chosen)
        self.stop = self._action("Stop the answer", Qt.Key.Key_Escape)
        self.stop.triggered.connect(self.stop_chosen)
        self.models = self._action("Models…", QKeySequence("Ctrl+Shift+M"))
        self.models.triggered.connect(self.models_chosen)
        self.back = self._action("Back to the chat", Qt.Key.Key_Escape)
        self.back.triggered.connect(self.back_chosen)
        self._can_stop = False
        self._above_models = False
        self._share_escape()
        self._build()

    def set_can_stop(self, can_stop: bool) -> None:
        """Whether there is an answer to stop, or a message to keep back."""
        self._can_stop = can_stop
        self._share_escape()

    def set_above_models(self, above_models: bool) -> None:
        """Whether the models are shown, which Esc leaves."""
        self._above_models = above_models
        self._share_escape()

    def _share_escape(self) -> None:
        """Two actions want Esc; only one of them may be enabled."""
        self.back.setEnabled(self._above_models)
        self.stop.setEnabled(self._can_stop and not self._above_models)

    def _build(self) -> None:
        window = self._window
        close = self._action("Close window", QKeySequence.StandardKey.Close)
        close.triggered.connect(window.close)
        leave = self._action("Quit Fireside", QKeySequence.StandardKey.Quit)
        leave.setMenuRole(QAction.MenuRole.QuitRole)
        leave.triggered.connect(window.close)
        file_menu = QMenu("File", window)
        file_menu.addActions([self.new_chat, self.attach, self.stop])
        file_menu.addSeparator()
        file_menu.addActions([self.models, self.back])
        file_menu.addSeparator()
        file_menu.addActions([close, leave])
        menus = [file_menu, self._edit_menu(), self._view_menu()]
        if NATIVE_MENU_BAR:
            for menu in menus:
                window.menuBar().addMenu(menu)
        else:
            for menu in menus:
                self.menu.addMenu(menu)

    def _edit_menu(self) -> QMenu:
        menu = QMenu("Edit", self._window)
        for text, (key, verb) in _EDIT_VERBS.items():
            action = QAction(text, self._window)
            action.setShortcut(QKeySequence(key))
            # Text fields handle these keys themselves; here they only serve whatever has none.
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            action.setData(verb)
            action.triggered.connect(self.on_edit_chosen)
            self._window.addAction(action)
            menu.addAction(action)
            if verb == "redo":
                menu.addSeparator()
        return menu

    def _view_menu(self) -> QMenu:
        menu = QMenu("View", self._window)
        group = QActionGroup(self)
        for text, choice in (
            ("Appearance: as the system", "system"),
            ("Appearance: light", "light"),
            ("Appearance: dark", "dark"),
        ):
            action = QAction(text, self._window)
            action.setCheckable(True)
            action.setChecked(choice == self._themes.choice)
            action.setData(choice)
            action.triggered.connect(self.on_appearance_chosen)
            group.addAction(action)
            menu.addAction(action)
        menu.addSeparator()
        for text, keys, steps in (
            ("Larger text", QKeySequence.StandardKey.ZoomIn, 1),
            ("Smaller text", QKeySequence.StandardKey.ZoomOut, -1),
            ("Usual text size", QKeySequence("Ctrl+0"), 0),
        ):
            action = self._action(text, keys)
            if steps == 1:  # the plus of most keyboards, without Shift
                action.setShortcuts([*action.shortcuts(), QKeySequence("Ctrl+=")])
            action.setData(steps)
            action.triggered.connect(self.on_text_size_chosen)
            menu.addAction(action)
        return menu

    def _action(self, text: str, keys: QKeySequence.StandardKey | QKeySequence | Qt.Key) -> QAction:
        action = QAction(text, self._window)
        action.setShortcuts(
            QKeySequence.keyBindings(keys)
            if isinstance(keys, QKeySequence.StandardKey)
            else [QKeySequence(keys)]
        )
        self._window.addAction(action)
        return action

    @Slot()
    def on_edit_chosen(self) -> None:
        """Do what the item says in the field that has the focus."""
        action = self.sender()
        assert isinstance(action, QAction)
        verb = str(action.data())
        field = QApplication.focusWidget()
        if isinstance(field, QLineEdit | QPlainTextEdit | QTextEdit) and not (
            verb == "paste" and field.isReadOnly()
        ):
            getattr(field, verb)()
        elif verb == "paste":
            self.paste_outside.emit()

    @Slot()
    def on_appearance_chosen(self) -> None:
        """Light, dark, or as the system."""
        action = self.sender()
        assert isinstance(action, QAction)
        choice: AppearanceChoice = action.data()
        self._themes.set_choice(choice)

    @Slot()
    def on_text_size_chosen(self) -> None:
        """A step larger or smaller, or back."""
        action = self.sender()
        assert isinstance(action, QAction)
        self._themes.step_text_size(int(action.data()))
