"""The files of a checkpoint folder that describe its inputs, read and checked.

Owns where each setting may stand and what must agree; knows nothing of how settings are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mlx_model.chat_template import ChatTemplate
from mlx_model.config import VisionConfig, load_config
from mlx_model.errors import CheckpointError
from mlx_model.image_processing import ClipSettings, PixelSettings
from mlx_model.json_file import read_json
from mlx_model.prompt import MediaTokens

# The reference's own cap for a frame, where a checkpoint asks for one without saying which.
_DEFAULT_FRAME_TOKENS = 768


@dataclass(frozen=True, slots=True)
class ProcessorFiles:
    """What a checkpoint folder says about its inputs, read and checked."""

    tokenizer: Tokenizer
    template: ChatTemplate
    media_tokens: MediaTokens
    pictures: PixelSettings | None
    clips: ClipSettings | None
    stop_token_ids: frozenset[int]


def load_processor_files(path: str | Path) -> ProcessorFiles:
    """Raises CheckpointError, naming the file, when one is missing, broken or at odds."""
    folder = Path(path)
    # Before the tokenizer: without it, this is no model's folder at all, and the sentence says so.
    config = load_config(folder)
    tokenizer = _load_tokenizer(folder / "tokenizer.json")
    media_tokens = MediaTokens(
        config.image_token_id,
        config.video_token_id,
        config.vision_start_token_id,
        config.vision_end_token_id,
    )
    pictures, clips = _load_settings(folder) if config.vision else (None, None)
    if config.vision is not None:
        _check_media_tokens(folder, tokenizer, media_tokens)
        for settings in filter(None, (pictures, clips.pixels if clips else None)):
            _check_patches(folder, settings, config.vision)
    return ProcessorFiles(
        tokenizer=tokenizer,
        template=_load_template(folder),
        media_tokens=media_tokens,
        pictures=pictures,
        clips=clips,
        stop_token_ids=_stop_token_ids(folder, tokenizer),
    )


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that every Qwen3.5 has; CheckpointError when this one has not."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise CheckpointError(f"tokenizer.json does not know {token}. Download the model again.")
    return found


def _load_tokenizer(file: Path) -> Tokenizer:
    if not file.is_file():
        raise CheckpointError(
            f"There is no {file.name} in {file.parent}. Download the model again."
        )
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more precise
        raise _unreadable(file) from error


def _load_template(folder: Path) -> ChatTemplate:
    """The template may be a file of its own, or inside one of two JSON files."""
    source: Any = None
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise _unreadable(file) from error
    for name in ("chat_template.json", "tokenizer_config.json"):
        if source is None:
            source = _read_json(folder / name).get("chat_template")
    if isinstance(source, list):
        entries = [entry for entry in source if isinstance(entry, dict)]
        default = [entry.get("template") for entry in entries if entry.get("name") == "default"]
        source = default[-1] if default else None
    if not isinstance(source, str):
        raise CheckpointError(f"There is no chat template in {folder}. Download the model again.")
    return ChatTemplate(source)


def _load_settings(folder: Path) -> tuple[PixelSettings | None, ClipSettings | None]:
    """Newer exports put both into one processor_config.json."""
    both = _read_json(folder / "processor_config.json")
    picture = _read_json(folder / "preprocessor_config.json") or both.get("image_processor")
    clip = _read_json(folder / "video_preprocessor_config.json") or both.get("video_processor")
    return (
        _pixel_settings(picture, folder) if picture else None,
        _clip_settings(clip, folder) if clip else None,
    )


def _pixel_settings(data: Mapping[str, Any], folder: Path) -> PixelSettings:
    try:
        # Some converters write the two bounds by themselves.
        size = data.get("size") or {
            "shortest_edge": data["min_pixels"],
            "longest_edge": data["max_pixels"],
        }
        return PixelSettings(
            patch_size=int(data["patch_size"]),
            temporal_patch_size=int(data["temporal_patch_size"]),
            merge_size=int(data["merge_size"]),
            min_pixels=int(size["shortest_edge"]),
            max_pixels=int(size["longest_edge"]),
            mean=tuple(float(mean) for mean in data["image_mean"]),
            std=tuple(float(std) for std in data["image_std"]),
            rescale_factor=float(data.get("rescale_factor", 1 / 255)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The picture settings in {folder} are incomplete ({error}). Download the model again."
        ) from error


def _clip_settings(data: Mapping[str, Any], folder: Path) -> ClipSettings:
    # The published file leaves these out; the defaults are the reference's own.
    defaults = ClipSettings(_pixel_settings(data, folder))
    try:
        frame_tokens = int(data.get("max_video_tokens") or _DEFAULT_FRAME_TOKENS)
        return ClipSettings(
            pixels=defaults.pixels,
            fps=float(data.get("fps") or defaults.fps),
            min_frames=int(data.get("min_frames") or defaults.min_frames),
            max_frames=int(data.get("max_frames") or defaults.max_frames),
            max_frame_tokens=frame_tokens if data.get("cap_pixels_per_frame") else None,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The clip settings in {folder} cannot be read ({error}). Download the model again."
        ) from error


def _check_patches(folder: Path, settings: PixelSettings, vision: VisionConfig) -> None:
    wanted = (vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
    found = (settings.patch_size, settings.temporal_patch_size, settings.merge_size)
    channels = {vision.in_channels, len(settings.mean), len(settings.std)}
    if found != wanted or len(channels) > 1 or 0.0 in settings.std:
        raise CheckpointError(
            f"The picture settings in {folder} do not fit its config.json. "
            "Download the model again."
        )


def _check_media_tokens(folder: Path, tokenizer: Tokenizer, tokens: MediaTokens) -> None:
    for name, token_id in (
        ("<|image_pad|>", tokens.image),
        ("<|video_pad|>", tokens.video),
        ("<|vision_start|>", tokens.vision_start),
        ("<|vision_end|>", tokens.vision_end),
    ):
        if tokenizer.token_to_id(name) != token_id:
            raise CheckpointError(
                f"config.json and tokenizer.json in {folder} disagree about {name}. "
                "Download the model again."
            )


def _stop_token_ids(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """The end of a turn and of a text, and whatever else the checkpoint stops at."""
    config = _read_json(folder / "config.json")
    found = {token_id(tokenizer, "<|im_end|>"), token_id(tokenizer, "<|endoftext|>")}
    for data in (config, config.get("text_config"), _read_json(folder / "generation_config.json")):
        ids = (data or {}).get("eos_token_id")
        for stop in ids if isinstance(ids, list) else [] if ids is None else [ids]:
            if not isinstance(stop, int):
                raise CheckpointError(
                    f"In {folder}, eos_token_id is not the id of a token. Download the model again."
                )
            found.add(stop)
    return frozenset(found)


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty when there is no such file."""
    if not file.is_file():
        return {}
    try:
        data = read_json(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file) from error
    if not isinstance(data, dict):
        raise _unreadable(file)
    return data


def _unreadable(file: Path) -> CheckpointError:
    return CheckpointError(f"The file {file} cannot be read. Download the model again.")
