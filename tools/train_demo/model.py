"""The demo model in training: transformers' Qwen3.5 at a tiny size, run over whole batches at once.

transformers loops over pictures in the vision tower and over tokens in its position ids. Pictures
of a batch share one grid here, so `look` and `read` call the same modules with both done as
arrays; `check_against_reference` proves that the result is the same.
"""

import math
import string
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812 (its customary name)
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen3_5 import modeling_qwen3_5 as reference

from tools.train_demo.batches import Batch
from tools.train_demo.delta_rule import chunk_gated_delta_rule
from tools.train_demo.dialogue import NO_LABEL
from tools.train_demo.sources import CELL_CLASSES, MEMORY_CLASSES, PATCH_CLASSES, Pixels
from tools.train_demo.tokenizer import DEMO_MODEL

VOCABULARY_ROWS = 1280
GROUP_SIZE, LEVELS = 64, 15
DECISION_WEIGHT, DIGIT_WEIGHT = 5.0, 3.0
LONGEST_MEMORY = 200


def build_config() -> Qwen3_5Config:
    """The architecture of every Qwen3.5, with three DeltaNet layers to one of attention."""
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    return Qwen3_5Config(
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        video_token_id=tokenizer.token_to_id("<|video_pad|>"),
        vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
        tie_word_embeddings=True,
        text_config={
            "vocab_size": VOCABULARY_ROWS,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "attention_bias": False,
            "attn_output_gate": True,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_num_key_heads": 6,
            "linear_num_value_heads": 6,
            "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
            "full_attention_interval": 4,
            "max_position_embeddings": 4096,
            "mamba_ssm_dtype": "float32",
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "pad_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 6,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "hidden_act": "gelu_pytorch_tanh",
            "in_channels": 3,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 192,
            "num_position_embeddings": 256,
        },
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the vision tower makes of pictures or frame groups.

    Shapes: features [N * P / 4, hidden], the tokens; patches [N * P, vision hidden], before they
    are merged.
    """

    features: Tensor
    patches: Tensor
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class States:
    """What the language model makes of conversations; all [B, T, hidden].

    `embeddings` go in, `recalled` is what the last layer attends over, `last` is behind the final
    norm.
    """

    embeddings: Tensor
    recalled: Tensor
    last: Tensor


class Probe(nn.Module):
    """Reads the truth off hidden states; trains what computes them, never exported.

    About its cell off each vision token, and what is known of patches off the patches as well:
    it is learnt sooner there. What tokens should bring to mind, off the states that the last layer
    attends over.
    """

    def __init__(self, width: int, patch_width: int) -> None:
        super().__init__()
        sizes = CELL_CLASSES | {name: 4 * classes for name, classes in PATCH_CLASSES.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
        self.patch_heads = nn.ModuleDict(
            {name: nn.Linear(patch_width, size) for name, size in PATCH_CLASSES.items()}
        )
        self.memory_heads = nn.ModuleDict(
            {name: nn.Linear(width, size) for name, size in MEMORY_CLASSES.items()}
        )

    def memory_losses(self, batch: Batch, states: States) -> dict[str, Tensor]:
        """The mean cross-entropy of each thing to bring to mind."""
        losses = {}
        for name, truth in batch.memories.items():
            classes = torch.from_numpy(truth)
            known = classes != NO_LABEL
            guessed = self.memory_heads[name](states.recalled[known])
            losses[name] = F.cross_entropy(guessed.float(), classes[known])
        return losses

    def losses(self, seen: Seen) -> dict[str, Tensor]:
        """The mean cross-entropy of each thing known."""
        losses = {}
        for name, truth in seen.pixels.cells.items():
            classes = torch.from_numpy(truth).reshape(-1)
            weights = _patch_weights(name)
            guessed = self.heads[name](seen.features).reshape(len(classes), -1)
            losses[name] = F.cross_entropy(guessed, classes, weights)
            if name in PATCH_CLASSES:
                guessed = self.patch_heads[name](seen.patches)
                losses[f"{name} of patches"] = F.cross_entropy(guessed, classes, weights)
        return losses


def _patch_weights(name: str) -> Tensor | None:
    """What each class counts: most patches of print are blank, which is soon learnt."""
    if name not in PATCH_CLASSES:
        return None
    weights = torch.ones(PATCH_CLASSES[name])
    weights[0] = 0.1
    return weights


def build_model(seed: int) -> tuple[Qwen3_5ForConditionalGeneration, Probe]:
    """A fresh model and its probe."""
    torch.manual_seed(seed)
    config = build_config()
    model = Qwen3_5ForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    _let_remember(model)
    return model.float().train(), Probe(
        config.text_config.hidden_size, config.vision_config.hidden_size
    )


@torch.no_grad()
def _let_remember(model: Qwen3_5ForConditionalGeneration) -> None:
    """Starts the DeltaNet heads of each layer with memories of 1 to 200 tokens.

    Started as transformers does, all but a few forget within one token, where no gradient says
    that it would be better not to.
    """
    for layer in model.model.language_model.layers:
        if layer.block_type == "linear_attention":
            tokens = torch.logspace(0, math.log10(LONGEST_MEMORY), layer.linear_attn.num_v_heads)
            layer.linear_attn.A_log.zero_()
            layer.linear_attn.dt_bias.copy_(torch.log(torch.expm1(1 / tokens)))


def vision_features(model: Qwen3_5ForConditionalGeneration, pixels: Pixels) -> Seen:
    """All pictures or frame groups."""
    tower = model.model.visual
    patches = torch.from_numpy(pixels.patches)
    count, size, _ = patches.shape
    grid = torch.tensor([[1, pixels.rows, pixels.columns]])
    indices, weights = reference.get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=tower.num_grid_per_side,
        mode=tower.interpolation_mode,
        align_corners=True,
        spatial_merge_size=tower.config.spatial_merge_size,
        kwargs={},
    )
    position_ids = reference.get_vision_position_ids(
        grid, tower.config.spatial_merge_size, kwargs={}
    )
    # A convolution over patches that do not overlap is a matrix product.
    weight, bias = tower.patch_embed.proj.weight.flatten(1), tower.patch_embed.proj.bias
    hidden = F.linear(patches, weight, bias)
    hidden = hidden + (tower.pos_embed(indices) * weights[:, :, None]).sum(1)
    cos, sin = tower.rotary_pos_emb(hidden[0], position_ids)
    for block in tower.blocks:
        hidden = hidden + _vision_attention(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
    hidden = hidden.reshape(count * size, -1)
    return Seen(tower.merger(hidden).float(), hidden.float(), pixels)


def _vision_attention(attention: nn.Module, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    count, size, width = x.shape
    qkv = attention.qkv(x).reshape(count, size, 3, attention.num_heads, -1).permute(2, 0, 1, 3, 4)
    query, key = reference.apply_rotary_pos_emb_vision(qkv[0], qkv[1], cos, sin)
    # Written out: over so few patches torch's own attention takes several times as long.
    query, key, value = (t.transpose(1, 2) for t in (query, key, qkv[2]))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    out = scores.float().softmax(-1).to(value.dtype) @ value
    return attention.proj(out.transpose(1, 2).reshape(count, size, width))


def look(model: Qwen3_5ForConditionalGeneration, batch: Batch) -> list[Seen]:
    """What is seen of the batch's pictures, and of its clips."""
    media = [pixels for pixels in (batch.pictures, batch.clips) if pixels is not None]
    return [vision_features(model, pixels) for pixels in media]


def token_weights() -> Tensor:
    """How much each token counts in the loss, [vocabulary].

    Yes and no decide a whole answer, and what there is to learn about a number is in its digits.
    """
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    weights = torch.ones(VOCABULARY_ROWS)
    for answer in ("? Yes", "? No"):
        weights[tokenizer.encode(answer, add_special_tokens=False).ids[1:]] = DECISION_WEIGHT
    weights[[tokenizer.token_to_id(digit) for digit in string.digits]] = DIGIT_WEIGHT
    return weights


def reply_loss(
    model: Qwen3_5ForConditionalGeneration,
    batch: Batch,
    states: States,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean loss over the learned tokens, weighted by token and, with that, by the batch."""
    targets = torch.from_numpy(batch.labels)[:, 1:]
    learned = targets != NO_LABEL
    logits = model.lm_head(states.last[:, :-1][learned])
    losses = F.cross_entropy(logits.float(), targets[learned], reduction="none")
    if weights is None:
        return losses.mean()
    shares = weights[targets[learned]] * torch.from_numpy(batch.weights)[:, 1:][learned]
    return (losses * shares).sum() / shares.sum()


def read(model: Qwen3_5ForConditionalGeneration, batch: Batch, seen: list[Seen]) -> States:
    """The language model over whole conversations, with what was seen in its place."""
    input_ids = torch.from_numpy(batch.input_ids)
    embeddings = model.model.language_model.embed_tokens(input_ids)
    for media in seen:
        is_picture = media.pixels is batch.pictures
        pad = model.config.image_token_id if is_picture else model.config.video_token_id
        embeddings = embeddings.masked_scatter((input_ids == pad)[..., None], media.features)
    positions = torch.from_numpy(batch.positions)
    entering: list[Tensor] = []
    last_layer = model.model.language_model.layers[-1]
    hook = last_layer.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    with mock.patch.object(reference, "torch_chunk_gated_delta_rule", chunk_gated_delta_rule):
        out = model.model.language_model(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False
        )
    hook.remove()
    return States(embeddings, entering[0], out.last_hidden_state)


@torch.no_grad()
def check_against_reference(model: Qwen3_5ForConditionalGeneration, batch: Batch) -> float:
    """Largest difference between our loss and transformers' own forward on one picture batch."""
    loss = reply_loss(model, batch, read(model, batch, look(model, batch)))
    pictures = batch.pictures
    grid = [1, pictures.rows, pictures.columns]
    output = model(
        input_ids=torch.from_numpy(batch.input_ids),
        pixel_values=torch.from_numpy(pictures.patches).flatten(0, 1),
        image_grid_thw=torch.tensor([grid] * len(pictures.patches)),
        position_ids=torch.from_numpy(batch.positions),
        labels=torch.from_numpy(batch.labels),
        use_cache=False,
    )
    return abs(float(output.loss) - float(loss))


class FakeQuantised(nn.Module):
    """Rounds a weight to 4 bits as MLX's affine mode does, and lets the gradient through."""

    def forward(self, weight: Tensor) -> Tensor:
        """Same shape as `weight`, one scale and bias for each 64 values of a row."""
        groups = weight.detach().unflatten(-1, (-1, GROUP_SIZE))
        high, low = groups.amax(-1, keepdim=True), groups.amin(-1, keepdim=True)
        low_is_edge = low.abs() > high.abs()
        scale = ((high - low) / LEVELS).clamp_min(1e-7)
        scale = torch.where(low_is_edge, scale, -scale)
        edge = torch.where(low_is_edge, low, high)
        steps = (edge / scale).round()
        scale = torch.where(steps != 0, edge / steps, scale)
        bias = torch.where(steps != 0, edge, torch.zeros_like(edge))
        rounded = ((groups - bias) / scale).round().clamp(0, LEVELS) * scale + bias
        return weight + (rounded.flatten(-2) - weight.detach())


def quantised_modules(model: Qwen3_5ForConditionalGeneration) -> list[nn.Module]:
    """The modules whose weights our converter brings to 4 bits: all but vision, gates and norms."""
    language = model.model.language_model
    linears = [
        module
        for name, module in language.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(("in_proj_a", "in_proj_b"))
    ]
    return [language.embed_tokens, *linears]


def simulate_quantisation(model: Qwen3_5ForConditionalGeneration) -> None:
    """From now on the model is trained as it will be after conversion to 4 bits."""
    for module in quantised_modules(model):
        nn.utils.parametrize.register_parametrization(
            module, "weight", FakeQuantised(), unsafe=True
        )
    # The head is tied: it must read the rounded embedding as well.
    embedding = model.model.language_model.embed_tokens
    model.lm_head.forward = lambda x: F.linear(x, embedding.weight)  # type: ignore[method-assign]


def plain_state(model: Qwen3_5ForConditionalGeneration) -> dict[str, Tensor]:
    """The state dict under checkpoint names, whether or not quantisation is simulated."""
    state = plain_names(model)
    state.pop("lm_head.weight", None)
    return state


def plain_names(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module without a trace of parametrisations."""
    return {
        name.replace("parametrizations.weight.original", "weight"): tensor
        for name, tensor in module.state_dict().items()
    }
