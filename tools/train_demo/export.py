"""Writes a training run as an ordinary fp32 checkpoint, and as the 4-bit one the app ships.

python -m tools.train_demo.export --run build/train_demo          # needs torch
python -m mlx_model convert build/train_demo/checkpoint assets/demo_model.new --bits 4
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from tools.train_demo.model import build_config
from tools.train_demo.tokenizer import DEMO_MODEL

COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "comparison_text.txt",
    "self_check.json",
)
LABEL = {"name": "Demo model", "note": "coloured shapes only"}


def export(run: Path, destination: Path) -> None:
    """Writes `destination` from the last state of `run`, with the draft head if there is one."""
    state = torch.load(run / "last.pt", weights_only=True)["model"]
    head = run / "draft_head.pt"
    if head.exists():
        state |= torch.load(head, weights_only=True)
    destination.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in state.items()}
    save_file(tensors, destination / "model.safetensors", metadata={"format": "pt"})
    config = build_config().to_dict()
    config["architectures"] = ["Qwen3_5ForConditionalGeneration"]
    config["fireside"] = LABEL
    config["text_config"]["mtp_num_hidden_layers"] = int(head.exists())
    config["text_config"]["mtp_use_dedicated_embeddings"] = False
    for noise in ("transformers_version", "_name_or_path", "dtype"):
        config.pop(noise, None)
    (destination / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name in COMPANIONS:
        shutil.copy(DEMO_MODEL / name, destination / name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/train_demo"))
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    export(arguments.run, arguments.to or arguments.run / "checkpoint")


if __name__ == "__main__":
    main()
