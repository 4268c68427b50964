"""Missing system libraries are named by their Debian packages, in one line."""

import subprocess
import sys

import pytest

from tools.setup import preflight

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lacks libraries")
SCREEN = {"DISPLAY": ":0"}


def test_a_library_that_is_not_there_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    before = preflight.missing_packages({}, offscreen=True)
    monkeypatch.setitem(preflight.LIBRARIES, "libsurely-not-there.so.7", "libsurely7")
    assert preflight.missing_packages({}, offscreen=True) == sorted([*before, "libsurely7"])


def test_a_window_on_a_screen_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preflight.X11_LIBRARIES, "libsurely-not-there.so.7", "libsurely7")
    assert "libsurely7" in preflight.missing_packages(SCREEN, offscreen=False)
    for unseen in (
        preflight.missing_packages(SCREEN, offscreen=True),
        preflight.missing_packages({**SCREEN, "QT_QPA_PLATFORM": "offscreen"}, offscreen=False),
        preflight.missing_packages({}, offscreen=False),
    ):
        assert "libsurely7" not in unseen


def test_no_font_at_all_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight.has_fonts()
    monkeypatch.setattr(preflight, "has_fonts", lambda: False)
    assert preflight.FONTS in preflight.missing_packages({}, offscreen=True)


def test_nothing_is_missing_where_the_tests_run() -> None:
    command = [sys.executable, "-I", preflight.__file__, "--offscreen"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
