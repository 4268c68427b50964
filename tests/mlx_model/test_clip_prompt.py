"""The seconds of a clip as they stand in the prompt: the reference's words for every rate."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mlx_model.clips import sample_video
from mlx_model.frame_plan import FrameChoice, plan_by_index
from mlx_model.messages import Message, TextPart, VideoPart
from mlx_model.processor import Processor, load_processor
from tests.mlx_model.preprocessing_cases import SAMPLINGS, sampling_row
from tests.mlx_model.test_frame_plan import TABLES
from tests.mlx_model.timed_clips import write_timed

DEMO = Path(__file__).parents[2] / "assets" / "demo_model"
MEDIA = Path(__file__).parents[1] / "media"
FRAME = np.zeros((64, 64, 3), dtype=np.uint8)
TIME = re.compile(r"<(\d+\.\d) seconds><\|vision_start\|>")
# Preparing hundreds of frames takes a while, and their times are no different.
MOST_FRAMES = 40


@cache
def processor() -> Processor:
    return load_processor(DEMO)


def told(frames: list[np.ndarray], times_s: list[float]) -> list[str]:
    """The seconds in the prompt that is made of these frames."""
    _, grid, group_times = processor().video(frames, times_s)
    clip = Message("user", (VideoPart(Path("a.mp4")), TextPart("What happens?")))
    prompt = processor().prompt([clip], video_grids=[tuple(grid[0])], video_times=[group_times])
    text = processor().tokenizer.decode(prompt.input_ids.tolist(), skip_special_tokens=False)
    return TIME.findall(text)


CASES = [
    (case, golden)
    for case, golden in zip(SAMPLINGS, TABLES["samplings"], strict=True)
    if golden.get("count", 0) <= MOST_FRAMES
]


def test_the_table_holds_every_rate_and_length() -> None:
    assert len(CASES) > 200
    assert {case[1] for case, _ in CASES} == {case[1] for case in SAMPLINGS}
    assert {case[0] for case, _ in CASES} == {case[0] for case in SAMPLINGS}


@pytest.mark.parametrize("rate", sorted({case[1] for case in SAMPLINGS}))
def test_the_prompt_tells_the_references_seconds(rate: float) -> None:
    for case, golden in CASES:
        total, case_rate, fps, fewest, most = case
        if case_rate != rate:
            continue
        numbers = plan_by_index(total, rate, FrameChoice(fps, fewest, most))
        times_s = [number / rate for number in numbers]
        assert sampling_row(numbers, told([FRAME] * len(numbers), times_s)) == golden, case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 4 s at 25 frames a second: 0 and 14, 28 and 42, 57 and 71, 85 and 99 of 25.
        ("h264.mp4", ["0.3", "1.4", "2.6", "3.7"]),
        # 60 frames at 30000/1001: 0 and 20, 39 and 59.
        ("hevc.mov", ["0.3", "1.6"]),
        # 48 frames at 24: 0 and 16, 31 and 47.
        ("vp9.webm", ["0.3", "1.6"]),
    ],
)
def test_a_files_seconds(name: str, expected: list[str]) -> None:
    clip = sample_video(MEDIA / name)
    assert told(clip.frames, clip.times_s) == expected


def test_an_uneven_clips_seconds_are_the_real_ones(tmp_path: Path) -> None:
    # By frame number over rate, it would be 0.1, 0.3 and so on.
    path = write_timed(tmp_path / "a.mp4", [0, 10, 20, 30, 100, 200])
    clip = sample_video(path)
    assert told(clip.frames, clip.times_s) == ["5.0", "25.0", "150.0"]
