"""Trains the demo model; resumable, and the same batches for the same seed.

    python -m tools.train_demo.train --out build/train_demo --steps 8200

The run folder keeps `last.pt` (everything needed to go on) and `log.jsonl`. Started again with
the same folder it resumes; a different `--steps` moves the end of the schedule.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import torch

from tools.train_demo import batches
from tools.train_demo.model import (
    build_model,
    check_against_reference,
    look,
    plain_state,
    reply_loss,
    simulate_quantisation,
    token_weights,
)

PEAK_RATE, WARM_UP = 1.5e-3, 150
# Steps that train the vision tower alone, by the probe: eight times as many pictures a second.
# After them every second step goes on with that.
LOOKING_ONLY = range(2000, 4400)
# Steps most of which ask nothing but "is there a ...?".
DRILLS = range(6800, 7400)


def stage_of(step: int) -> batches.Stage:
    """The curriculum: one shape at first, four in the end; then thoughts, and more to see; at last
    more of what is learnt most slowly."""
    stage = batches.Stage(
        most_shapes=1 + sum(step >= start for start in (300, 600, 900)),
        thinking_share=0.15 if step >= 1600 else 0.0,
        mixed=step >= 1600,
        looking_only=step in LOOKING_ONLY or (step >= LOOKING_ONLY.stop and step % 2 == 1),
    )
    if step < 5000:
        return stage
    stage = dataclasses.replace(
        stage, batch_bounds=(0.22, 0.65, 0.93), question_bounds=(0.18, 0.28, 0.66, 0.96)
    )
    if step not in DRILLS:
        return stage
    # What is plainly not there comes before what is there in one half.
    level = 3 * (step - DRILLS.start) // len(DRILLS)
    return dataclasses.replace(
        stage,
        looking_only=False,
        drill_shapes=(1, 2, 4)[level],
        half_right=(0.2, 0.5, 0.8)[level],
    )


def learning_rate(step: int, steps: int) -> float:
    """Warm-up and a plateau; a cosine over the steps of looking; the same over what follows."""
    if step < LOOKING_ONLY.start:
        return PEAK_RATE * min(1.0, (step + 1) / WARM_UP)
    phase = LOOKING_ONLY if step in LOOKING_ONLY else range(LOOKING_ONLY.stop, steps)
    passed = (step - phase.start) / len(phase)
    warm = min(1.0, (step - phase.start + 1) / WARM_UP)
    return PEAK_RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * passed)))


def make_optimizer(model: torch.nn.Module, probe: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only."""
    parameters = [*model.parameters(), *probe.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.02},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.97), fused=True)


def train(arguments: argparse.Namespace) -> None:
    """Runs from the last checkpoint to `arguments.steps`."""
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, probe = build_model(arguments.seed)
    checkpoint, start, quantised = arguments.out / "last.pt", 0, False
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    left = arguments.steps - LOOKING_ONLY.stop
    quantise_from = LOOKING_ONLY.stop + int(left * arguments.quantise_after)
    exact_from = LOOKING_ONLY.stop + int(left * arguments.exact_after)
    if saved:
        start = saved["step"]
        model.load_state_dict(saved["model"], strict=False)
        probe.load_state_dict(saved["probe"])
    else:
        batch = batches.draw_batch(arguments.seed, 10**9, 4, stage_of(0))
        difference = check_against_reference(model, batch)
        if difference > 1e-4:
            raise SystemExit(f"the batched forward differs from transformers by {difference:.1e}")
    if start >= quantise_from:
        simulate_quantisation(model)
        quantised = True
    weights = token_weights()
    optimizer = make_optimizer(model, probe)
    if saved:
        optimizer.load_state_dict(saved["optimizer"])
    stages = [stage_of(step) for step in range(arguments.steps)]
    began, samples, running = time.perf_counter(), 0, {}
    source = batches.stream(arguments.seed, start, arguments.steps, arguments.batch, stages)
    for step, batch in enumerate(source, start):
        if step >= quantise_from and not quantised:
            # The rounded model keeps its optimizer: the parameters stay the same tensors.
            simulate_quantisation(model)
            quantised = True
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps)
        # bfloat16 halves the time of a step; the end of the run is as exact as what follows it.
        with torch.autocast("cpu", torch.bfloat16, enabled=step < exact_from):
            seen = look(model, batch)
            total = torch.zeros(())
            if batch.input_ids is not None:
                total = reply_loss(model, batch, seen, weights)
                _average(running, batch.kind, float(total))
        for features, pixels in seen:
            cells = probe.loss(features, pixels)
            total = total + arguments.probe_weight * cells
            _average(running, f"{batch.kind} cells", float(cells))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        samples += arguments.batch
        if (step + 1) % 25 == 0:
            rate = samples / (time.perf_counter() - began)
            line = {
                "step": step + 1,
                "samples_per_s": round(rate, 1),
                "shapes": stages[step].most_shapes,
            }
            line |= {name: round(value, 4) for name, value in running.items()}
            with (arguments.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if (step + 1) % 200 == 0 or step + 1 == arguments.steps:
            _save(checkpoint, step + 1, model, probe, optimizer)


def _average(running: dict[str, float], name: str, value: float) -> None:
    running[name] = 0.95 * running.get(name, value) + 0.05 * value


def _save(path: Path, step: int, model: torch.nn.Module, probe: torch.nn.Module, optimizer) -> None:
    state = {
        "step": step,
        "model": plain_state(model),
        "probe": probe.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/train_demo"))
    parser.add_argument("--steps", type=int, default=8200)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--probe-weight", type=float, default=0.3)
    parser.add_argument(
        "--quantise-after", type=float, default=0.75, help="share of the last phase"
    )
    parser.add_argument("--exact-after", type=float, default=0.96, help="share of the last phase")
    return parser.parse_args()


if __name__ == "__main__":
    train(parse_arguments())
