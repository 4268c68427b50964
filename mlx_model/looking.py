"""From the pictures and clips of a conversation to embeddings, in pieces that can be stopped.

Finds out what the messages show; then opens one picture after the other and has the vision tower
encode it, unless it is known what would come of that. Knows no prompt: the embeddings come out in
the order in which the conversation shows the media.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_model.errors import MediaError
from mlx_model.events import Progress
from mlx_model.image_processing import Patches
from mlx_model.media import MediaCancelledError, load_image, probe_image, sample_video
from mlx_model.media_file import display_name, read_head, sniff
from mlx_model.messages import ImagePart, MediaSettings, Message, ReplySettings, VideoPart
from mlx_model.processor import Processor
from mlx_model.prompt import MediaKind
from mlx_model.state.file_digest import FileDigest, FileStamp
from mlx_model.state.media_memory import MediaMemory, content_digest
from mlx_model.state.sight import Sight

Grid = NDArray[np.int64]
_T = TypeVar("_T")

# How often the stop button is looked at while a decoder works.
_POLL_S = 0.01


class MediaEncoder(Protocol):
    """The vision side of a model; a grid [1, 3] (t, h, w) is that of one picture or clip."""

    def media_work(self, grid_thw: Grid) -> int:
        """The operations that encoding it takes."""

    def encode_media_in_pieces(
        self, rows: Callable[[slice], NDArray[np.float32]], grid_thw: Grid, piece_work: int
    ) -> Generator[int, None, mx.array]:
        """Its embeddings [tokens, hidden]; yields the work of each piece when it is done."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture or clip: what it holds, as a digest and as a grid [1, 3], and what opens it."""

    digest: bytes
    grid: Grid
    open: Callable[[], Patches]


@dataclass(slots=True)
class MediaQueue:
    """The media of one conversation on their way to the model.

    `encode` takes those that are `waiting` out one by one, so that memory holds the pixels of one
    picture only. A clip has one time for each of its t groups. `digests` tell what all of them
    hold. `notices` are sentences about the newest media that a person should see.

    Shapes: grids [1, 3] (t, h, w) in patches.
    """

    waiting: deque[Medium] = field(default_factory=deque)
    digests: dict[MediaKind, list[bytes]] = field(
        default_factory=lambda: {"image": [], "video": []}
    )
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
    memory: MediaMemory | None = None,
) -> MediaQueue | None:
    """What the messages show: the sizes of the pictures, the frames of the clips.

    What `memory` knows already is not looked at again. Only media of the last user message make
    notices: those of the others were heard before. None when cancelled. Raises MediaError for a
    file that cannot be read.
    """
    media = MediaQueue()
    reader = _MediaReader(processor, settings.media, cancel, memory or MediaMemory(0))
    last = max((n for n, message in enumerate(messages) if message.role == "user"), default=None)
    try:
        for number, message in enumerate(messages):
            for part in message.content:
                notices: list[str] = []
                if isinstance(part, ImagePart):
                    notices = reader.read_picture(part, media)
                elif isinstance(part, VideoPart):
                    notices = reader.read_clip(part, media)
                media.notices += notices if number == last else []
    except MediaCancelledError:
        return None
    return media


@dataclass(frozen=True, slots=True)
class _MediaReader:
    """Puts media at the end of a queue; returns sentences worth saying about them."""

    processor: Processor
    settings: MediaSettings
    cancel: threading.Event
    memory: MediaMemory

    def read_picture(self, part: ImagePart, media: MediaQueue) -> list[str]:
        file, digest = self._digest(part)
        sight = self.memory.sight(digest)
        if sight is None:
            sight = self._look_at_picture(part)
            self._keep(digest, sight, part, file)
        grid = np.array([sight.grid], dtype=np.int64)
        opening = functools.partial(self._open_picture, part, file, sight)
        media.waiting.append(Medium(digest, grid, opening))
        media.digests["image"].append(digest)
        media.image_grids.append(grid)
        size, tokens = (sight.width, sight.height), self.settings.max_image_tokens
        seen, uncapped = (self.processor.image_size(*size, most) for most in (tokens, None))
        notices = [self._made_smaller(part, seen, uncapped)] if seen != uncapped else []
        if sight.frame_count > 1:
            notices.append(
                f"The model sees only the first of the {sight.frame_count:,} frames of "
                f"{display_name(part.path)}."
            )
        return notices

    def read_clip(self, part: VideoPart, media: MediaQueue) -> list[str]:
        file, digest = self._digest(part)
        sight, opening = self.memory.sight(digest), self._opening(part, file)
        if sight is None:
            sight, patches = self._look_at_clip(part)
            self._keep(digest, sight, part, file)
            opening = functools.partial(_given, patches)
        grid = np.array([sight.grid], dtype=np.int64)
        media.waiting.append(Medium(digest, grid, opening))
        media.digests["video"].append(digest)
        media.video_grids.append(grid)
        media.video_times_s.append(sight.times_s)
        return self._notices_of_clip(part, sight)

    def _digest(self, part: ImagePart | VideoPart) -> tuple[FileDigest, bytes]:
        """What the file holds, and what the model sees of it."""
        if sniff(read_head(part.path)) == "unknown":
            # Whoever opens it has the right words; to hash it might take long.
            probe_image(part.path) if isinstance(part, ImagePart) else sample_video(part.path)
        reading = functools.partial(self.memory.files.digest, part.path, self.cancel)
        file = _unless_cancelled(reading, self.cancel)
        return file, content_digest(part, file, self.settings, self.processor)

    def _keep(
        self, digest: bytes, sight: Sight, part: ImagePart | VideoPart, file: FileDigest
    ) -> None:
        _need_unchanged(part, file)
        self.memory.keep(digest, sight)

    def _look_at_picture(self, part: ImagePart) -> Sight:
        info = _unless_cancelled(functools.partial(probe_image, part.path), self.cancel)
        most = self.settings.max_image_tokens
        try:
            grid = self.processor.image_grid(info.width, info.height, most)
        except MediaError as error:  # the processor knows no files
            raise MediaError(f"{display_name(part.path)}: {error}") from error
        return Sight(_sides(grid), info.width, info.height, info.frame_count)

    def _open_picture(self, part: ImagePart, file: FileDigest, sight: Sight) -> Patches:
        _need_unchanged(part, file)
        pixels = load_image(part.path)
        patches = self.processor.image_patches(pixels, self.settings.max_image_tokens)
        if patches.grid != sight.grid:
            raise _changed(part)
        _need_unchanged(part, file)
        return patches

    def _look_at_clip(self, part: VideoPart) -> tuple[Sight, Patches]:
        processor, settings = self.processor, self.settings
        tokens = settings.max_image_tokens
        fewest, most = processor.frame_range(settings.max_frames)
        clip = sample_video(
            part.path,
            fps=part.fps or settings.video_fps,
            max_frames=most,
            min_frames=fewest,
            start_s=part.start_s,
            end_s=part.end_s,
            cancel=self.cancel,
            prepare_frame=functools.partial(processor.fit_frame, max_frame_tokens=tokens),
        )
        patches = processor.video_patches(clip.frames, (clip.height, clip.width), tokens)
        sight = Sight(
            patches.grid,
            clip.width,
            clip.height,
            len(clip.frames),
            processor.group_times(clip.times_s),
            clip.times_s[-1],
            clip.ended_early,
        )
        return sight, patches

    def _opening(self, part: VideoPart, file: FileDigest) -> Callable[[], Patches]:
        """What decodes a clip that was looked at before."""

        def open_clip() -> Patches:
            _need_unchanged(part, file)
            _, patches = self._look_at_clip(part)
            _need_unchanged(part, file)
            return patches

        return open_clip

    def _notices_of_clip(self, part: VideoPart, sight: Sight) -> list[str]:
        processor, settings = self.processor, self.settings
        size, count = (sight.width, sight.height), sight.frame_count
        caps = (settings.max_image_tokens, None)
        seen, uncapped = (processor.video_size(*size, count, cap) for cap in caps)
        notices = [self._made_smaller(part, seen, uncapped)] if seen != uncapped else []
        if count == settings.max_frames < processor.frame_range()[1]:
            frames = "1 frame" if count == 1 else f"{count:,} frames"
            notices.append(
                f"The model sees {frames} of {display_name(part.path)}; the settings allow no more."
            )
        if sight.ended_early:
            notices.append(
                f"{display_name(part.path)} ends earlier than it says; the model sees it up to "
                f"{sight.last_s:.1f} seconds."
            )
        return notices

    def _made_smaller(
        self, part: ImagePart | VideoPart, seen: tuple[int, int], uncapped: tuple[int, int]
    ) -> str:
        most = self.settings.max_image_tokens
        tokens = "1 token" if most == 1 else f"{most:,} tokens"
        return (
            f"The model sees {display_name(part.path)} at {seen[0]} × {seen[1]} instead of "
            f"{uncapped[0]} × {uncapped[1]} pixels: a picture may cost {tokens} at most."
        )


def encode(
    encoder: MediaEncoder,
    media: MediaQueue,
    piece_work: int,
    cancel: threading.Event,
    memory: MediaMemory | None = None,
) -> Generator[Progress, None, mx.array | None]:
    """Open the media and run the vision tower over them, about `piece_work` operations at once.

    What was encoded before is taken from `memory`, and what is encoded is put there. Yields how
    far it has come, in patches, after each piece; returns the embeddings [tokens, hidden] of all
    media one after the other, or None when cancelled or when there are none. Raises MediaError for
    a picture that cannot be read after all.
    """
    memory = memory or MediaMemory(0)
    if not media.waiting:
        return None
    # Held here, too, since the memory may be too small for all of them.
    found = {medium.digest: memory.features.get(medium.digest) for medium in media.waiting}
    grids = {medium.digest: medium.grid for medium in media.waiting if found[medium.digest] is None}
    progress = _WorkProgress(
        sum(int(grid.prod()) for grid in grids.values()),
        sum(encoder.media_work(grid) for grid in grids.values()),
    )
    encoded: list[mx.array] = []
    if grids:
        yield Progress("looking", 0, progress.patches)
    try:
        while media.waiting:
            medium = media.waiting.popleft()
            features = found[medium.digest]
            if features is None:
                steps = _encode_one(encoder, medium, piece_work, cancel, progress)
                digest, patches = medium.digest, int(medium.grid.prod())
                del medium  # and with it the frames of a clip, when they are encoded
                found[digest] = features = yield from steps
                memory.features.put(digest, features)
                media.encoded_patches += patches
            encoded.append(features)
    except MediaCancelledError:
        return None
    mx.clear_cache()
    return mx.concatenate(encoded)


@dataclass(slots=True)
class _WorkProgress:
    """How far the looking has come: told in patches, counted in work.

    A patch of a large picture takes more work than one of a small picture.
    """

    patches: int
    work: int
    work_done: int = 0
    patches_told: int = 0

    def after(self, work: int) -> Iterator[Progress]:
        """What there is to tell when so much more is done."""
        self.work_done += work
        patches = self.patches * self.work_done // self.work
        if patches > self.patches_told:
            self.patches_told = patches
            yield Progress("looking", patches, self.patches)


def _encode_one(
    encoder: MediaEncoder,
    medium: Medium,
    piece_work: int,
    cancel: threading.Event,
    progress: _WorkProgress,
) -> Generator[Progress, None, mx.array]:
    """The embeddings of one picture or clip; MediaCancelledError in place of its next piece."""
    rows, grid = _unless_cancelled(medium.open, cancel), medium.grid
    del medium
    pieces = encoder.encode_media_in_pieces(rows.__getitem__, grid, piece_work)
    while True:
        if cancel.is_set():
            raise MediaCancelledError
        try:
            work = next(pieces)
        except StopIteration as end:
            embeddings: mx.array = end.value
            mx.eval(embeddings)
            return embeddings
        yield from progress.after(work)


def _given(patches: Patches) -> Patches:
    return patches


def _sides(grid: Grid) -> tuple[int, int, int]:
    groups, height, width = (int(side) for side in grid[0])
    return groups, height, width


def _need_unchanged(part: ImagePart | VideoPart, file: FileDigest) -> None:
    """What is decoded must be what was hashed, or it would be kept under the wrong digest."""
    if FileStamp.of(part.path) != file.stamp:
        raise _changed(part)


def _changed(part: ImagePart | VideoPart) -> MediaError:
    return MediaError(f"{display_name(part.path)} has just been changed. Ask again.")


def _unless_cancelled(call: Callable[[], _T], cancel: threading.Event) -> _T:
    """The result of `call`, which may not touch mlx; MediaCancelledError once `cancel` is set.

    A decoder is one call that hears no stop button, and takes up to a second for a photograph. It
    gets a thread of its own, which is left to its end when nobody waits for it any more.
    """
    results: list[_T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  raised where it is waited for
            errors.append(error)

    if cancel.is_set():
        raise MediaCancelledError
    decoder = threading.Thread(target=work, name="decoder")
    decoder.start()
    while decoder.is_alive():
        decoder.join(_POLL_S)
        if cancel.is_set():
            raise MediaCancelledError
    if errors:
        raise errors[0]
    return results[0]
