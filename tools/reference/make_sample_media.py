"""Makes tests/media: small clips and stills that our own libraries can read but not write.

Run from the repository root, with ffmpeg (libx264, libx265, libvpx) on the path and pillow-heif
installed:  python tools/reference/make_sample_media.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mlx_model import colour_profiles  # noqa: E402
from tests.mlx_model.numbered_frames import numbered_frame  # noqa: E402

FOLDER = ROOT / "tests" / "media"
FFMPEG = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y"]
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "30", "-bf", "2"]
HEVC = ["-c:v", "libx265", "-x265-params", "log-level=error", "-tag:v", "hvc1", "-crf", "32"]


def ffmpeg(*arguments: str) -> None:
    subprocess.run([*FFMPEG, *arguments], check=True)


def write_frames(folder: Path, count: int, turned: int = 0) -> str:
    """Numbered PNG files, `turned` by so many degrees to the right, as a phone's sensor does."""
    for number in range(count):
        frame = np.rot90(numbered_frame(number), -(turned // 90))
        Image.fromarray(np.ascontiguousarray(frame)).save(folder / f"{number:03}.png")
    return str(folder / "%03d.png")


def steady(name: str, rate: str, count: int, *codec: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pattern = write_frames(Path(folder), count)
        ffmpeg("-framerate", rate, "-i", pattern, *codec, str(FOLDER / name))


def rotated(name: str, degrees: int, count: int) -> None:
    """Stored turned, with the mark that tells players to turn it back."""
    with tempfile.TemporaryDirectory() as folder:
        pattern = write_frames(Path(folder), count, turned=degrees)
        flat = str(Path(folder) / "flat.mp4")
        ffmpeg("-framerate", "15", "-i", pattern, *H264, flat)
        ffmpeg(
            *("-i", flat, "-c", "copy", "-metadata:s:v", f"rotate={degrees}"),
            str(FOLDER / name),
        )


def key_frames() -> None:
    """Key frames of every kind, 12 frames apart; and a cut that begins between two of them."""
    kinds = {
        "key_frames.mp4": ("-bf", "2", "-x264-params", "keyint=12:scenecut=0"),
        "open_groups.mp4": ("-bf", "3", "-x264-params", "keyint=12:scenecut=0:open-gop=1"),
        "refresh.mp4": ("-bf", "0", "-x264-params", "keyint=24:scenecut=0:intra-refresh=1"),
    }
    for name, options in kinds.items():
        steady(name, "30", 96, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "32", *options)
    groups = "log-level=error:keyint=12:open-gop=1:scenecut=0:bframes=3"
    hevc = ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-tag:v", "hvc1", "-crf", "40")
    steady("open_groups.mov", "30", 60, *hevc, "-x265-params", groups)
    whole, cut = str(FOLDER / "key_frames.mp4"), str(FOLDER / "trimmed.mp4")
    ffmpeg("-ss", "1.02", "-t", "1.6", "-i", whole, "-c", "copy", cut)


def uneven() -> None:
    """Thirty frames in a second, one held for three seconds, thirty more in a second."""
    seconds = "if(lte(N,30),N/30,4+(N-31)/30)"
    with tempfile.TemporaryDirectory() as folder:
        pattern = write_frames(Path(folder), 61)
        ffmpeg(
            *("-framerate", "30", "-i", pattern, "-vf", f"setpts='{seconds}/TB'"),
            *("-fps_mode", "vfr", "-video_track_timescale", "30000", *H264),
            str(FOLDER / "uneven.mp4"),
        )
    ffmpeg("-i", str(FOLDER / "uneven.mp4"), "-c", "copy", str(FOLDER / "uneven.mkv"))


def stills() -> None:
    """An upright picture, one on its side with the mark that turns it, one in the colours of P3."""
    pillow_heif.register_heif_opener()
    Image.fromarray(numbered_frame(5)).save(FOLDER / "photo.heic", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(numbered_frame(6))))
    sideways.save(FOLDER / "turned.heic", quality=90, exif=exif.tobytes())
    red = Image.new("RGB", (64, 64), (234, 51, 35))  # what sRGB's purest red is in P3
    red.save(FOLDER / "p3.heic", quality=90, icc_profile=colour_profiles.display_p3())


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    steady("h264.mp4", "25", 100, *H264, "-movflags", "+faststart")
    steady("hevc.mov", "30000/1001", 60, *HEVC)
    steady("vp9.webm", "24", 48, "-c:v", "libvpx-vp9", "-crf", "40", "-b:v", "0")
    rotated("rotated.mp4", 90, 30)
    rotated("rotated180.mp4", 180, 12)
    rotated("rotated270.mp4", 270, 12)
    uneven()
    key_frames()
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-b:a", "32k", str(FOLDER / "sound.m4a"))
    stills()
    for file in sorted(FOLDER.iterdir()):
        print(file.relative_to(ROOT), file.stat().st_size)


if __name__ == "__main__":
    main()
