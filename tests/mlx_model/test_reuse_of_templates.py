"""What is read again after each turn, under every template: counted in a scripted model's calls."""

import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_model.engine import Engine, ModelLabel
from mlx_model.events import Finished, Prepared, TextDelta, ThinkingDelta
from mlx_model.limits import GIB, MachineLimits
from mlx_model.messages import ImagePart, Message, Part, ReplyRequest, ReplySettings, TextPart
from mlx_model.model import Model
from mlx_model.processor import Processor, load_processor
from mlx_model.weights import load_model
from tests.mlx_model.test_chat_template import source_of
from tests.mlx_model.test_engine import TalkingModel

ASSETS = Path(__file__).parents[2] / "assets"
DEMO = ASSETS / "demo_model"
PICTURE = ImagePart(ASSETS / "samples" / "shapes.png")
LIMITS = MachineLimits(8 * GIB, 4 * GIB, prefill_chunk_tokens=16, vision_piece_work=10**6)
TOOLS = ({"name": "add", "description": "Adds numbers.", "parameters": {"type": "object"}},)
NEVER = threading.Event()


@pytest.fixture(scope="module", params=["demo", "small", "large"])
def processor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Processor:
    source = source_of(request.param)
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    return load_processor(folder)


class Chat:
    """A conversation with a model that says what it is told to, and what its turns took."""

    def __init__(self, processor: Processor, thinking: bool, tools: bool) -> None:
        self.processor = processor
        self.model: Any = TalkingModel([])
        self.engine = Engine(self.model, processor, LIMITS, ModelLabel("Scripted", "", False))
        self.request = ReplyRequest(
            (Message.text("system", "Be brief."),),
            ReplySettings(thinking=thinking),
            TOOLS if tools else (),
        )

    def read(self) -> int:
        """Tokens read in calls since the last time; those that were generated do not count."""
        calls = [call for call in self.model.calls if call.positions is not None]
        self.model.calls.clear()
        return sum(len(call.ids) for call in calls)

    def say(self, message: Message, answer: str) -> "Turn":
        """A turn in which the model answers with these tokens; control tokens may be among them."""
        self.request = replace(self.request, messages=(*self.request.messages, message))
        stop = self.processor.tokenizer.token_to_id("<|im_end|>")
        ids = self.processor.tokenizer.encode(answer, add_special_tokens=False).ids
        self.model.script = [*ids, stop]
        events = list(self.engine.reply(self.request, NEVER))
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
        finished = events[-1]
        assert isinstance(finished, Finished)
        read = self.read()
        assert read == finished.stats.read_tokens
        return Turn(text, thought, finished.stats.prompt_tokens, read, len(ids))

    def catch_up(self) -> int:
        """How many tokens were read for it."""
        *_, done = self.engine.catch_up(NEVER)
        assert isinstance(done, Prepared)
        assert done.is_complete
        read = self.read()
        assert read == done.read_tokens
        return read

    def answered(self, turn: "Turn", keeps_thinking: bool = True) -> None:
        """Put the answer into the history, as a program does that keeps conversations."""
        answer = Message(
            "assistant", (TextPart(turn.text),), turn.thought if keeps_thinking else None
        )
        self.request = replace(self.request, messages=(*self.request.messages, answer))

    def tokens_of(self, text: str) -> int:
        return len(self.processor.tokenizer.encode(text, add_special_tokens=False).ids)

    def new_tokens(self) -> int:
        """What the last message adds to the prompt, with the beginning of the reply."""
        grids = [
            self.processor.image_grid(160, 96)[0]
            for message in self.request.messages
            for part in message.content
            if isinstance(part, ImagePart)
        ]
        prompt = self.processor.prompt(
            self.request.messages, self.request.settings.thinking, self.request.tools, grids
        )
        return prompt.input_ids.size - prompt.turn_starts[-2]


@dataclass(frozen=True)
class Turn:
    text: str
    thought: str
    prompt_tokens: int
    read: int
    said: int


def question(text: str, *parts: ImagePart) -> Message:
    return Message("user", (*parts, TextPart(text)))


THOUGHT = "Is it red? Or is it rather blue? It looks red to me.\n</think>\n\n"
MODES = pytest.mark.parametrize(
    ("thinking", "tools"),
    [(False, False), (False, True), (True, False), (True, True)],
)


@MODES
@pytest.mark.parametrize("keeps_thinking", [True, False])
def test_only_the_new_message_is_read(
    processor: Processor, thinking: bool, tools: bool, keeps_thinking: bool
) -> None:
    chat = Chat(processor, thinking, tools)
    first = chat.say(question("Colour?", PICTURE), "Red.")
    assert first.read == first.prompt_tokens
    for number in range(4):
        assert chat.catch_up() <= chat.tokens_of("It is red, I think.") + 12
        chat.answered(first, keeps_thinking)
        said = THOUGHT * thinking + "It is red, I think."
        parts = (PICTURE,) if number == 2 else ()
        first = chat.say(question(f"And what is number {number} on it?", *parts), said)
        assert first.read <= chat.new_tokens() + 4
        assert first.text == "It is red, I think."


@MODES
def test_without_idle_work_the_visible_answer_is_read_as_well(
    processor: Processor, thinking: bool, tools: bool
) -> None:
    chat = Chat(processor, thinking, tools)
    turn = chat.say(question("Colour?", PICTURE), "Red.")
    for _ in range(3):
        chat.answered(turn)
        answer = chat.tokens_of(turn.text)
        turn = chat.say(question("And what else?"), "It is red, I think.")
        assert turn.read <= answer + chat.new_tokens() + 8


@MODES
def test_what_a_client_keeps_of_the_answer_decides(
    processor: Processor, thinking: bool, tools: bool
) -> None:
    """A history of other words is read from where the words part, and read right."""
    chat = Chat(processor, thinking, tools)
    turn = chat.say(question("Colour?"), "Red.")
    chat.catch_up()
    chat.answered(replace(turn, text="Blue, it is."))
    after = chat.say(question("Sure?"), "Yes.")
    assert after.read <= chat.tokens_of("Blue, it is.") + chat.new_tokens() + 8


CALL = "<tool_call>\n<function=add>\n<parameter=a>\n17\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize("thinking", [False, True])
def test_in_a_chain_of_calls_nothing_that_was_said_is_read(
    processor: Processor, thinking: bool
) -> None:
    chat = Chat(processor, thinking, tools=True)
    thought = "I should add.\n</think>\n\n" if thinking else ""
    turn = chat.say(question("What is 17 + 25?"), thought + CALL)
    for result in ("42", "still 42", "42, as ever"):
        before = turn.prompt_tokens + turn.said
        assert chat.catch_up() == 0
        call = Message(
            "assistant",
            (),
            reasoning=turn.thought or None,
            tool_calls=({"name": "add", "arguments": {"a": "17"}},),
        )
        chat.request = replace(chat.request, messages=(*chat.request.messages, call))
        turn = chat.say(Message.text("tool", result), thought + CALL)
        assert turn.read == turn.prompt_tokens - before
    final = chat.say(question("Thanks. And now?"), thought + "Nothing.")
    assert final.read < final.prompt_tokens - chat.tokens_of("You have access to the functions")


@pytest.fixture(scope="module")
def demo() -> Model:
    return load_model(DEMO)


@pytest.mark.parametrize(
    ("thinking", "tools"),
    [
        (True, False),
        pytest.param(False, False, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, True, marks=pytest.mark.slow),
    ],
)
def test_what_a_real_model_makes_of_it_is_what_it_makes_of_it_cold(
    processor: Processor, demo: Model, thinking: bool, tools: bool
) -> None:
    engine = Engine(demo, processor, LIMITS, ModelLabel("Demo", "", True))
    request = ReplyRequest(
        (question("What colour is the circle?", PICTURE),),
        ReplySettings(max_tokens=24, thinking=thinking),
        TOOLS if tools else (),
    )
    for words in ("How many shapes are there?", "What is 17 + 25?", ""):
        found = []
        for reader in (engine, Engine(demo, processor, LIMITS, ModelLabel("Demo", "", True))):
            events = list(reader.reply(request, NEVER))
            found.append("".join(e.text for e in events if isinstance(e, TextDelta)))
        warm, cold = found
        assert warm == cold
        *_, done = engine.catch_up(NEVER)
        assert isinstance(done, Prepared)
        assert done.is_complete
        answer = Message.text("assistant", warm)
        request = replace(request, messages=(*request.messages, answer, question(words)))


def test_a_beginning_is_one_of_every_prompt_that_goes_on_from_it(processor: Processor) -> None:
    grid = processor.image_grid(160, 96)[0]
    history = (
        Message.text("system", "Be brief."),
        question("Colour?", PICTURE),
        Message.text("assistant", "Red, or <|im_end|>?"),
    )
    for parts in ((), (PICTURE,), (TextPart("See: "), PICTURE)):
        grids = [grid, grid] if PICTURE in parts else [grid]

        def draft(words: str, parts: tuple[Part, ...] = parts) -> tuple[Message, ...]:
            return (*history, Message("user", (*parts, TextPart(words))))

        beginning = processor.prompt_beginning(draft("Wh"), TOOLS, grids).input_ids
        assert beginning.size > 40
        for words in ("What?", "1 + 1", "\n\nHm", "ß"):
            whole = processor.prompt(draft(words), None, TOOLS, grids).input_ids
            np.testing.assert_array_equal(whole[: beginning.size], beginning)
