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

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mlx_model.chat_template import ChatTemplate
from mlx_model.errors import CheckpointError, PromptError
from mlx_model.messages import Message, TextPart
from mlx_model.turns import plain_tool, plain_turn

MediaKind = Literal["image", "video"]
GridSize = Sequence[int] | npt.NDArray[np.int64]

# Characters of names would be missing from the keys of messages, too.
_EDGED = re.compile(r"[^\w\s].*[^\w\s]|[^\w\s]", re.DOTALL)
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

    Attributes:
        input_ids: int64 [T].
        media: the tokens that stand for pictures and clips, in order.
        turn_point: so many tokens also begin the prompt after the person's next question; behind
            them the template drops the thinking of every answer since the last question, so in a
            chain of tool calls it lies before the first of them.
        turn_starts: where each turn begins, the reply's own last.
        opening: how many tokens the system's turn with the tools takes, which chats may share.
        thinking: whether the reply begins inside its thinking.
    """

    input_ids: npt.NDArray[np.int64]
    media: tuple[MediaSpan, ...]
    turn_point: int
    turn_starts: tuple[int, ...] = ()
    opening: int = 0
    thinking: bool = False

    @property
    def resume_points(self) -> tuple[int, ...]:
        """Lengths at which another prompt is likely to part from this one, shortest first.

        After the opening, after each picture and clip, at the turn point, and at each turn of a
        chain of tool calls behind it.
        """
        media_ends = {(span.kind, span.index): span.stop for span in self.media}
        chain = [start for start in self.turn_starts if start > self.turn_point]
        points = {self.opening, self.turn_point, *media_ends.values(), *chain}
        return tuple(sorted(points - {0}))


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
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Control:
    """A control token; it stands at rendered[start:stop], or nowhere when it was put in later."""

    token_id: int
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class _Pads:
    kind: MediaKind
    index: int
    token_id: int
    count: int


_Piece = _Text | _Control | _Pads


@dataclass(frozen=True, slots=True)
class _Conversation:
    """Turns and tools in which nothing can become a control token, and the masks that see to it.

    `words` stand for what may be said next; they stand nowhere else.
    """

    turns: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    masks: dict[int, str]
    words: str

    def with_next_turn(self) -> "_Conversation":
        """The same after an answer and one more question."""
        more = [{"role": role, "content": self.words} for role in ("assistant", "user")]
        return replace(self, turns=[*self.turns, *more])

    def ending_in_words(self) -> "_Conversation":
        """The same with words at the end of the last turn."""
        last = self.turns[-1]
        content = last["content"]
        is_text = isinstance(content, str)
        words = self.words if is_text else [{"type": "text", "text": self.words}]
        return replace(self, turns=[*self.turns[:-1], {**last, "content": content + words}])


class _Encoded:
    """Token ids in the making, and which of them belong to which stretch of the rendered text."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.spans: list[MediaSpan] = []
        self._borders = [(0, 0)]  # so many rendered characters became so many tokens

    def mark(self, characters: int | None) -> None:
        """Note that what has been rendered up to here ends with the last token so far."""
        if characters is not None:
            self._borders.append((characters, len(self.ids)))

    def tokens_within(self, characters: int) -> int:
        """How many tokens depend on nothing behind the first `characters` rendered ones."""
        return self._borders[bisect.bisect_right(self._borders, characters, key=_first) - 1][1]


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
        thinking: bool | None = False,
        tools: Sequence[Mapping[str, Any]] = (),
        media: MediaPlan | None = None,
    ) -> Prompt:
        """`thinking` None leaves it to the template, which knows what its model does by itself.

        Raises PromptError when the template refuses the conversation or the media do not fit.
        """
        spoken = self._spoken(messages, tools)
        rendered = self._render(spoken, thinking)
        encoded = self._encode(rendered, spoken, media)
        try:
            shared = _shared_length(rendered, self._render(spoken.with_next_turn(), thinking))
        except PromptError:  # it takes the conversation, but not with a next turn: then no reuse
            shared = 0
        return self._prompt(encoded, spoken, turn_point=encoded.tokens_within(shared))

    def build_beginning(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        media: MediaPlan | None = None,
    ) -> Prompt:
        """What every prompt begins with in which `messages` end with more words of the person.

        The last message is that person's; its own words may still be changed behind the last
        picture or clip, and are left out from there on. Raises PromptError as `build`.
        """
        draft = messages[-1]
        shown = [n for n, part in enumerate(draft.content) if not isinstance(part, TextPart)]
        begun = replace(draft, content=draft.content[: max(shown, default=-1) + 1])
        spoken = self._spoken([*messages[:-1], begun], tools)
        rendered = self._render(spoken.ending_in_words(), False)
        beginning = rendered[: max(rendered.find(spoken.words), 0)]
        encoded = self._encode(beginning, spoken, media)
        # Pictures of a draft may still be taken out of it.
        starts = self._turn_starts(encoded.ids)
        turn_point = starts[-1] if shown and starts else len(encoded.ids)
        return self._prompt(encoded, spoken, turn_point)

    def _spoken(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> _Conversation:
        turns = [plain_turn(message) for message in messages]
        descriptions = [plain_tool(tool) for tool in tools]
        masks, words = self._masks(turns, descriptions)
        return _Conversation(
            [_masked(turn, masks) for turn in turns],
            [_masked(tool, masks) for tool in descriptions],
            masks,
            words,
        )

    def _render(self, spoken: _Conversation, thinking: bool | None) -> str:
        return self._template.render(spoken.turns, tools=spoken.tools, thinking=thinking)

    def _encode(self, rendered: str, spoken: _Conversation, media: MediaPlan | None) -> _Encoded:
        unmask = {ord(mask): chr(edge) for edge, mask in spoken.masks.items()}
        pieces = self._expanded(self._pieces(rendered, unmask), media or MediaPlan())
        return self._encoded(pieces, len(rendered))

    def _prompt(self, encoded: _Encoded, spoken: _Conversation, turn_point: int) -> Prompt:
        turn_starts = self._turn_starts(encoded.ids)
        has_opening = bool(spoken.tools) or spoken.turns[0]["role"] == "system"
        return Prompt(
            np.array(encoded.ids, dtype=np.int64),
            tuple(encoded.spans),
            turn_point=turn_point,
            turn_starts=turn_starts,
            opening=turn_starts[1] if has_opening and len(turn_starts) > 1 else 0,
            thinking=self._ends_thinking(encoded.ids),
        )

    def _masks(self, *spoken: Any) -> tuple[dict[int, str], str]:
        """For each edge character, a private-use character that nobody used, and one more."""
        used = set().union(*map(_characters, spoken))
        free = (chr(code) for codes in _PRIVATE_USE for code in codes if chr(code) not in used)
        masks = {ord(edge): mask for edge, mask in zip(self._edges, free, strict=False)}
        words = next(free, None)
        if words is None:
            raise PromptError("The conversation uses every private character there is. Shorten it.")
        return masks, words

    def _pieces(self, rendered: str, unmask: Mapping[int, str]) -> list[_Piece]:
        """The rendered conversation, split at the control tokens that the template wrote."""
        pieces: list[_Piece] = []
        start = 0
        for number, text in enumerate(self._control_pattern.split(rendered)):
            stop = start + len(text)
            if number % 2:
                pieces.append(_Control(self._control_ids[text], start, stop))
            elif text:
                pieces.append(_Text(text.translate(unmask)))
            start = stop
        return pieces

    def _expanded(self, pieces: Sequence[_Piece], media: MediaPlan) -> Iterator[_Piece]:
        """Puts the right number of tokens in the place of each picture and clip."""
        tokens = self._media_tokens
        wrapper = [tokens.vision_start, tokens.video, tokens.vision_end]
        images = videos = position = 0
        while position < len(pieces):
            ids = [_control_id(piece) for piece in pieces[position : position + 3]]
            if ids == wrapper or ids[0] == tokens.video:
                # The template's own pair goes, for each group brings one. So it was done by the
                # processor these checkpoints were published with (transformers 4.57 to 5.9) and
                # by vLLM, which served them. Since 5.10 transformers keeps the pair around all
                # groups (vllm-project/vllm#46817): a rewrite for every model at once lost the
                # case, and the model's own account of positions still shows the form without.
                yield from self._clip(videos, media)
                videos += 1
                position += 3 if ids == wrapper else 1
                continue
            if ids[0] == tokens.image:
                yield self._picture(images, media)
                images += 1
            else:
                yield pieces[position]
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
            yield _Text(f"<{time_s:.1f} seconds>")
            yield _Control(self._media_tokens.vision_start)
            yield _Pads("video", index, self._media_tokens.video, height * width // self._merged)
            yield _Control(self._media_tokens.vision_end)

    def _encoded(self, pieces: Iterable[_Piece], length: int) -> _Encoded:
        """`length` is that of the whole rendered conversation."""
        encoded = _Encoded()
        text: list[str] = []

        def flush() -> None:
            # Neighbouring texts are encoded as one: the tokenizer merges across their border.
            # A batch of one, since `encode` keeps every other thread of the program waiting.
            batch = ["".join(text)]
            flat = self._text_tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            encoded.ids += flat[0].ids
            text.clear()

        for piece in pieces:
            if isinstance(piece, _Text):
                text.append(piece.text)
                continue
            flush()
            if isinstance(piece, _Pads):
                start = len(encoded.ids)
                encoded.ids += [piece.token_id] * piece.count
                encoded.spans.append(MediaSpan(piece.kind, piece.index, start, len(encoded.ids)))
            else:
                encoded.mark(piece.start)
                encoded.ids.append(piece.token_id)
                encoded.mark(piece.stop)
        flush()
        encoded.mark(length)
        return encoded

    def _turn_starts(self, ids: Sequence[int]) -> tuple[int, ...]:
        turn = self._control_ids.get("<|im_start|>")
        return tuple(place for place, token_id in enumerate(ids) if token_id == turn)

    def _ends_thinking(self, ids: Sequence[int]) -> bool:
        """Whether the last mark of thinking opens it."""
        opening, closing = (self._control_ids.get(mark) for mark in ("<think>", "</think>"))
        marks = (token_id for token_id in reversed(ids) if token_id in (opening, closing))
        return next(marks, None) == opening is not None


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
        if reachable or not _EDGED.fullmatch(token):
            raise CheckpointError(
                f"tokenizer.json has a control token, {token!r}, that ordinary text could turn "
                "into. Download the model again."
            )
    return plain


def _control_id(piece: _Piece) -> int | None:
    return piece.token_id if isinstance(piece, _Control) else None


def _first(border: tuple[int, int]) -> int:
    return border[0]


def _shared_length(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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
