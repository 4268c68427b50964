"""Conversations as token ids, spelled exactly as the demo model's chat template renders them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlx_model import Message, load_processor
from tools.train_demo.questions import Turn, named
from tools.train_demo.tokenizer import DEMO_MODEL

NO_LABEL = -100
NO_THOUGHT = "<think>\n\n</think>\n\n"

Opening = Literal["bare", "no thought", "thought"]
# A number by itself, not the 2 of "bbox_2d".
_NUMBER = re.compile(r"(?<![\w.])\d+(\.\d+)?")
_OPENINGS = {"bare": "", "no thought": NO_THOUGHT, "thought": "<think>\n"}


@dataclass(frozen=True, slots=True)
class Media:
    """What one picture or clip becomes in the prompt: groups of `rows` x `columns` tokens."""

    rows: int
    columns: int
    times_s: tuple[float, ...] | None = None

    @property
    def groups(self) -> int:
        """Temporal groups; a picture has one."""
        return 1 if self.times_s is None else len(self.times_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the question to the answer at tokens `start` to `stop` names: 0 for nothing.

    `number` are the tokens of the first number in the answer, an empty range if it has none.
    """

    start: int
    stop: int
    kind: int
    colour: int
    picture: int
    number: range


@dataclass(slots=True)
class Sample:
    """One conversation: ids, labels (`NO_LABEL` where nothing is learned) and 3-axis positions."""

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    vision_tokens: list[int] = field(default_factory=list)
    group_ends: list[int] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    next_position: int = 0


class DialogueWriter:
    """Appends turns to a `Sample`."""

    def __init__(self) -> None:
        self._processor = load_processor(DEMO_MODEL)
        self._tokenizer = self._processor.tokenizer
        self._image_pad = self._tokenizer.token_to_id("<|image_pad|>")
        self._video_pad = self._tokenizer.token_to_id("<|video_pad|>")
        self._user_start = self._tokenizer.encode("<|im_start|>user").ids

    def write(
        self,
        turns: Sequence[Turn],
        media: Mapping[int, Sequence[Media]],
        openings: Sequence[Opening],
        tools: Sequence[Mapping[str, object]] = (),
    ) -> Sample:
        """The whole conversation; `media[i]` opens turn i, `tools` are offered before all.

        `openings[i]` says how answer i begins: "bare" as the template renders answers of the past,
        "no thought" with its empty thinking block, "thought" with the turn's reasoning.
        """
        sample = Sample()
        if tools:
            self._ids(sample, self._tool_ids(tools))
        for index, turn in enumerate(turns):
            self._text(sample, "<|im_start|>user\n")
            for shown in media.get(index, ()):
                self._media(sample, shown)
            opening, reasoning = _OPENINGS[openings[index]], ""
            if openings[index] == "thought":
                reasoning = f"{turn.reasoning}\n</think>\n\n"
            self._text(sample, f"{turn.question}<|im_end|>\n<|im_start|>assistant\n{opening}")
            start = len(sample.input_ids)
            self._text(sample, f"{reasoning}{turn.answer}<|im_end|>", learned=True)
            number = self._first_number(start, f"{reasoning}{turn.answer}")
            stop = len(sample.input_ids)
            sample.asked.append(Asked(start, stop, *named(turn.question), number))
            self._text(sample, "\n")
        return sample

    def _first_number(self, start: int, answer: str) -> range:
        found = _NUMBER.search(answer)
        if found is None:
            return range(start, start)
        before, until = (self._encode(answer[:end]) for end in found.span())
        return range(start + len(before), start + len(until))

    def _tool_ids(self, tools: Sequence[Mapping[str, object]]) -> list[int]:
        """The system block with the tools, which the template itself writes."""
        prompt = self._processor.prompt([Message.text("user", "Hello")], tools=tools)
        ids = list(prompt.input_ids)
        starts = range(1, len(ids))
        return ids[: next(i for i in starts if ids[i : i + 2] == self._user_start)]

    def _text(self, sample: Sample, text: str, learned: bool = False) -> None:
        self._ids(sample, self._encode(text), learned)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _ids(self, sample: Sample, ids: list[int], learned: bool = False) -> None:
        sample.input_ids += ids
        sample.labels += ids if learned else [NO_LABEL] * len(ids)
        for _ in ids:
            sample.positions.append((sample.next_position,) * 3)
            sample.next_position += 1

    def _media(self, sample: Sample, media: Media) -> None:
        pad = self._image_pad if media.times_s is None else self._video_pad
        for group in range(media.groups):
            if media.times_s is not None:
                self._text(sample, f"<{media.times_s[group]:.1f} seconds>")
            self._text(sample, "<|vision_start|>")
            start = sample.next_position
            for row in range(media.rows):
                for column in range(media.columns):
                    sample.vision_tokens.append(len(sample.input_ids))
                    sample.input_ids.append(pad)
                    sample.labels.append(NO_LABEL)
                    sample.positions.append((start, start + row, start + column))
            sample.next_position = start + max(media.rows, media.columns)
            sample.group_ends.append(len(sample.input_ids))
            self._text(sample, "<|vision_end|>")
