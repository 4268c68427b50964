"""The two commands as a person and another program meet them: real processes, the demo model."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlx_model.__main__ import main
from mlx_model.cache_folder import VARIABLE as CACHE

ROOT = Path(__file__).parents[2]
PICTURE = "assets/samples/shapes.png"
CLIP = "assets/samples/clip.mp4"
COMMAND = [sys.executable, "-m", "mlx_model"]
WAIT_S = 60
# Takes the demo model a while to read, and still fits its context.
LONG_TEXT = "red circle, " * 900


@pytest.fixture(autouse=True)
def _heard_control_c() -> Iterator[None]:
    """A program started in the background of a shell inherits a deaf ear for Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WAIT_S,
        check=False,
    )


def test_ask_prints_the_answer_and_nothing_else() -> None:
    done = run("ask", "--image", PICTURE, "--video", CLIP, "What is this?")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.strip()
    assert done.stdout.endswith("\n")


def test_ask_says_what_a_cap_takes_away() -> None:
    caps = ("--max-image-tokens", "4", "--max-frames", "4")
    done = run("ask", *caps, "--image", PICTURE, "--video", CLIP, "What is this?")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [line.split("“")[1].split("”")[0] for line in lines] == ["shapes.png"] + 2 * ["clip.mp4"]
    assert all("4" in line for line in lines)


def test_ask_repeats_itself_with_the_same_seed() -> None:
    arguments = ("ask", "--temperature", "5", "--max-tokens", "12", "Who are you?")
    first, again = (run(*arguments, "--seed", "5").stdout for _ in range(2))
    assert first == again
    assert any(run(*arguments, "--seed", str(seed)).stdout != first for seed in range(1, 5))


def test_ask_ends_the_answer_before_a_stop_string_and_the_thinking_at_its_budget() -> None:
    question = "List the shapes from left to right."
    whole = run("ask", "--image", PICTURE, question).stdout
    first, rest = whole.split(",", 1)
    stop = ("--stop", "nowhere", "--stop", f",{rest[:3]}")
    assert run("ask", "--image", PICTURE, *stop, question).stdout == first + "\n"
    done = run("ask", "--image", PICTURE, "--think", "--thinking-budget", "2", question)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "at its limit of 2 tokens" in done.stderr


def test_a_user_error_is_one_sentence_and_status_2() -> None:
    done = run("ask", "--image", "gone.png", "What?")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "gone.png" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ask", "--image", "pyproject.toml", "What?"], "pyproject.toml"),
        (["ask", "--video", PICTURE, "What?"], "shapes.png"),
        (["ask", "--model", "gone", "What?"], "gone"),
        (["ask", LONG_TEXT * 10], "tokens"),
        (["ask"], "question"),
        (["ask", "--max-tokens", "0", "What?"], "max-tokens"),
        (["ask", "--max-image-tokens", "0", "What?"], "max-image-tokens"),
        (["ask", "--max-frames", "none", "What?"], "max-frames"),
        (["ask", "--seed", "x", "What?"], "seed"),
        (["ask", "--seed", "-1", "What?"], "seed"),
        (["ask", "--max-tokens", "1.5", "What?"], "1.5 is not a whole number from 1 upwards"),
        (["ask", "--temperature", "nan", "What?"], "temperature"),
        (["ask", "--thinking-budget", "-1", "What?"], "thinking-budget"),
        (["ask", "--stop", "", "What?"], "stop"),
        (["ask", "--nonsense", "What?"], "Unrecognised arguments: --nonsense"),
        (["chat"], "jsonl"),
        (["chat", "--jsonl", "--model", "gone"], "gone"),
        (["convert", "gone", "build/never"], "gone"),
        (["convert", "gone", "build/never", "--bits", "5"], "bits"),
        (["convert", "gone", "build/never", "--recipe", "best"], "recipe"),
        (["convert", "gone", "build/never", "--recipe", "mixed", "--bits", "8"], "4 bits"),
        (["compare", "gone", "assets/demo_model"], "gone"),
        (
            ["compare", "assets/demo_model", "assets/demo_model", "--text", "gone.txt"],
            "cannot be found",
        ),
        (["compare", "assets/demo_model", "assets/demo_model", "--text", PICTURE], "UTF-8"),
        (["compare", "assets/demo_model", "assets/demo_model", "--text", "/dev/zero"], "UTF-8"),
        (["compare", "assets/demo_model"], "B"),
        ([], "ask"),
    ],
)
def test_what_a_person_can_put_right_is_said_in_one_line(
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert named in shown.err
    assert shown.err.count("\n") == 1
    assert " _" not in shown.err  # no names of functions


def test_ask_draws_progress_on_a_terminal_and_stops_cleanly_with_control_c() -> None:
    ours, theirs = pty.openpty()
    # Reads long and answers longer: on a busy machine this process may look away for seconds.
    arguments = ["ask", "--temperature", "100", "--max-tokens", "3000", LONG_TEXT]
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    with process:
        shown = b""
        # Not at once: mlx's first computation looks for a compiler with system(), which ignores
        # Ctrl-C for some milliseconds.
        while shown.count(b"Reading") < 3:
            shown += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
        shown += _rest(ours)
    assert process.returncode == 130
    assert b"Traceback" not in shown
    assert shown.endswith(b"\r\x1b[K")  # the progress line is cleared


@pytest.mark.parametrize(
    ("command", "file"),
    [(["ask", "What?"], "model.safetensors"), (["chat", "--jsonl"], "model.safetensors")],
)
def test_control_c_while_the_model_is_loaded(command: list[str], file: str, tmp_path: Path) -> None:
    for original in (ROOT / "assets" / "demo_model").iterdir():
        if original.name != file:
            (tmp_path / original.name).symlink_to(original)
    os.mkfifo(tmp_path / file)  # a disk that takes for ever
    process = subprocess.Popen(
        [*COMMAND, *command, "--model", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process, (tmp_path / file).open("wb"):  # waits until the file is being read
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=WAIT_S)
    assert (process.returncode, *shown) == (130, b"", b"")


def test_control_c_while_modules_are_imported(tmp_path: Path) -> None:
    """Some packages turn an interrupt into an error of their own."""
    (tmp_path / "tokenizers.py").write_text(
        "import sys, time\n"
        "try:\n"
        "    sys.stdout.write('.'), sys.stdout.flush(), time.sleep(60)\n"
        "except BaseException:\n"
        "    raise ImportError('reinstall the package') from None\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [*COMMAND, "ask", "What?"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stdout.read(1) == b"."
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=WAIT_S)
    assert (process.returncode, *shown) == (130, b"", b"")


def _rest(terminal: int) -> bytes:
    rest = b""
    try:
        while piece := os.read(terminal, 1000):
            rest += piece
    except OSError:  # how Linux says that the other side of a terminal is gone
        pass
    os.close(terminal)
    return rest


def test_ask_is_quiet_when_nobody_reads_the_answer() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, "ask", "Hello"],
        cwd=ROOT,
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=WAIT_S,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 141
    assert done.stderr == b""


def test_convert_writes_a_checkpoint_and_says_what_became_of_it(tmp_path: Path) -> None:
    source = ROOT / "tests" / "goldens" / "tied"
    done = run("convert", str(source), str(tmp_path / "small"), "--recipe", "mixed")
    assert (done.returncode, done.stderr) == (0, "")
    config = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    assert config["quantization"]["bits"] == 4
    assert config["quantization"]["model.language_model.embed_tokens"]["bits"] == 6
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"language model, as published: .* weights, .* in_proj_a, .*", lines[0])
    assert re.fullmatch(r"language model, 8 bits: .* k_proj, v_proj", lines[1])
    assert re.fullmatch(r"Size of the weights: \d+\.\d kB before, \d+\.\d kB after\.", lines[-3])
    assert re.fullmatch(
        r"Bits a weight: \d+\.\d\d, of the language model alone \d+\.\d\d\.", lines[-2]
    )
    assert lines[-1] == f"Wrote {tmp_path / 'small'}."


def test_check_says_how_a_model_fits_and_that_it_passed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["check", "assets/demo_model"]) == 0
    fit, verdict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"It needs 1\.0 GB of memory for a chat of 4,096 tokens, .*", fit)
    assert verdict == "Demo model has passed its self-check."


def test_a_model_that_is_not_in_its_right_mind_answers_only_if_it_must(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(ROOT / "assets" / "demo_model", tmp_path / "model")
    (model / "self_check.json").write_text('[{"question": "Hello", "says": ["a teapot"]}]')
    for command in (["ask", "Who are you?", "--model", str(model)], ["check", str(model)]):
        assert main(command) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "failed its self-check" in shown.err
    assert main(["ask", "Who are you?", "--model", str(model), "--anyway"]) == 0
    assert "demo model" in capsys.readouterr().out


def test_compare_says_how_far_two_checkpoints_are_apart(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Hello\n\nHello. Who are you?\n", encoding="utf-8")
    done = run("compare", "assets/demo_model", "assets/demo_model", "--text", str(text))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"\d+ tokens of {text}, read as a chat\.", lines[0])
    for line, name in zip(lines[1:3], "AB", strict=True):
        assert re.fullmatch(rf"{name}: perplexity [\d.]+, 9\.7 MB, 12\.30 bits a weight", line)
    assert lines[3:] == [
        "KL(A || B) in nats a token: mean 0, median 0, 99th percentile 0",
        "Same likeliest token: 100.00 %",
    ]


def test_compare_takes_the_text_that_a_checkpoint_brings_along(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["compare", "assets/demo_model", "assets/demo_model"]) == 0
    assert "assets/demo_model/comparison_text.txt, read as a chat" in capsys.readouterr().out


def test_compare_stops_with_control_c(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(LONG_TEXT, encoding="utf-8")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "compare", "assets/demo_model", "assets/demo_model", "--text", str(text)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"Reading, " not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WAIT_S)
    os.close(ours)
    assert process.returncode == 130
    assert output == b""


class Chat:
    """A running `chat --jsonl` and the other program's side of it."""

    def __init__(self) -> None:
        self.start()

    def start(self, cache: Path | None = None) -> None:
        """A process, which keeps things in the folder of all tests unless another is given."""
        self.process = subprocess.Popen(
            [*COMMAND, "chat", "--jsonl"],
            cwd=ROOT,
            env=os.environ | ({CACHE: str(cache)} if cache else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.requests, self.events = self.process.stdin, self.process.stdout
        self.errors = self.process.stderr

    def restart(self, cache: Path | None = None) -> None:
        """Another process in the place of the one that has ended, or is ended."""
        self.close()
        self.start(cache)

    def close(self) -> None:
        """End the process if it has not ended."""
        self.process.kill()
        self.process.wait()
        for stream in (self.requests, self.events, self.errors):
            stream.close()

    def send(self, request: Any) -> None:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.requests.write(data + b"\n")
        self.requests.flush()

    def receive(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.events.readline())
        return record

    def until(self, *kinds: str) -> list[dict[str, Any]]:
        """Events up to and with the first of one of these types."""
        records = [self.receive()]
        while records[-1]["type"] not in kinds:
            records.append(self.receive())
        return records

    def ask(self, *messages: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The text of a short answer, and its figures."""
        self.send({"id": 1, "messages": messages, "max_tokens": 16})
        *spoken, last = self.until("finished", "error")
        assert last["type"] == "finished", last
        return "".join(part["text"] for part in spoken if part["type"] == "text"), last["stats"]

    def prepare(self, *messages: dict[str, Any]) -> dict[str, Any]:
        """What reading ahead came to."""
        self.send({"id": 1, "prepare": {"messages": messages}})
        return self.until("prepared", "error")[-1]

    def end(self) -> int:
        """Close the input and wait; the exit status."""
        self.requests.close()
        assert self.events.read() == b""
        return self.process.wait(WAIT_S)


@pytest.fixture
def chat() -> Iterator[Chat]:
    session = Chat()
    try:
        yield session
    finally:
        session.close()


def ask(request_id: Any, *parts: Any, **settings: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"id": request_id, "messages": [{"role": "user", "content": content}], **settings}


def test_a_conversation_with_a_picture_and_a_clip(chat: Chat) -> None:
    picture, clip = {"type": "image", "path": PICTURE}, {"type": "video", "path": CLIP, "fps": 1}
    chat.send(ask(1, picture, clip, "What is this?", max_tokens=8))
    records = chat.until("finished")
    assert {record["id"] for record in records} == {1}
    kinds = [record.get("stage", record["type"]) for record in records]
    order = ["looking", "reading", "text", "finished"]
    assert sorted(kinds, key=order.index) == kinds
    assert set(kinds) == set(order)
    stats = records[-1]["stats"]
    assert records[-1]["reason"] in ("stop", "length")
    assert stats["read_tokens"] == stats["prompt_tokens"] > 20
    assert stats["encoded_patches"] == records[0]["total"] > 0
    assert 0 < stats["generated_tokens"] <= 8
    assert 0 < stats["time_to_first_token_s"] < WAIT_S
    assert stats["peak_memory_bytes"] > 0

    chat.send({"id": "b", "messages": [{"role": "user", "content": "Hello"}]})
    *spoken, finished = chat.until("finished")
    assert finished["id"] == "b"
    hello = "".join(record["text"] for record in spoken if record["type"] == "text")
    stop = hello[3:6]
    chat.send(ask("c", "Hello", stop=[stop], thinking_budget=5, repetition_penalty=1.0))
    *spoken, finished = chat.until("finished")
    shown = "".join(record["text"] for record in spoken if record["type"] == "text")
    assert shown == hello[: hello.index(stop)].rstrip()
    assert finished["reason"] == "stop"
    assert chat.end() == 0
    assert chat.errors.read() == b""


def said_by_user(*parts: Any) -> dict[str, Any]:
    return ask(0, *parts)["messages"][0]


def said_by_model(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_nothing_that_was_read_once_is_read_again(chat: Chat, tmp_path: Path) -> None:
    """A client that sends whatever history it likes, to one process and to the next."""
    picture, clip = {"type": "image", "path": PICTURE}, {"type": "video", "path": CLIP}
    history = [said_by_user(picture, "List the shapes from left to right.")]
    asked: list[list[dict[str, Any]]] = []
    answers: list[str] = []

    def check(messages: list[dict[str, Any]], most: int, patches: int = 0) -> str:
        text, stats = chat.ask(*messages)
        assert stats["read_tokens"] <= most
        assert stats["reused_tokens"] == stats["prompt_tokens"] - stats["read_tokens"]
        assert stats["encoded_patches"] == patches
        asked.append(list(messages))
        answers.append(text)
        return text

    history.append(said_by_model(check(history, 99, 60)))
    for question in ("Is there a red circle?", "How many shapes are there?"):
        assert chat.prepare(*history)["is_complete"]
        history.append(said_by_user(question))
        history.append(said_by_model(check(history, 20)))
    assert check(history[:-1], 4) == answers[-1], "regenerate"
    edited = [*history[:2], said_by_user("Is there a blue square?")]
    check(edited, 20)
    check([*history, said_by_user("Which colour is the circle?")], 40)  # back to the other branch
    looked = chat.prepare(*history, said_by_user(clip))
    assert (looked["is_complete"], looked["encoded_patches"]) == (True, 96)
    more = [*history, said_by_user(clip, "Which way does the circle move?")]
    check(more, 20)
    assert chat.prepare(*more, said_by_model(answers[-1]))["is_complete"]
    assert chat.end() == 0
    chat.restart()
    check([*more, said_by_model(answers[-1]), said_by_user("Is there a circle?")], 20)
    check([*edited[:2], said_by_user("Is there a green circle?")], 20)
    for number, (messages, answer) in list(enumerate(zip(asked, answers, strict=True)))[4:8]:
        chat.restart(tmp_path / str(number))
        assert chat.ask(*messages)[0] == answer, "what a process says that has read nothing"


def test_the_process_survives_whatever_is_wrong_with_a_request(chat: Chat) -> None:
    chat.send(b"this is not JSON")
    chat.send({"id": 2, "prepare": {"messages": {}}})
    chat.send(ask(3, {"type": "image", "path": "gone.png"}, "What?"))
    chat.send(ask(4, "Hello", nonsense=1))
    chat.send({"id": 5, "messages": []})
    chat.send(ask(6, LONG_TEXT * 10))
    records = [chat.receive() for _ in range(5)]
    assert [record["id"] for record in records] == [None, 2, 3, 4, 5]
    assert {record["type"] for record in records} == {"error"}
    assert "gone.png" in records[2]["message"]
    assert "nonsense" in records[3]["message"]
    *_, notice, finished = chat.until("finished")
    assert (notice["id"], notice["type"]) == (6, "notice")
    assert finished["reason"] == "context_full"
    chat.send(ask(7, "Hello"))
    assert chat.until("finished", "error")[-1]["type"] == "finished"
    assert chat.end() == 0


def test_cancel_while_the_prompt_is_read(chat: Chat) -> None:
    chat.send(ask(1, LONG_TEXT))
    first = chat.receive()
    assert (first["type"], first["stage"], first["done"]) == ("progress", "reading", 0)
    chat.send({"id": 2, "cancel": 1})
    finished = chat.until("finished")[-1]
    assert (finished["id"], finished["reason"]) == (1, "cancelled")
    assert finished["stats"]["read_tokens"] < finished["stats"]["prompt_tokens"]
    chat.send(ask(3, "Hello"))
    assert chat.until("finished")[-1]["reason"] == "stop"
    assert chat.end() == 0


def test_the_end_of_input_waits_for_the_reply_in_progress(chat: Chat) -> None:
    chat.send(ask(1, "Hello"))
    chat.requests.close()
    records = [json.loads(line) for line in chat.events]
    assert records[-1]["type"] == "finished"
    assert records[-1]["reason"] == "stop"
    assert chat.process.wait(WAIT_S) == 0


def test_control_c_ends_a_waiting_chat(chat: Chat) -> None:
    chat.send(ask(1, "Hello"))
    chat.until("finished")
    chat.process.send_signal(signal.SIGINT)
    assert chat.process.wait(WAIT_S) == 130
    assert chat.errors.read() == b""


def test_a_chat_that_nobody_listens_to_ends(chat: Chat) -> None:
    chat.send(ask(1, LONG_TEXT))
    chat.receive()
    chat.events.close()
    assert chat.process.wait(WAIT_S) == 141
    assert chat.errors.read() == b""


def _cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _picture(folder: Path, name: str) -> Path:
    Image.linear_gradient("L").convert("RGB").save(folder / name)
    return folder / name


def _holding(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _pipe(folder: Path, name: str) -> Path:
    os.mkfifo(folder / name)
    return folder / name


MEDIA = Path(__file__).parents[1] / "media"
BAD_FILES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "empty": ("--image", lambda folder: _holding(folder, "a.png", b"")),
    "text": ("--image", lambda folder: _holding(folder, "a.png", b"Dear diary")),
    "a JPEG cut short": ("--image", lambda folder: _cut(_picture(folder, "a.jpg"), 0.7)),
    "a TIFF cut short": ("--image", lambda folder: _cut(_picture(folder, "a.tif"), 0.7)),
    "a folder": ("--image", lambda folder: folder),
    "a device": ("--image", lambda _: Path("/dev/zero")),
    "a clip as a picture": ("--image", lambda _: MEDIA / "h264.mp4"),
    "a pipe": ("--video", lambda folder: _pipe(folder, "a.mp4")),
    "sound only": ("--video", lambda _: MEDIA / "sound.m4a"),
    "a film cut before its table": (
        "--video",
        lambda folder: _cut(Path(shutil.copy(MEDIA / "rotated.mp4", folder)), 0.5),
    ),
    "no film": ("--video", lambda folder: _holding(folder, "a.mkv", b"\x1a\x45\xdf\xa3" * 99)),
    "an odd name": ("--video", lambda folder: _holding(folder, "😀\nü.mp4", b"")),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_sentence_and_status_2(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    option, make = BAD_FILES[name]
    status = main(["ask", option, str(make(tmp_path)), "What is this?"])
    shown = capfd.readouterr()
    assert status == 2
    assert shown.out == ""
    assert shown.err.endswith(".\n")
    assert shown.err.count("\n") == 1
