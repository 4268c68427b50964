"""Builds the demo model's tokenizer: a small byte-level BPE with Qwen3.5's special tokens.

Run `python -m tools.train_demo.tokenizer` to write `assets/demo_model/tokenizer.json`. The merges
come from `tokenizer_words.json`: how often each word stood in 1,500 generated conversations, in
the markup around them and in words that later abilities will need. The counts are kept because a
model can never change its vocabulary, while the conversations go on changing.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

DEMO_MODEL = Path(__file__).resolve().parents[2] / "assets" / "demo_model"
WORDS = Path(__file__).with_name("tokenizer_words.json")
LEARNED_TOKENS = 1152

# In the order of the published vocabulary; the second group is ordinary text to a decoder.
CONTROL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
MARKUP_TOKENS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]

# Letters with their marks, single digits, runs of signs, and space: the split Qwen3.5 uses.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build() -> Tokenizer:
    """Trains the tokenizer; the same result every time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED_TOKENS,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in CONTROL_TOKENS]
    )
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKUP_TOKENS])
    return tokenizer


def _corpus() -> Iterator[str]:
    counts: dict[str, int] = json.loads(WORDS.read_text(encoding="utf-8"))
    for word, count in counts.items():
        for _ in range(count):
            yield word


def main() -> None:
    """Writes the tokenizer into the demo model's folder."""
    DEMO_MODEL.mkdir(parents=True, exist_ok=True)
    tokenizer = build()
    tokenizer.save(str(DEMO_MODEL / "tokenizer.json"))
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
