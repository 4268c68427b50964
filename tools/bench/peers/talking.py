"""Talks to a contestant's chat server, and reads what it really computed from its work log."""

import base64
import http.client
import json
import os
import queue
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tools.bench.peers.contestants import ROOT, Contestant

Message = dict[str, Any]

_START_S = 180.0
_REPLY_S = 600.0


@dataclass(frozen=True, slots=True)
class Work:
    """Pieces of work from a log: (start or -1, tokens) of each forward pass, patches encoded."""

    forwards: tuple[tuple[int, int], ...]
    patches: int

    def read_again(self, prompt_tokens: int, generated_tokens: int) -> int:
        """How many of the prompt's positions went through the model.

        Where the log knows the positions they are counted; otherwise all positions are, less the
        one-token passes after each generated token but the last.
        """
        if all(start >= 0 for start, _ in self.forwards):
            spans = [(start, min(start + count, prompt_tokens)) for start, count in self.forwards]
            return sum(max(0, stop - start) for start, stop in spans)
        return sum(count for _, count in self.forwards) - max(0, generated_tokens - 1)


def parse_work(lines: Sequence[str]) -> Work:
    """What the lines of a work log say."""
    words = [line.split() for line in lines if line != "idle"]
    forwards = tuple(
        (int(start), int(tokens))
        for kind, start, *rest in words
        if kind == "forward"
        for tokens in rest
    )
    return Work(forwards, sum(int(count) for kind, count, *_ in words if kind == "patches"))


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer and what it took; `read_again` and `patches` from the work log."""

    text: str
    first_word_s: float
    whole_s: float
    prompt_tokens: int
    generated_tokens: int
    read_again: int
    patches: int
    idle_forwards: int


class Talker:
    """One contestant's server, alive while it is used as a context manager."""

    def __init__(
        self, who: Contestant, model: Path, peers_python: Path, states: Path | None = None
    ) -> None:
        """`states`: the folder for states on the disk; a new empty one unless given."""
        self._folder = tempfile.TemporaryDirectory(prefix="peers-")
        folder = Path(self._folder.name)
        self._log = folder / "work.log"
        self._log.touch()
        self._seen = 0
        self.who = who
        self._port = _free_port()
        rest = [] if who.is_ours else [self._port]
        environment = os.environ | dict(who.environment)
        if who.scratch is not None:
            environment[who.scratch] = str(states or folder / "states")
        self._errors = (folder / "errors.txt").open("w+")
        self._process = subprocess.Popen(
            who.command("served", peers_python, self._log, who.kind, model, *rest),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if who.is_ours else self._errors,
            stderr=self._errors,
            env=environment,
            cwd=ROOT,
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self._model = str(model)
        self._number = 0

    def __enter__(self) -> Self:
        if self.who.is_ours:
            self._reader = threading.Thread(target=self._take_lines, daemon=True)
            self._reader.start()
            self.wait_until_idle()
        else:
            self._wait_for_port()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self.who.is_ours:
            self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def warm_up(self) -> None:
        """One short answer, so that everything is loaded and compiled."""
        self.ask([{"role": "user", "content": "Hello"}], 4)

    def ask(self, messages: Sequence[Message], max_tokens: int) -> Turn:
        """One greedy answer without thinking; messages as `chat --jsonl` takes them."""
        idle = self._work_since()
        started_s = time.perf_counter()
        first_s, parts, usage = None, [], {}
        events = self._own_events if self.who.is_ours else self._peer_events
        for text, told in events(messages, max_tokens):
            if text and first_s is None:
                first_s = time.perf_counter()
            parts.append(text)
            usage |= told
        ended_s = time.perf_counter()
        work = self._work_since()
        prompt, generated = usage["prompt_tokens"], usage["generated_tokens"]
        return Turn(
            text="".join(parts),
            first_word_s=(first_s or ended_s) - started_s,
            whole_s=ended_s - started_s,
            prompt_tokens=prompt,
            generated_tokens=generated,
            read_again=work.read_again(prompt, generated),
            patches=work.patches,
            idle_forwards=sum(tokens for _, tokens in idle.forwards),
        )

    def wait_until_idle(self) -> None:
        """Wait until all work that nobody waits for is done, of which the log tells at its end."""
        while not self._log.read_text().endswith("idle\n"):
            if self._process.poll() is not None:
                raise RuntimeError(f"It ended.\n{self._told()}")
            time.sleep(0.02)

    def read_ahead(self, messages: Sequence[Message]) -> bool:
        """Let it read what will be sent; returns when that is done, False if it cannot."""
        if not self.who.is_ours:
            return False
        try:
            for _ in self._sent({"prepare": {"messages": messages}}):
                pass
        except RuntimeError:
            return False
        return True

    def _sent(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of one line of `chat --jsonl`."""
        self._number += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._number, **request}).encode() + b"\n")
        self._process.stdin.flush()
        kind = ""
        while kind not in ("finished", "prepared"):
            line = self._lines.get(timeout=_REPLY_S)
            event = json.loads(line) if line else {"type": "error", "message": "It ended."}
            if (kind := event["type"]) == "error":
                raise RuntimeError(f"{event['message']}\n{self._told()}")
            yield event

    def _own_events(
        self, messages: Sequence[Message], max_tokens: int
    ) -> Iterator[tuple[str, dict[str, int]]]:
        for event in self._sent({"messages": messages, "max_tokens": max_tokens}):
            if event["type"] == "finished":
                stats = event["stats"]
                yield "", {name: stats[name] for name in ("prompt_tokens", "generated_tokens")}
            elif event["type"] in ("text", "thinking"):
                yield event["text"], {}

    def _peer_events(
        self, messages: Sequence[Message], max_tokens: int
    ) -> Iterator[tuple[str, dict[str, int]]]:
        body = {
            "model": self._model,
            "messages": [_as_openai(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_REPLY_S)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{self.who.label}: {response.read().decode()}\n{self._told()}")
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event.get("choices", ()):
                delta = choice.get("delta", {})
                yield delta.get("content") or delta.get("reasoning") or "", {}
            if usage := event.get("usage"):
                prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
                generated = usage.get("completion_tokens", usage.get("output_tokens"))
                yield "", {"prompt_tokens": prompt, "generated_tokens": generated}
        connection.close()

    def _work_since(self) -> Work:
        with self._log.open() as file:
            file.seek(self._seen)
            text = file.read()
            self._seen = file.tell()
        return parse_work(text.splitlines())

    def _take_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _wait_for_port(self) -> None:
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                break
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.who.label} did not start.\n{self._told()}")

    def _told(self) -> str:
        self._errors.flush()
        return Path(self._errors.name).read_text()[-3000:]


def _as_openai(message: Message) -> Message:
    if isinstance(message["content"], str):
        return message
    parts = [_picture(part) if part["type"] == "image" else part for part in message["content"]]
    return {**message, "content": parts}


def _picture(part: dict[str, str]) -> dict[str, Any]:
    data = base64.b64encode(Path(part["path"]).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
