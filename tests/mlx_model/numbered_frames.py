"""Frames that carry their own number, so that a test can tell which ones a decoder returned.

Three bands: the number as ten black or white blocks, then red on the left and blue on the right,
then green; it survives lossy coding and shows when a frame is turned or mirrored.
"""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

BITS = 10
BLOCK = 16
WIDTH, HEIGHT = BITS * BLOCK, 3 * BLOCK


def numbered_frame(number: int) -> Pixels:
    """uint8 [48, 160, 3]."""
    frame = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            frame[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255
    frame[BLOCK : 2 * BLOCK, : WIDTH // 2, 0] = 255
    frame[BLOCK : 2 * BLOCK, WIDTH // 2 :, 2] = 255
    frame[2 * BLOCK :, :, 1] = 255
    return frame


def number_of(frame: Pixels) -> int:
    """The number of a decoded frame; AssertionError when it is turned or its colours are wrong."""
    assert frame.shape == (HEIGHT, WIDTH, 3), frame.shape
    middle = frame[BLOCK + 4 : 2 * BLOCK - 4].astype(int)
    left, right = middle[:, 8 : WIDTH // 2 - 8], middle[:, WIDTH // 2 + 8 : -8]
    assert left[..., 0].mean() > left[..., 2].mean() + 80, "the left is not red"
    assert right[..., 2].mean() > right[..., 0].mean() + 80, "the right is not blue"
    assert frame[2 * BLOCK + 4 :, :, 1].mean() > 100, "the bottom is not green"
    blocks = frame[4 : BLOCK - 4].reshape(BLOCK - 8, BITS, BLOCK, 3)[:, :, 4:-4]
    bright = blocks.mean(axis=(0, 2, 3)) > 127
    return int(sum(1 << bit for bit in range(BITS) if bright[bit]))
