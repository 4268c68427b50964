"""Trains the demo model; resumable, and the same batches for the same seed.

    python -m tools.train_demo.train --out build/train_demo --start-from assets/demo_model

First the vision tower alone learns to see, by the probe; then everything learns to answer. The run
folder keeps `last.pt` (everything needed to go on) and `log.jsonl`. Started again with the same
folder it resumes; a different `--steps` moves the end of the schedule.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from tools.train_demo import batches
from tools.train_demo.model import (
    Seen,
    build_model,
    check_against_reference,
    look,
    plain_state,
    read,
    reply_loss,
    simulate_quantisation,
    token_weights,
)
from tools.train_demo.start import start_from

WARM_UP, COOLING = 100, 0.1


def learning_rate(step: int, looking: int, steps: int) -> float:
    """The share of the peak rate for each of the two phases: up, level, and down to the end.

    Level for most of the time, so that the end can be moved while it runs.
    Source: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations" (arXiv 2405.18392).
    """
    start, stop = (0, looking) if step < looking else (looking, steps)
    warm = (step - start + 1) / WARM_UP
    cool = (stop - step) / (stop - start) / COOLING
    return max(0.02, min(1.0, warm, cool))


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for everything else.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(self, model: torch.nn.Module, probe: torch.nn.Module) -> None:
        inner, outer, flat = [], [], []
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                flat.append(parameter)
            elif parameter.ndim == 2 and (".layers." in name or ".blocks." in name):
                inner.append(parameter)
            else:
                outer.append(parameter)
        outer += [p for p in probe.parameters() if p.ndim >= 2]
        flat += [p for p in probe.parameters() if p.ndim < 2]
        groups = [{"params": outer, "weight_decay": 0.02}, {"params": flat, "weight_decay": 0.0}]
        self._parts = (
            torch.optim.AdamW(groups, betas=(0.9, 0.97), fused=True),
            torch.optim.Muon(inner, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        )

    def step(self, rate: float) -> None:
        """One step at a learning rate, after which no gradients are left."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """What is needed to go on."""
        return [part.state_dict() for part in self._parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Goes on from what `state` gave."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


class Run:
    """One of the processes that train together, each on its part of every batch."""

    def __init__(self, arguments: argparse.Namespace, part: int) -> None:
        self._arguments, self._part = arguments, part
        self._model, self._probe = build_model(arguments.seed)
        self._checkpoint = arguments.out / "last.pt"
        self._start, self._quantised = 0, False
        left = arguments.steps - arguments.looking
        self._quantise_from = arguments.looking + int(left * arguments.quantise_after)
        self._exact_from = arguments.looking + int(left * arguments.exact_after)
        saved = torch.load(self._checkpoint) if self._checkpoint.exists() else None
        if saved:
            self._start = saved["step"]
            self._model.load_state_dict(saved["model"], strict=False)
            self._probe.load_state_dict(saved["probe"])
        elif arguments.start_from:
            start_from(self._model, arguments.start_from)
        self._quantise(self._start)
        self._optimizer = Optimizer(self._model, self._probe)
        if saved:
            self._optimizer.load(saved["optimizer"])
        self._weights = token_weights()
        self._log = Log(arguments.out / "log.jsonl")

    def train(self) -> None:
        """Goes on to the last step."""
        arguments = self._arguments
        if self._part == 0 and self._start == 0:
            self._check()
        steps = range(self._start, arguments.steps)
        source = batches.stream(arguments.seed, steps, arguments.looking, self._part)
        for step, batch in zip(steps, source, strict=True):
            self._quantise(step)
            self._loss(batch, step).backward()
            self._share_gradients()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            share = learning_rate(step, arguments.looking, arguments.steps)
            self._optimizer.step(arguments.rate * share)
            if self._part:
                continue
            if (step + 1) % 25 == 0:
                self._log.write(step + 1)
            if (step + 1) % 100 == 0 or step + 1 == arguments.steps:
                self._save(step + 1)

    def _check(self) -> None:
        batch = batches.reference_batch(self._arguments.seed)
        difference = check_against_reference(self._model, batch)
        if difference > 1e-4:
            raise SystemExit(f"the batched forward differs from transformers by {difference:.1e}")

    def _quantise(self, step: int) -> None:
        # The rounded model keeps its optimizer: the parameters stay the same tensors.
        if step >= self._quantise_from and not self._quantised:
            simulate_quantisation(self._model)
            self._quantised = True

    def _loss(self, batch: batches.Batch, step: int) -> torch.Tensor:
        # bfloat16 halves the time of a step; the end of the run is as exact as what follows it.
        with torch.autocast("cpu", torch.bfloat16, enabled=step < self._exact_from):
            seen = look(self._model, batch)
            says_nothing = batch.input_ids is None
            total = torch.zeros(()) if says_nothing else self._reply_loss(batch, seen)
        for media in seen:
            total = total + self._noted(self._probe.losses(media), self._arguments.probe_weight)
        return total

    def _reply_loss(self, batch: batches.Batch, seen: list[Seen]) -> torch.Tensor:
        states = read(self._model, batch, seen)
        loss = reply_loss(self._model, batch, states, self._weights)
        self._log.note(batch.kind, loss.item())
        recalled = self._probe.memory_losses(batch, states)
        return loss + self._noted(recalled, self._arguments.memory_weight)

    def _noted(self, losses: dict[str, torch.Tensor], weight: float) -> torch.Tensor:
        for name, loss in losses.items():
            self._log.note(f"probe: {name}", loss.item())
        return weight * sum(losses.values(), torch.zeros(()))

    def _share_gradients(self) -> None:
        """The mean over all processes, in place."""
        if self._arguments.processes == 1:
            return
        parameters = [*self._model.parameters(), *self._probe.parameters()]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.reshape(-1) for p in parameters])
        torch.distributed.all_reduce(flat)
        flat /= self._arguments.processes
        sizes = [p.numel() for p in parameters]
        for parameter, gradient in zip(parameters, flat.split(sizes), strict=True):
            parameter.grad.copy_(gradient.view_as(parameter))

    def _save(self, step: int) -> None:
        state = {
            "step": step,
            "model": plain_state(self._model),
            "probe": self._probe.state_dict(),
            "optimizer": self._optimizer.state(),
        }
        torch.save(state, self._checkpoint.with_suffix(".new"))
        self._checkpoint.with_suffix(".new").replace(self._checkpoint)


def work(part: int, arguments: argparse.Namespace, meeting_point: str) -> None:
    """One process of a run, from its start to its end."""
    torch.set_num_threads(arguments.threads)
    if arguments.processes > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{meeting_point}",
            rank=part,
            world_size=arguments.processes,
        )
    Run(arguments, part).train()


class Log:
    """Running means of the losses, a line every now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._means: dict[str, float] = {}
        self._began, self._steps = time.perf_counter(), 0

    def note(self, name: str, value: float) -> None:
        """Takes in one more loss."""
        self._means[name] = 0.9 * self._means.get(name, value) + 0.1 * value

    def write(self, step: int) -> None:
        """Appends a line."""
        now = time.perf_counter()
        line: dict[str, float] = {"step": step, "seconds": round(now - self._began, 1)}
        line |= {name: round(value, 4) for name, value in sorted(self._means.items())}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/train_demo"))
    parser.add_argument("--start-from", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--looking", type=int, default=3600, help="steps of the first phase")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--probe-weight", type=float, default=0.3, help="of what is seen")
    parser.add_argument("--memory-weight", type=float, default=1.0, help="of what is recalled")
    parser.add_argument("--quantise-after", type=float, default=0.9, help="share of the last phase")
    parser.add_argument("--exact-after", type=float, default=0.97, help="share of the last phase")
    return parser.parse_args()


def main() -> None:
    """Starts all processes."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = str(Path(folder) / "meeting_point")
        torch.multiprocessing.spawn(work, (arguments, meeting_point), arguments.processes)


if __name__ == "__main__":
    main()
