"""A contestant's chat server in a process of its own, whose forward passes are written down.

    python served.py LOG ours MODEL              # chat --jsonl on standard input and output
    python served.py LOG mlx_lm|mlx_vlm MODEL PORT

Run by the contestant's own Python, so it imports nothing of this project unless that is asked for.
Each line of LOG is one piece of work that the model was really given: `forward START TOKENS` (START
-1 where the caller does not say) or `patches COUNT`. Ours also writes `idle` when it has done all
that it does while nobody waits.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class WorkLog:
    """Appends to a file what a model is given to compute; a call inside another is not counted."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._depth = threading.local()

    def write(self, line: str) -> None:
        """One line, at once: the reader looks while the process lives."""
        os.write(self._descriptor, f"{line}\n".encode())

    def watch(self, owner: type, line: Callable[..., str], name: str = "__call__") -> None:
        """Write `line(self, *arguments)` before each call of a method of `owner`."""
        original = getattr(owner, name)

        def counted(module: Any, *arguments: Any, **named: Any) -> Any:
            depth = getattr(self._depth, "value", 0)
            if not depth:
                self.write(line(module, *arguments, **named))
            self._depth.value = depth + 1
            try:
                return original(module, *arguments, **named)
            finally:
                self._depth.value = depth

        setattr(owner, name, counted)


def serve_ours(log: WorkLog, model: str) -> None:
    """`python -m mlx_model chat --jsonl`."""
    from mlx_model.cpu_blas import prefer_openblas

    prefer_openblas()
    from mlx_model import Engine
    from mlx_model.__main__ import main
    from mlx_model.language import LanguageModel
    from mlx_model.vision import PatchEmbed

    def forward(
        _model: Any, embeddings: Any, _rotation: Any, cache: Any, *_: Any, **__: Any
    ) -> str:
        return f"forward {cache.length} {embeddings.shape[1]}"

    idle = Engine.idle

    def noted(engine: Engine, cancel: threading.Event) -> Iterator[Any]:
        try:
            yield from idle(engine, cancel)
            engine.warm_up(cancel)  # which otherwise comes when nobody has asked for a while
        finally:
            log.write("idle")

    setattr(Engine, "idle", noted)  # noqa: B010 - mypy takes no method in its place
    log.watch(LanguageModel, forward)
    log.watch(PatchEmbed, _patches)
    sys.exit(main(["chat", "--jsonl", "--model", model, "--anyway"]))


def serve_mlx_lm(log: WorkLog, model: str, port: str) -> None:
    """Its HTTP server with its own settings; thinking off in the chat template."""
    server = importlib.import_module("mlx_lm.server")
    language = importlib.import_module("mlx_lm.models.qwen3_5")
    log.watch(language.Qwen3_5TextModel, _tokens)
    template = '{"enable_thinking": false}'
    sys.argv = ["mlx_lm.server", "--model", model, "--port", port, "--log-level", "WARNING"]
    sys.argv += ["--chat-template-args", template]
    if os.environ.get("PEERS_COLD"):
        sys.argv += ["--prompt-cache-size", "0"]
    server.main()


def serve_mlx_vlm(log: WorkLog, model: str, port: str) -> None:
    """Its HTTP server; the environment says whether its prefix cache is on."""
    language = importlib.import_module("mlx_vlm.models.qwen3_5.language")
    vision = importlib.import_module("mlx_vlm.models.qwen3_5.vision")
    log.watch(language.Qwen3_5Model, _tokens)
    log.watch(vision.VisionModel, _patches)
    sys.argv = ["mlx_vlm.server", "--model", model, "--port", port, "--log-level", "WARNING"]
    importlib.import_module("mlx_vlm.server").main()


def _tokens(_model: Any, inputs: Any, *_: Any, **__: Any) -> str:
    return f"forward -1 {inputs.size}"


def _patches(_tower: Any, patches: Any, *_: Any, **__: Any) -> str:
    return f"patches {patches.shape[0]}"


def main() -> None:
    """The command line."""
    file, which, *rest = sys.argv[1:]
    serve = {"ours": serve_ours, "mlx_lm": serve_mlx_lm, "mlx_vlm": serve_mlx_vlm}[which]
    serve(WorkLog(Path(file)), *rest)


if __name__ == "__main__":
    main()
