"""Builds the demo model's tokenizer: a small byte-level BPE with Qwen3.5's special tokens.

Run `python -m tools.train_demo.tokenizer` to write `assets/demo_model/tokenizer.json`. The merges
come from the generated conversations and from words that later abilities will need, so that
nothing has to be retrained from scratch when the demo model learns more.
"""

import random
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

from tools.train_demo import questions, scenes

DEMO_MODEL = Path(__file__).resolve().parents[2] / "assets" / "demo_model"
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

LATER_WORDS = """
The picture shows a page with two lines. It reads: The word is. What does it say? Read the text.
The square appears at 3.5 seconds and leaves at 6.0 seconds. When does it appear? It bounces twice.
What happens first? The circle changes colour, then it stops. It moves faster, slower, away, back.
[{"bbox_2d": [120, 80, 340, 300], "label": "red circle"}] {"point_2d": [512, 430], "label": "star"}
Picture 1 has more shapes than picture 2. What is different? In the first picture, in the second one.
The clip and the picture both have a blue square. None of them. Both of them. Only the last one.
I cannot tell that: I know coloured shapes only. That is outside my world. Ask me about shapes.
<function=calculator> <parameter=expression> 17 + 25 </parameter> </function> The result is 42.
I look at the picture. There are three shapes, so the answer is three. Let me think. First, second,
third, fourth. bigger smaller above below left right between next to largest smallest same other
one two three four five six seven eight nine ten zero yes no not can could would should please my
your favourite number is remember told you said before where why how who which with without from
"""  # noqa: E501


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


def _corpus() -> list[str]:
    rng = random.Random(0)
    lines = ["system\n", "user\n", "assistant\n", "\n\n"] * 400
    lines += [LATER_WORDS] * 40
    lines += [f"<{t / 10:.1f} seconds>" for t in range(0, 200, 3)]
    for _ in range(1500):
        scene = scenes.random_scene(rng, 128, 128, rng.randint(1, 4))
        clip = scenes.random_clip(rng, 96, 96)
        turns = [
            questions.colour_turn(rng, scene),
            questions.count_turn(rng, scene),
            questions.presence_turn(rng, scene),
            questions.list_turn(rng, scene),
            questions.direction_turn(rng, clip),
            questions.small_talk_turn(rng),
            questions.no_picture_turn(rng),
            *questions.name_turns(rng),
        ]
        lines += [text for turn in turns if turn for text in (turn.question, turn.answer)]
    return lines


def main() -> None:
    """Writes the tokenizer into the demo model's folder."""
    DEMO_MODEL.mkdir(parents=True, exist_ok=True)
    tokenizer = build()
    tokenizer.save(str(DEMO_MODEL / "tokenizer.json"))
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
