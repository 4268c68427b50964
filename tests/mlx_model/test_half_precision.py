"""Weights in bf16 and fp16: what rounding costs, held against what it costs the reference."""

from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import numpy as np
import pytest

from mlx_model.cache import KeyValueCache
from mlx_model.model import Model
from tests.mlx_model.goldens import GOLDENS, VARIANTS, golden_model

# Where fp32's likeliest token leads by this part of the largest logit, 16 bits must agree with it.
CLEAR_MARGIN = 0.03
TYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16}
PICTURE, CLIP = np.array([[1, 8, 4]]), np.array([[3, 4, 6]])

every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_type = pytest.mark.parametrize("kind", TYPES)


with np.load(GOLDENS / "half_precision.npz") as arrays:
    REFERENCE = {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class Comparison:
    """Logits of all prompts in 16 bits and in fp32. Shapes: [N, T, vocab]."""

    found: np.ndarray
    expected: np.ndarray

    def errors(self) -> np.ndarray:
        """Largest and root-mean-square error of each prompt, as parts of its largest logit."""
        difference = np.abs(self.found - self.expected)
        scale = np.abs(self.expected).max(axis=(1, 2))
        largest = difference.max(axis=(1, 2)) / scale
        return np.stack([largest, np.sqrt((difference**2).mean(axis=(1, 2))) / scale], axis=1)


@cache
def compare(variant: str, kind: str) -> Comparison:
    return Comparison(
        all_logits(golden_model(variant, "calm", TYPES[kind])),
        all_logits(golden_model(variant, "calm", mx.float32)),
    )


def all_logits(model: Model) -> np.ndarray:
    """Shapes: N prompts -> [N, T, vocab]."""
    prompts = zip(REFERENCE["input_ids"], REFERENCE["picture"], REFERENCE["clip"], strict=True)
    rows = [
        model(ids[None], pixels(picture), PICTURE, pixels(clip), CLIP)[0]
        for ids, picture, clip in prompts
    ]
    return np.array(mx.stack(rows).astype(mx.float32))


def pixels(levels: np.ndarray) -> np.ndarray:
    return levels / np.float32(127.5) - 1


@every_variant
@every_type
def test_rounding_costs_no_more_than_it_costs_the_reference(variant: str, kind: str) -> None:
    ours = compare(variant, kind).errors()
    reference = REFERENCE[f"{variant}/{kind}"]
    assert ours[:, 0].max() < 2 * reference[:, 0].max()
    # Means over the prompts vary less from prompt to prompt than the one largest error.
    assert (ours.mean(axis=0) < 1.15 * reference.mean(axis=0)).all()


@every_variant
@every_type
def test_the_likeliest_token_stays_where_it_leads_clearly(variant: str, kind: str) -> None:
    both = compare(variant, kind)
    ranked = np.sort(both.expected, axis=-1)
    largest = np.abs(both.expected).max(axis=(1, 2))[:, None]
    clear = ranked[..., -1] - ranked[..., -2] > CLEAR_MARGIN * largest
    agrees = both.found.argmax(axis=-1) == both.expected.argmax(axis=-1)
    assert clear.sum() > 500
    assert agrees[clear].mean() >= 0.99


@every_variant
@every_type
def test_one_token_at_a_time_rounds_no_worse(variant: str, kind: str) -> None:
    ids = REFERENCE["input_ids"][:1, :40].astype(np.int64)
    model = golden_model(variant, "calm", TYPES[kind])
    cache = model.make_cache()
    rows = [model.last_logits(ids[:, t : t + 1], cache) for t in range(ids.shape[1])]
    found = np.array(mx.concatenate(rows).astype(mx.float32))
    expected = np.array(golden_model(variant, "calm", mx.float32)(ids)[0])
    largest = Comparison(found[None], expected[None]).errors()[0, 0]
    assert largest < 1.5 * REFERENCE[f"{variant}/{kind}"][:, 0].max()


@every_variant
@every_type
def test_keys_and_values_take_16_bits_and_states_32(variant: str, kind: str) -> None:
    dtype = TYPES[kind]
    model = golden_model(variant, "calm", dtype)
    cache = model.make_cache()
    logits = model(
        REFERENCE["input_ids"][:1],
        pixels(REFERENCE["picture"][0]),
        PICTURE,
        pixels(REFERENCE["clip"][0]),
        CLIP,
        cache,
    )
    assert logits.dtype == dtype
    for layer in cache.layers:
        if isinstance(layer, KeyValueCache):
            assert layer.keys.dtype == layer.values.dtype == dtype
        else:
            assert layer.state.dtype == mx.float32
            assert layer.conv_tail.dtype == dtype
    assert model.last_logits(np.array([[3]]), cache).dtype == dtype
