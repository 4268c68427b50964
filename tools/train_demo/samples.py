"""Draws the sample picture and the sample clip in `assets/samples/` (the clip needs ffmpeg).

python -m tools.train_demo.samples
"""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from tools.train_demo.scenes import ClipScene, Rgb, Scene, Shape, render, render_frame

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"
PAPER: Rgb = (243, 239, 233)


def sample_scene() -> Scene:
    """A red circle, a blue square and a yellow triangle."""
    return _scene(
        (
            Shape("circle", "red", (214, 48, 49), 0.22, 0.42, 0.21, 0.0),
            Shape("square", "blue", (41, 98, 222), 0.53, 0.62, 0.25, 0.0),
            Shape("triangle", "yellow", (242, 208, 30), 0.81, 0.45, 0.24, 0.0),
        )
    )


def sample_clip() -> ClipScene:
    """Four seconds of a green circle on its way to the right."""
    scene = _scene((Shape("circle", "green", (34, 160, 70), 0.2, 0.5, 0.2, 0.0),))
    return ClipScene(scene, "right", 0.6, duration_s=4.0, frames_per_s=25.0)


def _scene(shapes: tuple[Shape, ...]) -> Scene:
    return Scene(640, 400, PAPER, PAPER, shapes, supersample=4, jpeg_quality=None, outline=False)


def main() -> None:
    """Writes both files."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    render(sample_scene()).save(SAMPLES / "shapes.png", optimize=True)
    clip = sample_clip()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(clip.frame_count):
            frame: Image.Image = render_frame(clip, index)
            frame.save(Path(folder) / f"{index:03d}.png")
        command = ["ffmpeg", "-v", "error", "-y", "-framerate", f"{clip.frames_per_s:g}"]
        command += [
            "-i",
            f"{folder}/%03d.png",
            "-c:v",
            "libx264",
            "-pix_fmt",
            "yuv420p",
            "-crf",
            "20",
        ]
        command += ["-fflags", "+bitexact", "-movflags", "+faststart", str(SAMPLES / "clip.mp4")]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
