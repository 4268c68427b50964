"""Everything between a conversation and the model's inputs, for one checkpoint folder.

Owns the order of the steps; the arithmetic, the prompt and the files have modules of their own.
NumPy only: it never imports mlx, so it may be used on any thread.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlx_model.errors import MediaError
from mlx_model.image_processing import (
    ClipSettings,
    Grid,
    Patches,
    Pixels,
    PixelSettings,
    Values,
    frame_size,
    picture_size,
    resize,
)
from mlx_model.messages import Message
from mlx_model.processor_files import ProcessorFiles, load_processor_files, token_id
from mlx_model.prompt import GridSize, MediaPlan, Prompt, PromptBuilder

# Text-only checkpoints still need a number to divide by; no picture ever reaches it.
_NO_MERGE = 1


class Processor:
    """Prepares pictures, clips and prompts exactly as the checkpoint's own processor does."""

    def __init__(self, files: ProcessorFiles) -> None:
        self.tokenizer = files.tokenizer
        self.stop_token_ids = files.stop_token_ids
        self.think_ids = (
            token_id(files.tokenizer, "<think>"),
            token_id(files.tokenizer, "</think>"),
        )
        self.tool_call_id = files.tokenizer.token_to_id("<tool_call>")
        # Rows of the model's output from here on are padding.
        self.vocab_size_used = max(files.tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.picture_settings = files.pictures
        self.clip_settings = files.clips
        merge_size = files.pictures.merge_size if files.pictures else _NO_MERGE
        self._prompts = PromptBuilder(
            files.tokenizer, files.template, files.media_tokens, merge_size
        )

    def images(
        self, images: Sequence[Pixels], max_image_tokens: int | None = None
    ) -> tuple[Values, Grid]:
        """Pictures as patches: values float32 [P, C*T*ps*ps], grids int64 [pictures, 3] (t, h, w).

        `max_image_tokens` lowers the checkpoint's own budget for each picture, never raises it.
        Raises MediaError for a picture that is too long for its width.
        """
        settings = self._pictures()
        found = [self.image_patches(image, max_image_tokens) for image in images]
        width = len(settings.mean) * settings.temporal_patch_size * settings.patch_size**2
        nothing = np.empty((0, width), dtype=np.float32)
        grids = np.array([patches.grid for patches in found], dtype=np.int64).reshape(-1, 3)
        return np.concatenate([nothing, *(patches[:] for patches in found)]), grids

    def image_patches(self, image: Pixels, max_image_tokens: int | None = None) -> Patches:
        """The same of one picture, its values made as they are asked for."""
        settings = self._pictures()
        size = picture_size(image.shape[0], image.shape[1], settings, max_image_tokens)
        return Patches([resize(image, *size)], settings)

    def video(
        self,
        frames: Sequence[Pixels],
        times_s: Sequence[float],
        source_size: tuple[int, int] | None = None,
        max_frame_tokens: int | None = None,
    ) -> tuple[Values, Grid, tuple[float, ...]]:
        """One clip as patches, its grid int64 [1, 3] and the time in seconds of each frame group.

        `source_size` (height, width) is the clip's own size, for frames that `sample_video`
        already made smaller with `fit_frame`. Raises MediaError as `images` does.
        """
        patches = self.video_patches(frames, source_size, max_frame_tokens)
        return patches[:], np.array([patches.grid], dtype=np.int64), self.group_times(times_s)

    def video_patches(
        self,
        frames: Sequence[Pixels],
        source_size: tuple[int, int] | None = None,
        max_frame_tokens: int | None = None,
    ) -> Patches:
        """The patches of one clip, their values made as they are asked for."""
        settings = self._clips()
        height, width = source_size or (frames[0].shape[0], frames[0].shape[1])
        size = frame_size(len(frames), height, width, settings, max_frame_tokens)
        return Patches([resize(frame, *size) for frame in frames], settings.pixels)

    def group_times(self, times_s: Sequence[float]) -> tuple[float, ...]:
        """The time of each frame group of a clip: the middle of its first and last frame's."""
        size = self._clips().pixels.temporal_patch_size
        times = [*times_s, *[times_s[-1]] * (-len(times_s) % size)]
        return tuple((times[i] + times[i + size - 1]) / 2 for i in range(0, len(times), size))

    def frame_range(self, max_frames: int | None = None) -> tuple[int, int]:
        """The fewest and the most frames of a clip that are looked at.

        `max_frames` lowers the checkpoint's own limit, never raises it.
        """
        own = self._clips()
        most = own.max_frames if max_frames is None else min(max_frames, own.max_frames)
        return min(own.min_frames, most), most

    def fit_frame(
        self, frame: Pixels, frame_count: int, max_frame_tokens: int | None = None
    ) -> Pixels:
        """One of so many frames at the size `video` will give it.

        Meant for `sample_video`'s `prepare_frame`: memory then holds small frames only.
        """
        height, width = frame.shape[:2]
        return resize(
            frame, *frame_size(frame_count, height, width, self._clips(), max_frame_tokens)
        )

    def image_size(
        self, width: int, height: int, max_image_tokens: int | None = None
    ) -> tuple[int, int]:
        """Width and height at which the model sees a picture. Raises MediaError as `images`."""
        size = picture_size(height, width, self._pictures(), max_image_tokens)
        return size[1], size[0]

    def image_grid(self, width: int, height: int, max_image_tokens: int | None = None) -> Grid:
        """The grid int64 [1, 3] that `images` will give a picture of this size."""
        size = self._pictures().patch_size
        new_width, new_height = self.image_size(width, height, max_image_tokens)
        return np.array([[1, new_height // size, new_width // size]], dtype=np.int64)

    def image_tokens(self, width: int, height: int, max_image_tokens: int | None = None) -> int:
        """What a picture costs: the tokens that stand for it, without the two around them."""
        grid = self.image_grid(width, height, max_image_tokens)
        return int(grid.prod()) // self._pictures().merge_size ** 2

    def video_size(
        self, width: int, height: int, frame_count: int, max_frame_tokens: int | None = None
    ) -> tuple[int, int]:
        """Width and height at which the model sees the frames of a clip."""
        size = frame_size(frame_count, height, width, self._clips(), max_frame_tokens)
        return size[1], size[0]

    def video_tokens(
        self,
        width: int,
        height: int,
        frame_count: int,
        max_frame_tokens: int | None = None,
    ) -> int:
        """What a clip costs: the tokens that stand for its frames, without times and borders."""
        pixels = self._clips().pixels
        size = self.video_size(width, height, frame_count, max_frame_tokens)
        groups = -(-frame_count // pixels.temporal_patch_size)
        return groups * size[0] * size[1] // pixels.factor**2

    def prompt(
        self,
        messages: Sequence[Message],
        thinking: bool | None = False,
        tools: Sequence[Mapping[str, Any]] = (),
        image_grids: Sequence[GridSize] = (),
        video_grids: Sequence[GridSize] = (),
        video_times: Sequence[Sequence[float]] = (),
    ) -> Prompt:
        """The conversation as token ids; grids and times in order of appearance.

        `thinking` None is the model's own habit; the prompt says which that is.
        Raises PromptError when the checkpoint's template refuses the conversation.
        """
        media = MediaPlan(image_grids, video_grids, video_times)
        return self._prompts.build(messages, thinking=thinking, tools=tools, media=media)

    def prompt_beginning(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        image_grids: Sequence[GridSize] = (),
        video_grids: Sequence[GridSize] = (),
        video_times: Sequence[Sequence[float]] = (),
    ) -> Prompt:
        """What is certain of the prompt while a person is still writing the last of `messages`.

        Its words behind the last picture or clip are left out. Raises PromptError as `prompt`.
        """
        media = MediaPlan(image_grids, video_grids, video_times)
        return self._prompts.build_beginning(messages, tools=tools, media=media)

    def _pictures(self) -> PixelSettings:
        if self.picture_settings is None:
            raise MediaError("This model reads text only. Choose another model for pictures.")
        return self.picture_settings

    def _clips(self) -> ClipSettings:
        if self.clip_settings is None:
            raise MediaError("This model does not read clips. Choose another model for them.")
        return self.clip_settings


def load_processor(path: str | Path) -> Processor:
    """Raises CheckpointError, naming the file, when one is missing, broken or at odds."""
    return Processor(load_processor_files(path))
