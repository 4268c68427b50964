"""Pieces of MP4 and HEIC files: found where they are, refused where their sizes make no sense."""

import io
import struct

import pytest

from mlx_model.boxes import Box, BoxError, has_box, only, packed_box, read_box


def held(content: bytes) -> Box:
    return Box(b"test", memoryview(content))


def test_pieces_are_packed_as_they_are_read() -> None:
    inner = packed_box(b"one ", b"abc") + packed_box(b"two ", b"")
    outer = held(inner).children()
    assert [(box.name, bytes(box.content)) for box in outer] == [(b"one ", b"abc"), (b"two ", b"")]
    assert b"".join(box.packed() for box in outer) == inner
    assert held(b"1234" + inner).children(skip=4)[0].name == b"one "


def test_a_path_leads_to_the_one_piece_of_a_name() -> None:
    box = held(packed_box(b"up  ", packed_box(b"down", b"x")))
    assert bytes(box.only(b"up  ", b"down").content) == b"x"
    with pytest.raises(BoxError):
        box.only(b"up  ", b"side")
    with pytest.raises(BoxError):
        only([*box.children(), *box.children()], b"up  ")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">I4s", 9, b"long"),
        struct.pack(">I4s", 7, b"slim"),
        struct.pack(">I4s", 0, b"none"),
        packed_box(b"good", b"") + b"rest",
        packed_box(b"many", b"") * 10_001,
    ],
    ids=["too long", "too short", "no size", "a rest", "too many"],
)
def test_pieces_that_do_not_fit_are_refused(content: bytes) -> None:
    with pytest.raises(BoxError):
        held(content).children()


def test_the_outermost_pieces_of_a_file() -> None:
    long_size = struct.pack(">I4sQ", 1, b"long", 20) + b"1234"
    to_the_end = struct.pack(">I4s", 0, b"rest") + b"567"
    file = io.BytesIO(packed_box(b"one ", b"abc") + long_size + to_the_end)
    assert [bytes(read_box(file, name, 10).content) for name in (b"one ", b"long", b"rest")] == [
        b"abc",
        b"1234",
        b"567",
    ]
    assert has_box(file, b"rest")
    assert not has_box(file, b"567 ")
    with pytest.raises(BoxError):
        read_box(file, b"long", 3)


@pytest.mark.parametrize("size", [2**31, 2**32 - 1, 3])
def test_a_piece_longer_than_the_file_is_not_there(size: int) -> None:
    file = io.BytesIO(packed_box(b"one ", b"abc") + struct.pack(">I4s", size, b"lies"))
    assert has_box(file, b"one ")
    assert not has_box(file, b"lies")
