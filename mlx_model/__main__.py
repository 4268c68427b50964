"""The engine from a terminal: ask, serve other programs, get, convert and compare checkpoints.

Owns words and exit statuses: 0 answered, 2 something a person can put right (one sentence on
standard error), 130 stopped with Ctrl-C. Everything heavy is imported by the command that needs it.
"""

import argparse
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from mlx_model.checkpoint_commands import add_check, add_compare, add_convert
from mlx_model.errors import FiresideError
from mlx_model.events import Event, Finished, Notice, Progress, TextDelta, ThinkingDelta
from mlx_model.library_commands import add_delete, add_download, add_models
from mlx_model.messages import (
    ImagePart,
    Message,
    Part,
    ReplyRequest,
    ReplySettings,
    TextPart,
    VideoPart,
)
from mlx_model.progress_line import ProgressLine

if TYPE_CHECKING:
    from mlx_model import Engine

DEMO_MODEL = Path(__file__).resolve().parent.parent / "assets" / "demo_model"

STATUS_USER_ERROR = 2
STATUS_INTERRUPTED = 130
STATUS_BROKEN_PIPE = 141  # as the shell reports a program that was stopped by SIGPIPE

# How long what was read may take to get to the disk when there is nothing more to do.
_CLOSING_S = 10.0

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
    except FiresideError as error:
        print(error, file=sys.stderr)
        return STATUS_USER_ERROR
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer is gone; give the interpreter something to flush into at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_BROKEN_PIPE
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("unrecognized", "unrecognised")
        sentence = f"{message[:1].upper()}{message[1:]}".rstrip(".")
        print(f"{sentence}. `{self.prog} --help` shows what is possible.", file=sys.stderr)
        raise SystemExit(STATUS_USER_ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mlx_model", description="Qwen3.5 with pictures and clips, on MLX."
    )
    commands = parser.add_subparsers(
        required=True, metavar="ask | chat | models | download | delete | check | convert | compare"
    )
    _add_ask(commands)
    _add_chat(commands)
    add_models(commands)
    add_download(commands)
    add_delete(commands)
    add_check(commands)
    add_convert(commands)
    add_compare(commands)
    return parser


def _add_ask(commands: "argparse._SubParsersAction[Any]") -> None:
    ask = commands.add_parser("ask", help="ask one question and print the answer as it streams")
    ask.add_argument("question", help="in quotation marks if it has more than one word")
    _add_model(ask)
    for name, what in (("--image", "a picture"), ("--video", "a clip")):
        ask.add_argument(
            name,
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"{what} to ask about; as often as needed",
        )
    ask.add_argument(
        "--max-image-tokens",
        type=_count,
        default=ReplySettings().max_image_tokens,
        metavar="N",
        help="what a picture may cost at most; larger ones are made smaller (default: %(default)s)",
    )
    ask.add_argument(
        "--max-frames",
        type=_count,
        default=ReplySettings().max_frames,
        metavar="N",
        help="the most frames of a clip that are looked at (default: %(default)s)",
    )
    ask.add_argument("--think", action="store_true", help="let the model think before it answers")
    ask.add_argument(
        "--temperature",
        type=_temperature,
        default=0.0,
        metavar="T",
        help="0, the default, always takes the likeliest word; 1 is lively",
    )
    ask.add_argument("--seed", type=_seed, metavar="N", help="makes a lively answer repeatable")
    ask.add_argument(
        "--max-tokens",
        type=_count,
        default=ReplySettings().max_tokens,
        metavar="N",
        help="how long thinking and answer may be together (default: %(default)s)",
    )
    ask.add_argument(
        "--thinking-budget",
        type=_budget,
        metavar="N",
        help="ends the thinking after so many tokens; 0 is no thinking",
    )
    ask.add_argument(
        "--stop",
        type=_stop,
        action="append",
        default=[],
        metavar="TEXT",
        help="ends the answer before this text; as often as needed",
    )
    ask.set_defaults(run=_ask)


def _add_chat(commands: "argparse._SubParsersAction[Any]") -> None:
    chat = commands.add_parser("chat", help="serve another program, one JSON object a line")
    chat.add_argument(
        "--jsonl",
        action="store_true",
        required=True,
        help="the only form there is; the README describes it",
    )
    _add_model(chat)
    chat.set_defaults(run=_chat)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        default=DEMO_MODEL,
        metavar="MODEL",
        help="folder of a checkpoint, or a name as `models` shows it (default: the demo model)",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="open it even if it is too large for this machine or fails its self-check",
    )


def _count(text: str) -> int:
    return int(_number(text, int, 1, math.inf))


def _budget(text: str) -> int:
    return int(_number(text, int, 0, math.inf))


def _stop(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty text would stop every answer at once")
    return text


def _seed(text: str) -> int:
    return int(_number(text, int, 0, 2**64 - 1))


def _temperature(text: str) -> float:
    return float(_number(text, float, 0, 100))


def _number(text: str, kind: type[int | float], low: int, high: float) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    noun = "whole number" if kind is int else "number"
    upwards = "upwards" if high == math.inf else f"to {high}"
    raise argparse.ArgumentTypeError(f"{text} is not a {noun} from {low} {upwards}")


def _ask(options: argparse.Namespace) -> int:
    screen = _Screen(sys.stdout, sys.stderr)
    cancel = threading.Event()
    engine = _loaded(options, cancel)
    try:
        for event in engine.reply(_request(options), cancel):
            screen.show(event)
    finally:
        screen.close()
    if cancel.is_set():
        return STATUS_INTERRUPTED
    return STATUS_USER_ERROR if screen.refused else 0


def _loaded(options: argparse.Namespace, cancel: threading.Event) -> "Engine":
    """The engine, checked; from here on Ctrl-C sets `cancel`, and stops the loading too."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where it is ignored
    if heard:
        signal.signal(signal.SIGINT, _leave_at_once)
    from mlx_model import LoadCancelledError, open_engine

    def on_interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        cancel.set()  # Python swallows a KeyboardInterrupt inside a destructor
        raise KeyboardInterrupt

    if heard:
        signal.signal(signal.SIGINT, on_interrupt)
    line = ProgressLine(sys.stderr)
    try:
        return open_engine(
            _folder(options.model),
            cancel=cancel,
            on_progress=lambda stage, done, total: line.show(stage.capitalize(), done, total),
            despite_size=options.anyway,
            despite_check=options.anyway,
        ).engine
    except LoadCancelledError as error:
        raise KeyboardInterrupt from error
    finally:
        line.clear()


def _folder(model: Path) -> Path:
    """What `--model` says: a folder, or else the name of a model on this machine."""
    if model.exists():
        return model
    from mlx_model.library.found import folder_named

    return folder_named(str(model)) or model


def _leave_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    """While modules are imported: an import that is interrupted can end in any error at all."""
    os._exit(STATUS_INTERRUPTED)


def _request(options: argparse.Namespace) -> ReplyRequest:
    content: list[Part] = [ImagePart(path) for path in options.image]
    content += [VideoPart(path) for path in options.video]
    content.append(TextPart(options.question))
    settings = ReplySettings(
        max_tokens=options.max_tokens,
        thinking=options.think,
        temperature=options.temperature,
        seed=options.seed,
        stop=tuple(options.stop),
        thinking_budget=options.thinking_budget,
        max_image_tokens=options.max_image_tokens,
        max_frames=options.max_frames,
    )
    return ReplyRequest((Message("user", tuple(content)),), settings)


def _chat(options: argparse.Namespace) -> int:
    from mlx_model.chat_jsonl import serve

    engine = _loaded(options, threading.Event())
    # A stream of its own, never closed: the reader thread may be waiting on it at the end, and
    # closing it then (as the interpreter does with sys.stdin) would wait for the thread.
    source = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
    try:
        serve(engine, source, sys.stdout.buffer)
    finally:
        engine.close(_CLOSING_S)
    return 0


class _Screen:
    """The answer on standard output, everything else on standard error.

    Progress is only drawn on a terminal. `refused` is True after a reply that could not begin.
    """

    def __init__(self, answer: TextIO, aside: TextIO) -> None:
        if hasattr(answer, "reconfigure"):
            answer.reconfigure(errors="replace")  # a terminal that cannot show every character
        self._answer = answer
        self._aside = aside
        self._draws = aside.isatty()
        self._progress = ProgressLine(aside)
        self._thinking = False
        self._answering = False
        self.refused = False

    def show(self, event: Event) -> None:
        """Put one event where it belongs."""
        match event:
            case Progress(stage, done, total):
                self._progress.show(stage.capitalize(), done, total)
            case ThinkingDelta(text):
                self._progress.clear()
                opening = _DIM if self._draws and not self._thinking else ""
                self._thinking = True
                self._write(self._aside, opening + text)
            case TextDelta(text):
                self._end_thinking()
                self._answering = True
                self._write(self._answer, text)
            case Notice(text):
                self._end_thinking()
                self._write(self._aside, text + "\n")
            case Finished(reason, stats):
                self.refused = reason == "context_full" and stats.generated_tokens == 0
                if reason == "length" and self._draws:
                    self._end_thinking()
                    self._end_answer()
                    count = stats.generated_tokens
                    tokens = "1 token" if count == 1 else f"{count:,} tokens"
                    self._write(self._aside, f"Cut after {tokens}; --max-tokens allows more.\n")

    def close(self) -> None:
        """End every line that is still open."""
        self._end_thinking()
        self._end_answer()

    def _end_thinking(self) -> None:
        self._progress.clear()
        if self._thinking:
            self._thinking = False
            self._write(self._aside, (_PLAIN if self._draws else "") + "\n\n")

    def _end_answer(self) -> None:
        if self._answering:
            self._answering = False
            self._write(self._answer, "\n")

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()


if __name__ == "__main__":
    sys.exit(main())
