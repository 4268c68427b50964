"""The two checkpoints: the demo model, and eight layers with as many tokens as the published ones.

The second has random weights in 4 bits with fp32 scales, since MLX's CPU backend is slow in 16 bits
and a checkpoint's scales decide what the peers compute in. Its made-up vocabulary is of letters, so
that what it babbles can be read back in.
"""

import json
import shutil
import tempfile
from itertools import chain, islice, product
from pathlib import Path
from string import ascii_lowercase

import mlx.core as mx
import numpy as np

from mlx_model.config import parse_config
from mlx_model.convert import convert
from tests.mlx_model.published_shapes import published_tensors
from tests.mlx_model.published_vocabulary import CONTROL_TOKENS
from tools.real.synthetic import DEMO_MODEL, TINY, config_data

VOCABULARY = 248_320
_LEARNED = 248_044
_SPACE = "Ġ"
_SEED = 7


def find_checkpoint(name: str, folder: Path) -> Path:
    """`demo`, `synthetic` (made in `folder` once), or the path of any checkpoint."""
    if name == "demo":
        return DEMO_MODEL
    if name != "synthetic":
        return Path(name)
    made = folder / "synthetic-8-layers"
    if not made.exists():
        write_synthetic(made)
    return made


def write_synthetic(target: Path, vocabulary: int = VOCABULARY, layers: int = 8) -> None:
    """Eight layers of width 256 with the published head widths, packed by the uniform recipe."""
    data = config_data(TINY)
    learned = vocabulary - (VOCABULARY - _LEARNED)
    ids = {token: learned + number for number, token in enumerate(CONTROL_TOKENS)}
    data |= {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    data["text_config"] |= {
        "vocab_size": vocabulary,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": layers,
        "layer_types": [
            "full_attention" if number % 4 == 3 else "linear_attention" for number in range(layers)
        ],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "eos_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,  # where the peers look for it
    }
    rope = {"mrope_section": [6, 5, 5]}
    data["text_config"]["rope_parameters"] = data["text_config"]["rope_parameters"] | rope
    data["vision_config"] |= {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "out_hidden_size": 256,
    }
    with tempfile.TemporaryDirectory(dir=_made(target.parent)) as folder:
        source = Path(folder) / "source"
        source.mkdir()
        _write_json(source / "config.json", data)
        _write_weights(source, data)
        _write_tokenizer(source, learned)
        for name in ("chat_template.jinja", "tokenizer_config.json"):
            shutil.copy(DEMO_MODEL / name, source)
        _write_settings(source)
        convert(source, target, "uniform", 4)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_weights(source: Path, data: dict[str, object]) -> None:
    random = np.random.default_rng(_SEED)
    weights: dict[str, mx.array] = {}
    for name, info in published_tensors(parse_config(data)).items():
        values = random.standard_normal(info.shape, np.float32)
        # Large enough steps that the likeliest token is clear and the text goes on changing.
        scale = 0.1 if name.endswith("embed_tokens.weight") else info.shape[-1] ** -0.5
        weights[name] = mx.array(values * (0.05 if len(info.shape) == 1 else scale))
    mx.save_safetensors(str(source / "model.safetensors"), weights, {"format": "pt"})


def _write_tokenizer(source: Path, learned: int) -> None:
    """Bytes, then words of two to four letters that may begin with a space."""
    data = json.loads((DEMO_MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    letters = [token for token in data["model"]["vocab"] if len(token) == 1]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    heads = (_SPACE, *ascii_lowercase)
    words = chain.from_iterable(product(heads, *[ascii_lowercase] * n) for n in (1, 2, 3))
    for parts in islice(words, learned - len(vocabulary)):
        word = "".join(parts)
        vocabulary[word] = len(vocabulary)
        merges.append((word[:-1], word[-1]))
    pattern = data["added_tokens"][0]
    data["added_tokens"] = [
        pattern | {"id": learned + number, "content": token}
        for number, token in enumerate(CONTROL_TOKENS)
    ]
    data["model"] |= {"vocab": vocabulary, "merges": merges}
    _write_json(source / "tokenizer.json", data)


def _write_settings(source: Path) -> None:
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        data = json.loads((DEMO_MODEL / name).read_text(encoding="utf-8"))
        data["size"] = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
        _write_json(source / name, data)


def _write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
