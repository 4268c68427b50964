"""Makes tests/goldens/preprocessing: what transformers makes of pictures, clips and sizes.

Run from the repository root, in an environment with torch and transformers:
    python tools/reference/make_preprocessing_goldens.py
Stills go through transformers' PIL image processor. Its video processor needs torchvision, so the
parts of it that need none are called one by one (frame numbers, target size, patch order, times)
and each frame is resized by the PIL processor's arithmetic.
Levels are stored as bytes: normalised values are put back on the scale of 0 to 255, which is
exact for 8-bit pictures, and the first rows also as they are, in fp32. Files are decoded by our own
`load_image`: what is compared begins with the decoded picture.
"""

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_transforms import resize
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mlx_model.stills import load_image  # noqa: E402
from tests.mlx_model import picture_files  # noqa: E402
from tests.mlx_model import preprocessing_cases as cases  # noqa: E402

FOLDER = ROOT / "tests" / "goldens" / "preprocessing"
EXACT_ROWS = 2
PATCH, TEMPORAL, MERGE = 16, 2, 2
FACTOR = PATCH * MERGE
HALF = (0.5, 0.5, 0.5)


def image_processor(budget: dict[str, int], colours: dict[str, Any]) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        size=budget,
        patch_size=PATCH,
        temporal_patch_size=TEMPORAL,
        merge_size=MERGE,
        image_mean=list(colours.get("mean", HALF)),
        image_std=list(colours.get("std", HALF)),
    )


def levels_of(values: np.ndarray, colours: dict[str, Any]) -> np.ndarray:
    """fp32 [P, C*T*ps*ps] back to bytes."""
    by_channel = values.reshape(len(values), 3, -1)
    mean = np.array(colours.get("mean", HALF)).reshape(1, 3, 1)
    std = np.array(colours.get("std", HALF)).reshape(1, 3, 1)
    levels = (by_channel * std + mean) * 255
    rounded = np.rint(levels)
    assert np.abs(levels - rounded).max() < 1e-3
    return rounded.astype(np.uint8).reshape(values.shape)


def still(image: np.ndarray, budget: dict[str, int], colours: dict[str, Any]) -> Any:
    """What the reference makes of one picture [H, W, 3]: values and grid."""
    processor = image_processor(budget, colours)
    out = processor([image], return_tensors="np", input_data_format="channels_last")
    return out["pixel_values"], out["image_grid_thw"][0]


def stills() -> dict[str, np.ndarray]:
    """Pictures made by arithmetic, and pictures that `load_image` decodes from odd files."""
    sources = {
        name: (cases.picture(kind, height, width), budget, colours)
        for name, (kind, height, width, budget, colours) in cases.PICTURES.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in picture_files.FILES:
            image = load_image(picture_files.write(name, Path(folder)))
            sources[name] = (image, cases.DEMO, {})
    arrays = {}
    for name, (image, budget, colours) in sources.items():
        values, grid = still(image, budget, colours)
        arrays[f"{name}.levels"] = levels_of(values, colours)
        arrays[f"{name}.values"] = values[:EXACT_ROWS]
        arrays[f"{name}.grid"] = grid
    return arrays


def random_stills() -> dict[str, list[str]]:
    """Digests of many pictures."""
    return {
        name: [
            random_digest(cases.picture(*picture), budget)
            for picture in cases.random_pictures(count, longest)
        ]
        for name, (budget, count, longest) in cases.RANDOM_PICTURES.items()
    }


def random_digest(image: np.ndarray, budget: dict[str, int]) -> str:
    values, grid = still(image, budget, {})
    return cases.patch_digest(grid, levels_of(values, {}))


def clip_size(
    count: int, height: int, width: int, budget: dict[str, int], cap: int | None
) -> tuple[int, int]:
    """The size that Qwen3VLVideoProcessor.resize asks its base class for."""
    processor = object.__new__(Qwen3VLVideoProcessor)  # its constructor needs torchvision
    processor.max_video_tokens = cap
    with mock.patch.object(TorchvisionBackend, "resize") as base_resize:
        processor.resize(
            videos=torch.empty((1, count, 3, height, width), dtype=torch.uint8, device="meta"),
            size=SizeDict(**budget),
            resample=None,
            factor=FACTOR,
            temporal_factor=TEMPORAL,
            cap_pixels_per_frame=cap is not None,
        )
    size = base_resize.call_args.kwargs["size"]
    return size.height, size.width


def clips() -> dict[str, np.ndarray]:
    arrays = {}
    for name, (kind, height, width, count, budget, cap) in cases.CLIPS.items():
        new_height, new_width = clip_size(count, height, width, budget, cap)
        frames = [
            resize(
                np.moveaxis(frame, -1, 0),
                size=(new_height, new_width),
                resample=PILImageResampling.BICUBIC,
                input_data_format=ChannelDimension.FIRST,
                data_format=ChannelDimension.FIRST,
            )
            for frame in cases.clip(kind, height, width, count)
        ]
        video = torch.from_numpy(np.stack(frames)[None])
        patches, *grid = Qwen3VLVideoProcessor.patchify(
            None, video, patch_size=PATCH, merge_size=MERGE, temporal_patch_size=TEMPORAL
        )
        arrays[f"{name}.levels"] = patches[0].numpy()
        arrays[f"{name}.grid"] = np.array(grid, dtype=np.int64)
    return arrays


def samplings() -> list[dict[str, Any]]:
    """Frame numbers and group times as the text shows them."""
    rows = []
    for total, rate, fps, fewest, most in cases.SAMPLINGS:
        owner = SimpleNamespace(fps=fps, min_frames=fewest, max_frames=most)
        metadata = SimpleNamespace(total_num_frames=total, fps=rate)
        indices = [int(i) for i in Qwen3VLVideoProcessor.sample_frames(owner, metadata, fps=fps)]
        times = Qwen3VLProcessor._calculate_timestamps(None, list(indices), rate, TEMPORAL)
        rows.append(cases.sampling_row(indices, [f"{time:.1f}" for time in times]))
    return rows


def asked(function: Any, *arguments: Any) -> list[int] | None:
    """A size, None where the reference refuses."""
    try:
        return [int(side) for side in function(*arguments)]
    except ValueError:
        return None


def sizes() -> dict[str, Any]:
    """Target sizes of the sweeps."""
    still, moving, drawn = {}, {}, {}
    for name, budget in (("published", cases.PUBLISHED), ("demo", cases.DEMO)):
        bounds = (FACTOR, budget["shortest_edge"], budget["longest_edge"])
        still[name] = [asked(smart_resize, h, w, *bounds) for h, w in cases.size_sweep()]
        drawn[name] = [asked(smart_resize, h, w, *bounds) for h, w in cases.random_sizes(1000, 1)]
    for name, (budget, cap, counts) in cases.CLIP_BUDGETS.items():
        for count in counts:
            found = [asked(clip_size, count, h, w, budget, cap) for h, w in cases.size_sweep()]
            moving[f"{name} {count}"] = found
    return {"still": still, "clip": moving, "random": drawn}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FOLDER / "stills.npz", **stills())
    np.savez_compressed(FOLDER / "clips.npz", **clips())
    tables = {
        "transformers": transformers.__version__,
        "sizes": sizes(),
        "samplings": samplings(),
        "random_stills": random_stills(),
    }
    (FOLDER / "tables.json").write_text(json.dumps(tables, separators=(",", ":")) + "\n")
    for file in sorted(FOLDER.iterdir()):
        print(file.relative_to(ROOT), file.stat().st_size)


if __name__ == "__main__":
    main()
