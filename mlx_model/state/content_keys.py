"""What stands for the tokens of a prompt where prompts are compared.

A token is its id. A placeholder of a picture or clip says nothing about what it stands for, so a
negative number made of the content's digest takes its place; no id is negative.
"""

import hashlib
from collections.abc import Mapping, Sequence

from mlx_model.prompt import MediaKind, Prompt
from mlx_model.state.branch import Keys


def content_keys(prompt: Prompt, digests: Mapping[MediaKind, Sequence[bytes]]) -> Keys:
    """Shapes: -> [T]. `digests` of the pictures and of the clips, in order of appearance."""
    keys = prompt.input_ids.copy()
    groups: dict[tuple[MediaKind, int], int] = {}
    for span in prompt.media:
        group = groups.get((span.kind, span.index), 0)
        groups[span.kind, span.index] = group + 1
        keys[span.start : span.stop] = media_key(digests[span.kind][span.index], group)
    return keys


def media_key(digest: bytes, group: int) -> int:
    """The number for frame group `group` of a clip, or for a picture, whose only group is 0."""
    mixed = hashlib.sha256(digest + group.to_bytes(4, "little")).digest()
    return -1 - (int.from_bytes(mixed[:8], "little") >> 1)
