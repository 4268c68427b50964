"""What one decoded token reads and launches on Metal, counted in the graph, without a Mac.

    python -m tools.bench.decode_graph [--sizes 0.8B 2B 4B 9B] [--context 1024]

The graph of one step of each published size is built, by this project and by mlx-lm, over weights
that are never made: only their shapes count. Where MLX without Metal would put the fallback of a
kernel into the graph (norms, rotations, attention, the delta rule), one node stands for the kernel.
What mx.compile fuses counts as one launch, a concatenation as one for each part, and another look
at the same numbers as none. Bytes are weights, states, keys and values; activations, less than one
in a hundred of them, are left out. The ceiling of a machine is its memory bandwidth divided by
these bytes. Everything here is computed, nothing is measured.
"""

import argparse
import importlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_model.cache import DeltaNetCache
from mlx_model.config import ModelConfig, TextConfig
from mlx_model.delta_kernels import gated_delta
from mlx_model.delta_net import GatedDeltaNet
from mlx_model.layers import RMSNorm
from mlx_model.model import Model
from mlx_model.recipes import find_recipe, packing
from mlx_model.weights import as_computed
from tests.mlx_model.published_shapes import SIZES, published_config

# GB/s, as Apple states them.
BANDWIDTHS = {"M1": 68, "M4": 120, "M1 Pro": 200}
# The node that stands for a kernel; neither graph has it otherwise.
KERNEL = "Depends"
VIEWS = frozenset(
    (
        *("Broadcast", "Transpose", "Reshape", "ExpandDims", "Squeeze", "Flatten", "Unflatten"),
        *("Slice", "Split", "AsStrided", "StopGradient", "Contiguous", "View"),
    )
)
_NODE = re.compile(r'\{ \d+ \[label ="([^"]*)", shape=rectangle\]; \}')
_ARROW = re.compile(r'("[^"]+"|\d+) -> ("[^"]+"|\d+)')

Arrays = dict[str, mx.array]


@dataclass(frozen=True, slots=True)
class Step:
    """One decoded token: launches by kind of node, bytes, and the bytes that it cannot do without.

    `read_twice` names what more than one launch reads.
    """

    launches: Counter[str]
    bytes_moved: int
    bytes_ideal: int
    read_twice: tuple[str, ...]

    @property
    def launch_count(self) -> int:
        """All launches."""
        return sum(self.launches.values())


def our_step(config: ModelConfig, context: int) -> Step:
    """This project's, in bf16 with the uniform recipe in 4 bits."""
    text = config.text
    with metal_stand_ins():
        model = Model(config)
        recipe = find_recipe("uniform", 4)

        def packed(name: str, module: nn.Module) -> bool | dict[str, int]:
            if not hasattr(module, "to_quantized"):
                return False
            shape = tuple(module.weight.shape)
            how = packing(recipe, f"{name}.weight", shape, text.num_hidden_layers)
            return False if how is None else {"bits": how.bits, "group_size": how.group_size}

        nn.quantize(model, class_predicate=packed)
        model.load_weights(
            [
                (name, _empty(as_computed(name, array, mx.bfloat16)))
                for name, array in tree_flatten(model.parameters())
            ]
        )
        cache = model.make_cache()
        for layer in cache.layers:
            if isinstance(layer, DeltaNetCache):
                layer.hold(_delta_state(text))
            else:
                layer.hold(_rows(text, context))
        cache.length = cache.next_position = context
        before = {f"cache{n}": array for n, array in enumerate(cache.arrays())}
        weights = dict(tree_flatten(model.model.language_model.parameters()))
        weights |= {"lm_head." + name: array for name, array in _head(model)}
        for name, module in model.named_modules():
            if isinstance(module, RMSNorm):
                weights[f"{name}.scale"] = module.scale()
            elif isinstance(module, GatedDeltaNet) and (both := module.small_maps()):
                weights |= {f"{name}.{key}": both[key] for key in both}
        logits = model.last_logits(mx.zeros((1, 1), mx.int32), cache)
        return _counted(text, context, weights, before, [logits, *cache.arrays()])


def mlx_lm_step(config: ModelConfig, context: int) -> Step:
    """mlx-lm's, as its own conversion to 4 bits makes it."""
    language = importlib.import_module("mlx_lm.models.qwen3_5")
    text = config.text
    with metal_stand_ins():
        model = language.Model(language.ModelArgs("qwen3_5", _mlx_lm_config(text)))
        model.eval()
        nn.quantize(model, 64, 4)
        model.load_weights(
            [
                (name, _empty(array if array.dtype == mx.uint32 else array.astype(mx.bfloat16)))
                for name, array in tree_flatten(model.parameters())
            ]
        )
        cache = model.make_cache()
        before: Arrays = {}
        for number, layer in enumerate(cache):
            if hasattr(layer, "keys"):
                layer.keys, layer.values = _rows(text, context)
                layer.offset = context
                held = [layer.keys, layer.values]
            else:
                layer[1], layer[0] = _delta_state(text)
                held = [layer[1], layer[0]]
            before |= {f"cache{number}_{n}": array for n, array in enumerate(held)}
        weights = dict(tree_flatten(model.parameters()))
        logits = model(mx.zeros((1, 1), mx.int32), cache)
        made = [
            array
            for layer in cache
            for array in (
                [layer.keys, layer.values] if hasattr(layer, "keys") else [layer[0], layer[1]]
            )
        ]
        return _counted(text, context, weights, before, [logits, *made])


@contextmanager
def metal_stand_ins() -> Iterator[None]:
    """Pretend that there is Metal, as far as a graph is only built."""

    def rms_norm(x: mx.array, weight: mx.array | None, _eps: float, **_: Any) -> mx.array:
        if weight is None:
            return mx.depends(x, x)
        # As MLX itself: both in the wider of the two types.
        wider = (x[..., :1] + weight[:1]).dtype
        return mx.depends(x.astype(wider), weight.astype(wider))

    def rope(x: mx.array, *_: Any, offset: Any, **__: Any) -> mx.array:
        return mx.depends(x, offset if isinstance(offset, mx.array) else x)

    def attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
        return mx.depends(q, [k, v])

    def delta(
        queries: mx.array, keys: mx.array, values: mx.array, *rest: mx.array | None
    ) -> list[mx.array]:
        decay, beta, state, *_ = rest
        # The kernel writes in the type that queries have.
        return mx.depends([values.astype(queries.dtype), state], [queries, keys, decay, beta])

    def dequantize(w: mx.array, scales: mx.array, biases: mx.array, **how: Any) -> mx.array:
        shape = (*w.shape[:-1], w.shape[-1] * 32 // how.get("bits", 4))
        return mx.depends(mx.broadcast_to(scales[..., :1], shape), [w, scales, biases])

    theirs = importlib.import_module("mlx_lm.models.gated_delta")
    with ExitStack() as stack:
        for owner, name, stand_in in (
            (mx.fast, "rms_norm", rms_norm),
            (mx.fast, "rope", rope),
            (mx.fast, "scaled_dot_product_attention", attention),
            (mx, "dequantize", dequantize),
            (mx, "default_device", lambda: mx.gpu),
            (mx.metal, "is_available", lambda: True),
            (theirs, "gated_delta_kernel", delta),
            (gated_delta(), "gated_delta_kernel", delta),
        ):
            stack.enter_context(patch.object(owner, name, stand_in))
        yield


def _counted(
    text: TextConfig, context: int, weights: Arrays, before: Arrays, made: Sequence[mx.array]
) -> Step:
    """Walk the graph from the weights and the cache to what was made of them."""
    # Scales and biases are read with what they belong to; MLX takes 1,024 names at most.
    own = [name for name in weights if not name.endswith((".scales", ".biases"))]
    named = {f"w{number}": name for number, name in enumerate(own)}
    arrays = {number: weights[name] for number, name in named.items()}
    sizes = {number: _whole_size(weights, name) for number, name in named.items()}
    results = {f"made{number}": array for number, array in enumerate(made)}
    file = io.StringIO()
    mx.export_to_dot(file, **arrays, **before, **results)
    launches: Counter[str] = Counter()
    readers: dict[str, list[str]] = {name: [] for name in arrays}
    looks_at: dict[str, str] = {}  # an array that is a view of a weight -> the weight
    for node in _nodes(file.getvalue()):
        sources = {looks_at.get(name, name) for name in node.inputs} & readers.keys()
        if node.kind in VIEWS:
            looks_at |= {name: source for name in node.outputs for source in sources}
            continue
        launches[node.kind] += len(node.inputs) if node.kind == "Concatenate" else 1
        for source in sources:
            readers[source].append(node.kind)
    moved = ideal = 0
    twice = []
    for leaf, kinds in readers.items():
        size, row = sizes[leaf], sizes[leaf] // arrays[leaf].shape[0]
        whole = sum(kind != "Gather" for kind in kinds)
        moved += size * whole + row * (len(kinds) > whole)
        ideal += size if whole else row * bool(kinds)
        if whole > 1:
            twice.append(named[leaf])
    rows = context * 2 * text.num_key_value_heads * text.head_dim * 2
    state = 2 * sum(array.nbytes for array in _delta_state(text))
    attentions = text.layer_types.count("full_attention")
    kept = rows * attentions + state * (text.num_hidden_layers - attentions)
    return Step(launches, moved + kept, ideal + kept, tuple(twice))


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: list[str]
    outputs: list[str]


def _nodes(dot: str) -> Iterator[_Node]:
    """The operations in the order in which they are computed.

    Each is told with its own arrays after it. The number that names it says nothing: what a
    compiled function makes at several calls has the same one.
    """
    node: _Node | None = None
    for line in dot.splitlines():
        if begun := _NODE.search(line):
            if node is not None:
                yield node
            node = _Node(begun[1], [], [])
        elif node is not None and (arrow := _ARROW.fullmatch(line)):
            source, target = arrow.groups()
            if source.startswith('"'):
                node.inputs.append(source.strip('"'))
            else:
                node.outputs.append(target.strip('"'))
    if node is not None:
        yield node


def _whole_size(weights: Arrays, name: str) -> int:
    layer = name.removesuffix("weight")
    parts = (name, f"{layer}scales", f"{layer}biases")
    return sum(weights[part].nbytes for part in parts if part in weights)


def _empty(like: mx.array) -> mx.array:
    """Zeros of that shape and type which take the memory of one of them."""
    array = mx.broadcast_to(mx.zeros((1,) * like.ndim, like.dtype), like.shape)
    mx.eval(array)
    return array


def _delta_state(text: TextConfig) -> tuple[mx.array, mx.array]:
    heads, key, value = (
        text.linear_num_value_heads,
        text.linear_key_head_dim,
        text.linear_value_head_dim,
    )
    channels = 2 * text.linear_num_key_heads * key + heads * value
    tail = mx.zeros((1, text.linear_conv_kernel_dim - 1, channels), mx.bfloat16)
    return _empty(mx.zeros((1, heads, value, key), mx.float32)), _empty(tail)


def _rows(text: TextConfig, context: int) -> tuple[mx.array, mx.array]:
    shape = (1, text.num_key_value_heads, context + 256, text.head_dim)
    return _empty(mx.zeros(shape, mx.bfloat16)), _empty(mx.zeros(shape, mx.bfloat16))


def _head(model: Model) -> list[tuple[str, mx.array]]:
    if model.config.text.tie_word_embeddings:
        return []
    parameters: list[tuple[str, mx.array]] = tree_flatten(model.lm_head.parameters())
    return parameters


def _mlx_lm_config(text: TextConfig) -> dict[str, Any]:
    names = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps", "vocab_size"),
        *("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
        *("linear_num_value_heads", "linear_num_key_heads", "linear_conv_kernel_dim"),
        *("linear_key_head_dim", "linear_value_head_dim", "tie_word_embeddings"),
    )
    rope = {
        "type": "default",
        "mrope_section": list(text.rope.sections),
        "rope_theta": text.rope.theta,
        "partial_rotary_factor": text.rope.rotary_dim / text.head_dim,
    }
    own = {name: getattr(text, name) for name in names}
    return own | {"model_type": "qwen3_5_text", "rope_parameters": rope}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="tools.bench.decode_graph", description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--kinds", action="store_true", help="also the launches by kind")
    options = parser.parse_args()
    print("Computed from the graph, not measured.\n")
    machines = " | ".join(f"{name}, {speed} GB/s" for name, speed in BANDWIDTHS.items())
    print(f"| | launches a token: Fireside / mlx-lm | GB a token | over the ideal | {machines} |")
    print("|---" * (4 + len(BANDWIDTHS)) + "|")
    for size in options.sizes:
        config = published_config(size)
        ours, theirs = (step(config, options.context) for step in (our_step, mlx_lm_step))
        ceilings = " | ".join(
            f"{speed * 1e9 / ours.bytes_moved:.0f} tokens/s" for speed in BANDWIDTHS.values()
        )
        over = ours.bytes_moved / ours.bytes_ideal - 1
        print(
            f"| {size} | {ours.launch_count:,} / {theirs.launch_count:,} "
            f"| {ours.bytes_moved / 1e9:.2f} | {over:.1%} | {ceilings} |"
        )
        if options.kinds:
            print(ours.launches.most_common(), theirs.launches.most_common(), sep="\n")
            print(ours.read_twice[:5], theirs.read_twice[:5], theirs.bytes_moved / 1e9)


if __name__ == "__main__":
    main()
