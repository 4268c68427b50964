"""What was chosen is there at the next start, and a file that somebody spoiled does no harm."""

from pathlib import Path

from app.preferences import Preferences


def test_choices_are_there_at_the_next_start(tmp_path: Path) -> None:
    first = Preferences(tmp_path)
    assert first.model_folder is None
    assert (first.added_folders, first.ways, first.unfinished) == ([], {}, {})
    first.model_folder = Path("/models/a, b; c=d")
    first.added_folders = [Path("/one"), Path("/two, three")]
    first.ways = {"Qwen3.5-4B": "ready"}
    first.unfinished = {"Qwen3.5-4B": "ready"}
    second = Preferences(tmp_path)
    assert second.model_folder == Path("/models/a, b; c=d")
    assert second.added_folders == [Path("/one"), Path("/two, three")]
    assert second.ways == second.unfinished == {"Qwen3.5-4B": "ready"}
    second.model_folder = None
    assert Preferences(tmp_path).model_folder is None


def test_a_spoiled_file_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("[models]\nfolders={not json\nways=[1, 2]\nunfinished=7")
    preferences = Preferences(tmp_path)
    assert (preferences.added_folders, preferences.ways, preferences.unfinished) == ([], {}, {})
