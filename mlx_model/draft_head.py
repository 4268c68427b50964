"""The draft head of a checkpoint (`mtp.*`): guesses the token after the next one.

Multi-token prediction as the published checkpoints have it: the embedding of the next token beside
this token's hidden state after the final norm, one full-attention layer, the model's own head.
Source: DeepSeek-V3 technical report (2024), section 2.2; names as in the published checkpoints.
"""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlx_model.cache import KeyValueCache
from mlx_model.config import TextConfig, load_config
from mlx_model.errors import CheckpointError
from mlx_model.language import DecoderLayer
from mlx_model.layers import Linear, RMSNorm, on_metal
from mlx_model.model import Run
from mlx_model.tensor_files import find_tensors
from mlx_model.tensor_reader import load_file

PREFIX = "mtp."


class DraftHead(nn.Module):
    """One decoder layer over what the model has made of a sequence; keys as in the checkpoint."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.pre_fc_norm_embedding = RMSNorm(width, config.rms_norm_eps)
        self.pre_fc_norm_hidden = RMSNorm(width, config.rms_norm_eps)
        self.fc = Linear(2 * width, width)
        self.layers = [DecoderLayer(config, "full_attention")]
        self.norm = RMSNorm(width, config.rms_norm_eps)

    def drafts(self, run: Run) -> mx.array:
        """Hidden states whose logits are the drafts for the tokens two places later.

        Shapes: a run of T tokens -> [1, T - 1, hidden]
        """
        following = self.pre_fc_norm_embedding(run.embeddings[:, 1:])
        hidden = self.pre_fc_norm_hidden(run.hidden[:, :-1])
        x = self.fc(mx.concatenate([following, hidden], axis=-1))
        rotation = run.rotation.part(0, x.shape[1])
        x = self.layers[0](x, rotation, KeyValueCache(), 0)
        drafts: mx.array = self.norm(x)
        return drafts


def load_draft_head(path: str | Path, dtype: mx.Dtype | None = None) -> DraftHead:
    """The draft head of a checkpoint, packed as its config says; CheckpointError without one.

    Computes in `dtype`, which is fp32 on the CPU backend and bf16 on Metal unless given.
    """
    folder = Path(path)
    config = load_config(folder)
    tensors = {
        name.removeprefix(PREFIX): info
        for name, info in find_tensors(folder).items()
        if name.startswith(PREFIX)
    }
    if not tensors:
        raise CheckpointError(f"The model in {folder} has no draft head (mtp.*).")
    head = DraftHead(config.text)
    quantization = config.quantization
    if quantization is not None:

        def packing(layer: str, module: nn.Module) -> bool | dict[str, int]:
            if f"{layer}.scales" not in tensors or not hasattr(module, "to_quantized"):
                return False
            packed = quantization.packing(f"{PREFIX}{layer}")
            return {"bits": packed.bits, "group_size": packed.group_size}

        nn.quantize(head, class_predicate=packing)
    files = {file: load_file(file) for file in {info.file for info in tensors.values()}}
    if dtype is None:
        dtype = mx.bfloat16 if on_metal() else mx.float32
    weights = [
        (name, array if array.dtype == mx.uint32 else array.astype(dtype))
        for name, info in tensors.items()
        for array in [files[info.file][PREFIX + name]]
    ]
    try:
        head.load_weights(weights, strict=True)
    except ValueError as error:
        raise CheckpointError(
            f"The draft head in {folder} is not the one that its config.json describes. "
            "Download the model again."
        ) from error
    head.eval()
    mx.eval(head.parameters())
    return head
