"""Whatever is dropped on the program that is no sound picture or clip: one sentence each."""

import contextlib
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_model.boxes import Box
from mlx_model.clips import probe_video, sample_video
from mlx_model.errors import MediaError
from mlx_model.frame_plan import FrameChoice, plan_by_index
from mlx_model.media import media_kind
from mlx_model.stills import load_image, probe_image
from tests.mlx_model.numbered_frames import number_of, numbered_frame
from tests.mlx_model.timed_clips import rewrite, write_steady

MEDIA = Path(__file__).parents[1] / "media"
LOADERS = (media_kind, probe_image, load_image, probe_video, sample_video)


def sentence_of(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 250
    return sentence


def empty(folder: Path) -> Path:
    (folder / "empty.png").touch()
    return folder / "empty.png"


def text_named_png(folder: Path) -> Path:
    (folder / "notes.png").write_text("Dear diary", encoding="utf-8")
    return folder / "notes.png"


def a_folder(folder: Path) -> Path:
    (folder / "pictures.png").mkdir()
    return folder / "pictures.png"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def missing(folder: Path) -> Path:
    return folder / "gone.mp4"


def link_to_nothing(folder: Path) -> Path:
    (folder / "link.mp4").symlink_to(folder / "nothing")
    return folder / "link.mp4"


def link_to_itself(folder: Path) -> Path:
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    return folder / "loop.mp4"


def too_long_a_name(folder: Path) -> Path:
    return folder / ("long " * 100 + ".mp4")


def too_long_a_path(folder: Path) -> Path:
    return folder / ("deep/" * 2000 + "a.mp4")


def name_with_a_zero(folder: Path) -> Path:
    return folder / "ze\0ro.mp4"


def inside_a_file(folder: Path) -> Path:
    return text_named_png(folder) / "inside.png"


def device(folder: Path) -> Path:
    return Path("/dev/zero")


BAD: dict[Callable[[Path], Path], str] = {
    empty: "is empty",
    text_named_png: "is not a",
    a_folder: "is a folder",
    pipe: "is not an ordinary file",
    device: "is not an ordinary file",
    missing: "cannot be found",
    link_to_nothing: "cannot be found",
    link_to_itself: "cannot be opened",
    too_long_a_name: "cannot be opened",
    too_long_a_path: "cannot be opened",
    name_with_a_zero: "cannot be opened",
    inside_a_file: "cannot be opened",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("read", LOADERS, ids=lambda read: read.__name__)
def test_what_no_loader_opens(
    tmp_path: Path, make: Callable[[Path], Path], read: Callable[[Path], object]
) -> None:
    assert BAD[make] in sentence_of(read, make(tmp_path))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="fireside-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_socket(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_folder / "s.png"))
        for read in LOADERS:
            assert "is not an ordinary file" in sentence_of(read, short_folder / "s.png")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("ROOT MAY READ EVERYTHING: nothing can be forbidden here")
    path = tmp_path / "secret.png"
    Image.fromarray(numbered_frame(1)).save(path)
    path.chmod(0)
    for read in LOADERS:
        assert "may not be read" in sentence_of(read, path)


@pytest.mark.parametrize(
    "name",
    [
        "👩‍👩‍👧 😀\nsecond line\t.x",
        "a" * 250 + ".x",
        "\u202etxt.gpj.x",
        "%s %n {0} $(id) `id` ' \" \\.x",
        " .x",
        "http:__example.x",
    ],
)
def test_any_name_is_a_good_name(tmp_path: Path, name: str) -> None:
    picture, clip = tmp_path / name, tmp_path / f"1{name[1:]}"
    shutil.copy(MEDIA / "photo.heic", picture)
    shutil.copy(MEDIA / "vp9.webm", clip)
    assert number_of(load_image(picture)) == 5
    assert number_of(sample_video(clip).frames[0]) == 0
    assert sentence_of(load_image, clip)
    assert sentence_of(sample_video, picture)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for source, ending in (("h264.mp4", b".mp4"), ("vp9.webm", b".webm"), ("photo.heic", b".heic")):
        path = Path(os.fsdecode(folder + b"/\xff\xfe" + ending))
        try:
            shutil.copy(MEDIA / source, path)
        except OSError:
            pytest.skip("THIS FILE SYSTEM WANTS TEXT: no such names here")
        if source == "photo.heic":
            assert number_of(load_image(path)) == 5
            assert sentence_of(sample_video, path).encode()
        else:
            assert number_of(sample_video(path, start_s=1.0).frames[0]) > 20
            assert probe_video(path).frame_count > 40
            assert sentence_of(load_image, path).encode()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_short(tmp_path: Path, share: float, progressive: bool) -> None:
    whole, path = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, progressive=progressive)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged or incomplete" in sentence_of(load_image, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_film_cut_before_its_table(tmp_path: Path, share: float) -> None:
    content = write_steady(tmp_path / "whole.mp4", 40).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: int(len(content) * share)])
    for read in (probe_video, sample_video):
        assert "damaged, incomplete or sound only" in sentence_of(read, path)


def test_a_film_without_frames(tmp_path: Path) -> None:
    path = write_steady(tmp_path / "a.mp4", 10)
    counted = (b"stts", b"stss", b"stsc", b"stco")

    def emptied(box: Box) -> bytes | None:
        return bytes(12) if box.name == b"stsz" else bytes(8) if box.name in counted else None

    rewrite(path, emptied)
    assert "cannot be read" in sentence_of(sample_video, path)


@pytest.mark.parametrize("said_s", [100.0, 0.5])
def test_a_header_that_lies_about_the_length(tmp_path: Path, said_s: float) -> None:
    path = write_steady(tmp_path / "a.mkv", 200)
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # the length in ms
    path.write_bytes(content[:place] + struct.pack(">d", said_s * 1000) + content[place + 8 :])
    clip = sample_video(path)
    numbers = [number_of(frame) for frame in clip.frames]
    assert clip.times_s == pytest.approx([number / 30 for number in numbers], abs=2e-3)
    assert clip.ended_early == (said_s > 10)
    # Longer than it is: spread over what is there. Shorter: only what was promised.
    assert numbers == plan_by_index(200 if said_s > 10 else 15, 30.0, FrameChoice())


def replace_by_nothing(path: Path) -> None:
    path.unlink()


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_less(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [replace_by_nothing, replace_by_a_folder, replace_by_a_pipe, replace_by_less],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm"])
def test_a_clip_that_changes_between_looking_and_reading(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    shutil.copy(MEDIA / name, path)
    probe_video(path)
    change(path)
    assert path.name in sentence_of(sample_video, path)


@pytest.mark.parametrize(
    "change",
    [replace_by_nothing, replace_by_a_folder, replace_by_less],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "a.gif"])
def test_a_clip_that_changes_while_it_is_read(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    if name == "a.gif":
        first, *others = (Image.fromarray(numbered_frame(n)) for n in range(30))
        first.save(path, save_all=True, append_images=others, duration=100)
    else:
        shutil.copy(MEDIA / name, path)
    changed = []

    def prepare(frame: np.ndarray, frame_count: int) -> np.ndarray:
        if not changed:
            change(path)
            changed.append(1)
        return frame

    with contextlib.suppress(MediaError):
        clip = sample_video(path, prepare_frame=prepare)
        assert len(clip.frames) == len(clip.times_s) > 0
    assert changed
