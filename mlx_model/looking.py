"""From the pictures and clips of a conversation to embeddings, in pieces that can be stopped.

Reads the files, lets the processor cut them into patches and the vision tower encode these. Knows
no prompt: the embeddings come out in the order in which the conversation shows the media.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.events import Progress
from mlx_model.media import MediaCancelledError, load_image, sample_video
from mlx_model.media_file import display_name
from mlx_model.messages import ImagePart, Message, ReplySettings, VideoPart
from mlx_model.processor import Processor

Grid = NDArray[np.int64]


class MediaEncoder(Protocol):
    """The vision side of a model."""

    def encode_media(self, pixel_values: NDArray[np.float32], grid_thw: Grid) -> mx.array:
        """Patches [P, width] of grids [n, 3] (t, h, w) -> [tokens, hidden], unevaluated."""


@dataclass(slots=True)
class MediaPixels:
    """The media of one conversation as patches; `encode` takes the patches out as it goes.

    `notices` are sentences about the files that a person should see. A clip has one time for each
    of its t groups.

    Shapes: each of `pixels` [P, width]; grids [1, 3] (t, h, w) in patches.
    """

    pixels: deque[tuple[NDArray[np.float32], Grid]] = field(default_factory=deque)
    image_grids: list[Grid] = field(default_factory=list)
    video_grids: list[Grid] = field(default_factory=list)
    video_times_s: list[tuple[float, ...]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    encoded_patches: int = 0


def read_media(
    processor: Processor,
    messages: Sequence[Message],
    settings: ReplySettings,
    cancel: threading.Event,
) -> MediaPixels | None:
    """Open every picture and clip that the messages show; None when cancelled.

    Raises MediaError for a file that cannot be read.
    """
    media = MediaPixels()
    for message in messages:
        for part in message.content:
            if cancel.is_set():
                return None
            try:
                if isinstance(part, ImagePart):
                    _read_picture(processor, part, settings, media)
                elif isinstance(part, VideoPart):
                    _read_clip(processor, part, settings, cancel, media)
            except MediaCancelledError:
                return None
    return media


def _read_picture(
    processor: Processor, part: ImagePart, settings: ReplySettings, media: MediaPixels
) -> None:
    values, grid = processor.images([load_image(part.path)], settings.max_image_tokens)
    media.pixels.append((values, grid))
    media.image_grids.append(grid)


def _read_clip(
    processor: Processor,
    part: VideoPart,
    settings: ReplySettings,
    cancel: threading.Event,
    media: MediaPixels,
) -> None:
    min_frames, max_frames = processor.frame_range(settings.max_frames)
    clip = sample_video(
        part.path,
        fps=part.fps or settings.video_fps,
        max_frames=max_frames,
        min_frames=min_frames,
        start_s=part.start_s,
        end_s=part.end_s,
        cancel=cancel,
        prepare_frame=processor.fit_frame,
    )
    values, grid, times_s = processor.video(
        clip.frames, clip.times_s, source_size=(clip.height, clip.width)
    )
    media.pixels.append((values, grid))
    media.video_grids.append(grid)
    media.video_times_s.append(times_s)
    if clip.ended_early:
        media.notices.append(
            f"{display_name(part.path)} ends earlier than it says; the model sees it up to "
            f"{clip.times_s[-1]:.1f} seconds."
        )


def encode(
    encoder: MediaEncoder, media: MediaPixels, piece_patches: int, cancel: threading.Event
) -> Generator[Progress, None, mx.array | None]:
    """Run the vision tower over the media, at most about `piece_patches` at once.

    Yields the patches done after each piece; returns the embeddings [tokens, hidden] of all media
    one after the other, or None when cancelled or when there are none. A picture is always one
    piece, since all its patches look at each other; the frame groups of a clip do not.
    """
    total = sum(len(values) for values, _ in media.pixels)
    if total == 0:
        return None
    encoded: list[mx.array] = []
    yield Progress("looking", 0, total)
    while media.pixels:
        values, grid = media.pixels.popleft()
        for start, stop, piece_grid in pieces(grid, piece_patches):
            if cancel.is_set():
                return None
            rows = encoder.encode_media(values[start:stop], piece_grid)
            mx.eval(rows)
            encoded.append(rows)
            media.encoded_patches += stop - start
            yield Progress("looking", media.encoded_patches, total)
    mx.clear_cache()
    return mx.concatenate(encoded)


def pieces(grid: Grid, piece_patches: int) -> Iterator[tuple[int, int, Grid]]:
    """Cut one picture or clip between frame groups: patch rows start, stop, and their grid [n, 3].

    Each group of a piece is a row (1, h, w) of its grid.
    """
    groups, height, width = (int(side) for side in grid[0])
    area = height * width
    step = max(1, piece_patches // area)
    for first in range(0, groups, step):
        count = min(step, groups - first)
        piece_grid = np.array([[1, height, width]] * count, dtype=np.int64)
        yield first * area, (first + count) * area, piece_grid
