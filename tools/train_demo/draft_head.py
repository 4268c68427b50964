"""Trains the demo model's draft head (`mtp.*`) on what the finished model says.

    python -m tools.train_demo.draft_head --run build/train_demo --steps 800

transformers leaves the head out, so it is written here: the embedding of the next token beside the
hidden state of this one after the final norm, one full-attention layer, the model's own head.
Source: DeepSeek-V3 technical report (2024), section 2.2. The model stays as it is; the head learns
to say what the model itself would, to inputs rounded to 4 bits as those of the shipped one.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 (its customary name)
from torch import Tensor, nn
from transformers import Qwen3_5ForConditionalGeneration
from transformers.models.qwen3_5 import modeling_qwen3_5 as reference

from tools.train_demo import batches
from tools.train_demo.batches import Batch
from tools.train_demo.dialogue import NO_LABEL
from tools.train_demo.model import (
    FakeQuantised,
    build_model,
    look,
    plain_names,
    read,
    simulate_quantisation,
)

PEAK_RATE = 1.5e-3


class DraftHead(nn.Module):
    """Row j joins token j with the hidden state before it, and guesses token j + 1.

    Parameters are named as in the published checkpoints.
    """

    def __init__(self, model: Qwen3_5ForConditionalGeneration) -> None:
        super().__init__()
        text = model.config.text_config
        width, eps = text.hidden_size, text.rms_norm_eps
        self.pre_fc_norm_embedding = reference.Qwen3_5RMSNorm(width, eps)
        self.pre_fc_norm_hidden = reference.Qwen3_5RMSNorm(width, eps)
        self.fc = nn.Linear(2 * width, width, bias=False)
        attention = text.layer_types.index("full_attention")
        self.layers = nn.ModuleList([reference.Qwen3_5DecoderLayer(text, attention)])
        self.norm = reference.Qwen3_5RMSNorm(width, eps)

    def forward(
        self, embeddings: Tensor, hidden: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Shapes: embeddings and hidden [B, rows, width], rotation of the hidden's positions."""
        joined = [self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(hidden)]
        rows = self.fc(torch.cat(joined, -1))
        count = rows.shape[1]
        mask = torch.full((count, count), float("-inf")).triu(1)[None, None]
        out = self.layers[0](rows, position_embeddings=rotation, attention_mask=mask)
        return self.norm(out[0] if isinstance(out, tuple) else out)


def guesses(
    model: Qwen3_5ForConditionalGeneration, head: DraftHead, batch: Batch
) -> tuple[Tensor, Tensor]:
    """What the head guesses inside answers, as logits, and what the model itself says there.

    Shapes: [N, vocabulary], [N].
    """
    with torch.no_grad():
        states = read(model, batch, look(model, batch))
        positions = torch.from_numpy(batch.positions)[:, :, :-1]
        rotation = model.model.language_model.rotary_emb(states.last, positions)
    drafted = head(states.embeddings[:, 1:], states.last[:, :-1], rotation)
    # Row j - 1 guesses token j + 1; the model's own word for it comes from position j.
    inside = torch.from_numpy(batch.labels)[:, 2:] != NO_LABEL
    with torch.no_grad():
        said = model.lm_head(states.last[:, 1:-1][inside]).argmax(-1)
    return model.lm_head(drafted[:, :-1][inside]), said


def train(arguments: argparse.Namespace) -> None:
    """Writes `draft_head.pt` beside the run's `last.pt`."""
    torch.set_num_threads(arguments.threads)
    model, _ = build_model(arguments.seed)
    model.load_state_dict(torch.load(arguments.run / "last.pt")["model"], strict=False)
    simulate_quantisation(model)
    model.requires_grad_(False)
    torch.manual_seed(arguments.seed)
    head = DraftHead(model)
    for module in [m for m in head.modules() if isinstance(m, nn.Linear)]:
        nn.init.normal_(module.weight, std=0.02)
    for module in [m for m in head.modules() if isinstance(m, nn.Linear)]:
        nn.utils.parametrize.register_parametrization(
            module, "weight", FakeQuantised(), unsafe=True
        )
    optimizer = torch.optim.AdamW(head.parameters(), lr=PEAK_RATE, betas=(0.9, 0.97), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=arguments.steps, pct_start=0.05
    )
    right = count = 0
    source = batches.stream(arguments.seed, range(arguments.steps), looking=0)
    for step, batch in enumerate(source, 1):
        if batch.input_ids is not None:
            with torch.autocast("cpu", torch.bfloat16):
                logits, said = guesses(model, head, batch)
                loss = F.cross_entropy(logits.float(), said)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            right += int((logits.argmax(-1) == said).sum())
            count += len(said)
        schedule.step()
        if step % 25 == 0 or step == arguments.steps:
            line = {"step": step, "accepted": round(right / max(count, 1), 3)}
            with (arguments.run / "draft_head.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            right = count = 0
            state = {f"mtp.{name}": tensor for name, tensor in plain_names(head).items()}
            torch.save(state, arguments.run / "draft_head.pt")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/train_demo"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
