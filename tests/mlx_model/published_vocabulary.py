"""The published Qwen3.5 vocabulary, for tests and tools on machines that have it.

It comes in tiktoken's format: a token in base64 and its rank on each line. It is not part of the
repository; the goldens hold digests of the ids it gives.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# In the order of their ids, which follow on the last learned token.
CONTROL_TOKENS = (
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
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
)


def read_vocabulary(file: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens with their ids and the merges in order, spelled as byte-level tokenizers do.

    Takes some seconds: a rank stands for every split of its token into two known tokens.
    """
    ranks: dict[bytes, int] = {}
    for line in file.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    letters = _byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(left, right) for left, right in splits if left in ranks and right in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges.extend((spelled[left], spelled[right]) for left, right in known)
    return {spelled[token]: rank for token, rank in ranks.items()}, merges


def ids_digest(ids: Sequence[int]) -> str:
    """What stands for a sequence of ids in the goldens."""
    return hashlib.sha256(np.array(ids, dtype="<i8").tobytes()).hexdigest()[:16]


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
