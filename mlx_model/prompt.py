"""Conversations to token ids: renders the chat template, encodes the text, places the media.

Owns the rule that nothing a person, a document or a tool wrote can become a control token, and
the expansion of pictures and clips. Knows nothing of pixels, files on disk or the model.

How the rule is kept: every control token of a vocabulary begins and ends with the same few
characters ("<" and ">" in Qwen3.5's). Before rendering, these characters are replaced in all text
that did not come from the template by private-use characters that occur nowhere in the
conversation; what the template then writes as a control token, it wrote itself. Text between
control tokens gets its characters back and is encoded by a tokenizer that has no control tokens,
so ordinary text yields exactly the ids that encoding the whole rendered conversation would.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import CheckpointError, PromptError
from mlx_model.messages import Message
from mlx_model.turns import plain_tool, plain_turn

MediaKind = Literal["image", "video"]
GridSize = Sequence[int] | npt.NDArray[np.int64]

_PRIVATE_USE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE), range(0xE000, 0xF900))


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """The tokens input_ids[start:stop] that stand for picture or clip number `index`.

    A clip has one span for each of its frame groups, in order.
    """

    kind: MediaKind
    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model reads it.

    `input_ids` is int64 [T]. The first `turn_point` of them also begin the prompt of the next
    turn: after that the template rewrites what the assistant's turn starts with.
    """

    input_ids: npt.NDArray[np.int64]
    media: tuple[MediaSpan, ...]
    turn_point: int


@dataclass(frozen=True, slots=True)
class MediaTokens:
    """Ids of the tokens around and in place of pictures and clips, from the checkpoint's config."""

    image: int
    video: int
    vision_start: int
    vision_end: int


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """What stands behind the placeholders, in order of appearance in the conversation.

    Grids are (t, h, w) in patches before merging; `video_times` are seconds, one for each of t.
    """

    image_grids: Sequence[GridSize] = ()
    video_grids: Sequence[GridSize] = ()
    video_times: Sequence[Sequence[float]] = ()


@dataclass(frozen=True, slots=True)
class _Control:
    token_id: int


@dataclass(frozen=True, slots=True)
class _Pads:
    kind: MediaKind
    index: int
    token_id: int
    count: int


_Piece = str | _Control | _Pads


class PromptBuilder:
    """Turns messages into prompts for one checkpoint."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        media_tokens: MediaTokens,
        merge_size: int,
    ) -> None:
        """Raises CheckpointError when the tokenizer cannot keep text and control tokens apart."""
        self._template = template
        self._media_tokens = media_tokens
        self._merged = merge_size**2
        self._control_ids = {
            token.content: token_id
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._text_tokenizer = _text_tokenizer(tokenizer, self._control_ids)
        # Longest first, as the tokenizer itself matches them.
        longest_first = sorted(self._control_ids, key=len, reverse=True)
        self._control_pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._edges = sorted({edge for token in longest_first for edge in (token[0], token[-1])})

    def build(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        media: MediaPlan | None = None,
    ) -> Prompt:
        """Raises PromptError when the template refuses the conversation or the media do not fit."""
        media = media or MediaPlan()
        turns = [plain_turn(message) for message in messages]
        descriptions = [plain_tool(tool) for tool in tools]
        masks = self._masks(turns, descriptions)
        rendered = self._template.render(
            _masked(turns, masks), tools=_masked(descriptions, masks), thinking=thinking
        )
        unmask = {ord(mask): chr(edge) for edge, mask in masks.items()}
        pieces = list(self._expanded(self._pieces(rendered, unmask), media))
        return self._encoded(pieces)

    def _masks(self, *spoken: Any) -> dict[int, str]:
        """For each edge character, a private-use character that nobody used."""
        used = set().union(*map(_characters, spoken))
        free = (chr(code) for codes in _PRIVATE_USE for code in codes if chr(code) not in used)
        masks = {ord(edge): mask for edge, mask in zip(self._edges, free, strict=False)}
        if len(masks) < len(self._edges):
            raise PromptError("The conversation uses every private character there is. Shorten it.")
        return masks

    def _pieces(self, rendered: str, unmask: Mapping[int, str]) -> list[_Piece]:
        """The rendered conversation, split at the control tokens that the template wrote."""
        pieces: list[_Piece] = []
        for number, text in enumerate(self._control_pattern.split(rendered)):
            if number % 2:
                pieces.append(_Control(self._control_ids[text]))
            elif text:
                pieces.append(text.translate(unmask))
        return pieces

    def _expanded(self, pieces: Sequence[_Piece], media: MediaPlan) -> Iterator[_Piece]:
        """Puts the right number of tokens in the place of each picture and clip."""
        tokens = self._media_tokens
        wrapper = [_Control(i) for i in (tokens.vision_start, tokens.video, tokens.vision_end)]
        images = videos = position = 0
        while position < len(pieces):
            piece = pieces[position]
            if pieces[position : position + 3] == wrapper or piece == wrapper[1]:
                # A clip brings a pair of its own for each group, so the template's pair goes.
                yield from self._clip(videos, media)
                videos += 1
                position += 3 if piece == wrapper[0] else 1
                continue
            if piece == _Control(tokens.image):
                yield self._picture(images, media)
                images += 1
            else:
                yield piece
            position += 1
        if images != len(media.image_grids) or videos != len(media.video_grids):
            raise PromptError(
                f"The conversation shows {images} pictures and {videos} clips, but "
                f"{len(media.image_grids)} and {len(media.video_grids)} were prepared."
            )

    def _picture(self, index: int, media: MediaPlan) -> _Pads:
        if index >= len(media.image_grids):
            raise PromptError(f"Picture {index + 1} of the conversation was not prepared.")
        groups, height, width = (int(side) for side in media.image_grids[index])
        count = groups * height * width // self._merged
        return _Pads("image", index, self._media_tokens.image, count)

    def _clip(self, index: int, media: MediaPlan) -> Iterator[_Piece]:
        if index >= min(len(media.video_grids), len(media.video_times)):
            raise PromptError(f"Clip {index + 1} of the conversation was not prepared.")
        groups, height, width = (int(side) for side in media.video_grids[index])
        times = media.video_times[index]
        if len(times) != groups:
            raise PromptError(f"Clip {index + 1} has {groups} frame groups but {len(times)} times.")
        for time_s in times:
            yield f"<{time_s:.1f} seconds>"
            yield _Control(self._media_tokens.vision_start)
            yield _Pads("video", index, self._media_tokens.video, height * width // self._merged)
            yield _Control(self._media_tokens.vision_end)

    def _encoded(self, pieces: Sequence[_Piece]) -> Prompt:
        ids: list[int] = []
        spans: list[MediaSpan] = []
        text: list[str] = []
        turn_start = self._control_ids.get("<|im_start|>")
        turn_point: int | None = None

        def flush() -> None:
            # Neighbouring texts are encoded as one: the tokenizer merges across their border.
            # A batch of one, since `encode` keeps every other thread of the program waiting.
            batch = ["".join(text)]
            encoded = self._text_tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids.extend(encoded[0].ids)
            text.clear()

        for piece in pieces:
            if isinstance(piece, str):
                text.append(piece)
                continue
            flush()
            if isinstance(piece, _Pads):
                spans.append(MediaSpan(piece.kind, piece.index, len(ids), len(ids) + piece.count))
                ids.extend([piece.token_id] * piece.count)
                continue
            if piece.token_id == turn_start:
                turn_point = None
            elif turn_point is None:
                turn_point = len(ids)
            ids.append(piece.token_id)
        flush()
        if turn_point is None:
            turn_point = len(ids)
        return Prompt(np.array(ids, dtype=np.int64), tuple(spans), turn_point)


def _text_tokenizer(tokenizer: Tokenizer, control_ids: Mapping[str, int]) -> Tokenizer:
    """The same tokenizer without control tokens; the vocabulary itself is shared, not copied."""
    plain = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        plain.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        plain.pre_tokenizer = tokenizer.pre_tokenizer
    forbidden = set(control_ids.values())
    for token in control_ids:
        reachable = not forbidden.isdisjoint(plain.encode(token, add_special_tokens=False).ids)
        if reachable or token[0].isalnum() or token[-1].isalnum() or token != token.strip():
            raise CheckpointError(
                f"tokenizer.json has a control token, {token!r}, that ordinary text could turn "
                "into. Download the model again."
            )
    return plain


def _masked(value: Any, masks: Mapping[int, str]) -> Any:
    if isinstance(value, str):
        return value.translate(masks)
    if isinstance(value, Mapping):
        return {_masked(key, masks): _masked(item, masks) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, masks) for item in value]
    return value


def _characters(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(value)
    if isinstance(value, Mapping):
        return set().union(*map(_characters, value), *map(_characters, value.values()))
    if isinstance(value, list):
        return set().union(*map(_characters, value))
    return set()
