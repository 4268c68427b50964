"""A prompt's keys: ids, and what pictures and clips hold in the place of their placeholders."""

import hashlib

import numpy as np

from mlx_model.prompt import MediaKind, MediaSpan, Prompt
from mlx_model.state.content_keys import content_keys, media_key

PAD = 9
RED, BLUE, CLIP = (hashlib.sha256(name).digest() for name in (b"red", b"blue", b"clip"))


def keys_of(
    *spans: MediaSpan, image: tuple[bytes, ...] = (), video: tuple[bytes, ...] = ()
) -> list[int]:
    ids = np.arange(100, 120)
    for span in spans:
        ids[span.start : span.stop] = PAD
    digests: dict[MediaKind, tuple[bytes, ...]] = {"image": image, "video": video}
    return content_keys(Prompt(ids, spans, turn_point=20), digests).tolist()


def test_text_is_its_ids() -> None:
    assert keys_of() == list(range(100, 120))


def test_a_picture_is_what_it_holds_and_nothing_else() -> None:
    spans = MediaSpan("image", 0, 2, 6), MediaSpan("image", 1, 10, 12)
    keys = keys_of(*spans, image=(RED, BLUE))
    assert keys[2:6] == [media_key(RED, 0)] * 4
    assert keys[10:12] == [media_key(BLUE, 0)] * 2
    assert keys[:2] + keys[6:10] + keys[12:] == [100, 101, *range(106, 110), *range(112, 120)]
    swapped = keys_of(*spans, image=(BLUE, RED))
    assert swapped[2:6] == [media_key(BLUE, 0)] * 4
    assert swapped[10:12] == [media_key(RED, 0)] * 2


def test_each_frame_group_of_a_clip_has_a_key_of_its_own() -> None:
    spans = [MediaSpan("video", 0, start, start + 2) for start in (2, 6, 10)]
    keys = keys_of(*spans, MediaSpan("image", 0, 14, 16), image=(RED,), video=(CLIP,))
    groups = [keys[start : start + 2] for start in (2, 6, 10)]
    assert groups == [[media_key(CLIP, group)] * 2 for group in range(3)]
    assert len({media_key(CLIP, group) for group in range(768)}) == 768


def test_no_key_of_media_can_be_an_id() -> None:
    for number in range(200):
        key = media_key(hashlib.sha256(number.to_bytes(4, "little")).digest(), number)
        assert -(2**63) <= key < 0
        assert int(np.int64(key)) == key
