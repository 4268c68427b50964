"""The processor of the demo model's folder, and what it says of folders that are not in order."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_model.errors import CheckpointError, MediaError
from mlx_model.messages import ImagePart, Message, TextPart, VideoPart
from mlx_model.processor import Processor, load_processor

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo_model"
PUBLISHED = ROOT.parent / "shared" / "data"
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(DEMO / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def processor() -> Processor:
    return load_processor(DEMO)


def rewrite(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None takes a field away."""
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def frames(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_pictures_come_out_one_after_the_other(processor: Processor) -> None:
    pictures = [frames(1, 480, 640)[0], frames(1, 128, 128)[0]]
    values, grids = processor.images(pictures)
    assert grids.dtype == np.int64
    assert grids.tolist() == [[1, 6, 8], [1, 8, 8]]
    assert values.dtype == np.float32
    assert values.shape == (48 + 64, 3 * 2 * 16 * 16)
    second, _ = processor.images(pictures[1:])
    np.testing.assert_array_equal(values[48:], second)


def test_no_pictures_make_no_patches(processor: Processor) -> None:
    values, grids = processor.images([])
    assert values.shape == (0, 1536)
    assert grids.shape == (0, 3)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (64, 64), (31, 500), (4032, 3024)])
@pytest.mark.parametrize("limit", [None, 4, 10_000])
def test_the_cost_told_beforehand_is_the_cost(
    processor: Processor, width: int, height: int, limit: int | None
) -> None:
    _, grids = processor.images([np.zeros((height, width, 3), np.uint8)], limit)
    assert processor.image_tokens(width, height, limit) == grids.prod() // 4


@pytest.mark.parametrize("count", [1, 4, 5, 16])
def test_the_cost_of_a_clip_told_beforehand_is_the_cost(processor: Processor, count: int) -> None:
    _, grid, times = processor.video(frames(count, 90, 160), [0.5 * i for i in range(count)])
    assert processor.video_tokens(160, 90, count) == grid.prod() // 4
    assert len(times) == grid[0, 0]


def test_the_demo_models_limits(processor: Processor) -> None:
    """Training counts on these: 16 tokens a picture, 8 groups of 9 tokens a clip."""
    clips = processor.clip_settings
    assert clips is not None
    assert (clips.fps, clips.min_frames, clips.max_frames) == (2.0, 4, 16)
    assert processor.image_tokens(128, 128) == processor.image_tokens(4000, 4000) == 16
    assert processor.video_tokens(96, 96, 16) == processor.video_tokens(2000, 2000, 16) == 8 * 9
    assert processor.video_tokens(640, 480, 16) == 8 * 6
    assert processor.video_tokens(1920, 1080, 4) == 2 * 8


def test_times_are_the_middle_of_each_group(processor: Processor) -> None:
    _, _, times = processor.video(frames(5, 64, 64), [0.0, 0.5, 1.0, 1.5, 2.5])
    assert times == (0.25, 1.25, 2.5)


def test_frames_made_small_while_decoding_give_the_same_clip(processor: Processor) -> None:
    large = frames(7, 150, 333)
    times = [float(i) for i in range(7)]
    small = [processor.fit_frame(frame, len(large)) for frame in large]
    assert small[0].nbytes < large[0].nbytes
    values, grid, _ = processor.video(large, times)
    values_of_small, grid_of_small, _ = processor.video(small, times, source_size=(150, 333))
    assert grid.tolist() == grid_of_small.tolist()
    np.testing.assert_array_equal(values, values_of_small)


def test_a_cap_on_frames_lowers_their_cost(processor: Processor) -> None:
    assert processor.video_tokens(640, 480, 8, max_frame_tokens=4) <= 4 * 4
    assert processor.video_tokens(640, 480, 8, max_frame_tokens=999) == (
        processor.video_tokens(640, 480, 8)
    )


def test_a_prompt_carries_picture_and_clip(processor: Processor) -> None:
    _, image_grids = processor.images(frames(1, 100, 100))
    _, video_grids, times = processor.video(frames(4, 64, 64), [0.0, 0.5, 1.0, 1.5])
    message = Message(
        "user", (ImagePart(Path("a")), VideoPart(Path("b")), TextPart("What is this?"))
    )
    prompt = processor.prompt(
        [message], image_grids=image_grids, video_grids=video_grids, video_times=[times]
    )
    assert [span.kind for span in prompt.media] == ["image", "video", "video"]
    sizes = [span.stop - span.start for span in prompt.media]
    assert sizes[0] == processor.image_tokens(100, 100)
    assert sum(sizes[1:]) == processor.video_tokens(64, 64, 4)
    text = processor.tokenizer.decode(prompt.input_ids.tolist(), skip_special_tokens=False)
    assert "<0.2 seconds><|vision_start|>" in text
    assert "<1.2 seconds><|vision_start|>" in text


def test_ids_that_the_engine_needs(processor: Processor) -> None:
    tokenizer = processor.tokenizer
    wanted = {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")}
    assert wanted <= processor.stop_token_ids
    assert [tokenizer.id_to_token(i) for i in processor.think_ids] == ["<think>", "</think>"]
    assert tokenizer.id_to_token(processor.vocab_size_used - 1) is not None
    assert tokenizer.id_to_token(processor.vocab_size_used) is None


def test_stop_tokens_of_the_generation_config_count(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    assert {7, 8} <= load_processor(folder).stop_token_ids


@pytest.mark.parametrize("holder", ["chat_template.json", "tokenizer_config.json"])
@pytest.mark.parametrize("named", [False, True])
def test_the_template_may_stand_in_either_json_file(folder: Path, holder: str, named: bool) -> None:
    source: Any = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    if named:
        source = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": source}]
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / holder).write_text(json.dumps({"chat_template": source}))
    messages = [Message.text("user", "Hello")]
    wanted = load_processor(DEMO).prompt(messages).input_ids.tolist()
    assert load_processor(folder).prompt(messages).input_ids.tolist() == wanted


def test_both_settings_may_stand_in_one_file(folder: Path, processor: Processor) -> None:
    both = {
        "image_processor": json.loads((folder / "preprocessor_config.json").read_text()),
        "video_processor": json.loads((folder / "video_preprocessor_config.json").read_text()),
    }
    (folder / "preprocessor_config.json").unlink()
    (folder / "video_preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps(both))
    loaded = load_processor(folder)
    assert loaded.picture_settings == processor.picture_settings
    assert loaded.clip_settings == processor.clip_settings


def test_the_bounds_may_stand_by_themselves_as_mlx_vlm_writes_them(
    folder: Path, processor: Processor
) -> None:
    both = {}
    for kind in ("preprocessor", "video_preprocessor"):
        file = folder / f"{kind}_config.json"
        settings = json.loads(file.read_text())
        size = settings.pop("size")
        settings |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        both["video_processor" if "video" in kind else "image_processor"] = settings
        file.unlink()
    (folder / "processor_config.json").write_text(json.dumps(both))
    loaded = load_processor(folder)
    assert loaded.picture_settings == processor.picture_settings
    assert loaded.clip_settings == processor.clip_settings
    del both["image_processor"]["max_pixels"]
    (folder / "processor_config.json").write_text(json.dumps(both))
    with pytest.raises(CheckpointError, match="max_pixels"):
        load_processor(folder)


def test_the_published_settings_are_read_as_the_reference_reads_them(folder: Path) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("the published processor settings are not beside the repository")
    for kind in ("preprocessor", "video_preprocessor"):
        shutil.copy(PUBLISHED / f"qwen3.5.{kind}_config.json", folder / f"{kind}_config.json")
    loaded = load_processor(folder)
    assert loaded.image_tokens(640, 480) == 300
    assert loaded.image_tokens(1920, 1080) == 2040
    assert loaded.image_tokens(4032, 3024) == 11_844
    assert loaded.clip_settings is not None
    assert (loaded.clip_settings.min_frames, loaded.clip_settings.max_frames) == (4, 768)
    # No cap for each frame unless the caller asks: 20 frames of 1080p.
    assert loaded.video_tokens(1920, 1080, 20) == 10 * 1196
    assert loaded.video_tokens(1920, 1080, 20, max_frame_tokens=768) == 10 * 720


def test_frames_are_capped_only_where_the_checkpoint_asks_for_it(folder: Path) -> None:
    file = folder / "video_preprocessor_config.json"
    rewrite(file, cap_pixels_per_frame=None)
    # The whole budget of 147,456 pixels goes to four frames.
    assert load_processor(folder).video_tokens(2000, 2000, 4) == 2 * 36
    rewrite(file, cap_pixels_per_frame=True, max_video_tokens=None)
    loaded = load_processor(folder)
    assert loaded.clip_settings is not None
    assert loaded.clip_settings.max_frame_tokens == 768


@pytest.mark.parametrize("name", [name for name in FILES if "video" not in name])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    if name == "tokenizer_config.json":
        load_processor(folder)  # not needed when the template has a file of its own
        return
    if name == "preprocessor_config.json":
        with pytest.raises(MediaError, match="reads text only"):
            load_processor(folder).images(frames(1, 9, 9))
        return
    with pytest.raises(CheckpointError, match="chat template" if "jinja" in name else name):
        load_processor(folder)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
@pytest.mark.parametrize("broken", ["", "{", "[]", "\x00"])
def test_a_broken_file_is_a_sentence(folder: Path, name: str, broken: str) -> None:
    (folder / name).write_text(broken)
    (folder / "chat_template.jinja").unlink()  # so that tokenizer_config.json is needed
    with pytest.raises(CheckpointError, match=r"\.$"):
        load_processor(folder)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("preprocessor_config.json", {"size": {"shortest_edge": 4096}}),
        ("preprocessor_config.json", {"image_mean": None}),
        ("preprocessor_config.json", {"patch_size": 14}),
        ("video_preprocessor_config.json", {"temporal_patch_size": 1}),
        ("preprocessor_config.json", {"image_mean": [0.5]}),
        ("preprocessor_config.json", {"image_mean": [0.5], "image_std": [0.5]}),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5, 0]}),
        ("video_preprocessor_config.json", {"fps": "often"}),
        ("video_preprocessor_config.json", {"max_frames": ["many"]}),
        ("config.json", {"image_token_id": 3}),
        ("config.json", {"eos_token_id": "<|im_end|>"}),
        ("config.json", {"eos_token_id": [[1]]}),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    folder: Path, name: str, changes: dict[str, Any]
) -> None:
    rewrite(folder / name, **changes)
    with pytest.raises(CheckpointError):
        load_processor(folder)


def test_a_folder_without_a_model_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Choose a folder that holds a model"):
        load_processor(tmp_path / "nothing")


def test_a_broken_template_is_a_sentence(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja cannot be read"):
        load_processor(folder)
    (folder / "chat_template.jinja").unlink()
    rewrite(folder / "tokenizer_config.json", chat_template=["{{ messages }}"])
    with pytest.raises(CheckpointError, match="no chat template"):
        load_processor(folder)


def test_a_model_without_clip_settings_says_so(folder: Path) -> None:
    (folder / "video_preprocessor_config.json").unlink()
    loaded = load_processor(folder)
    assert loaded.image_tokens(128, 128) == 16
    with pytest.raises(MediaError, match="does not read clips"):
        loaded.video(frames(4, 32, 32), [0.0, 1.0, 2.0, 3.0])


def test_mlx_is_never_imported() -> None:
    code = (
        "import sys\n"
        "from mlx_model.processor import load_processor\n"
        "import mlx_model.media\n"
        f"load_processor({str(DEMO)!r})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mlx', 'transformers')])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
