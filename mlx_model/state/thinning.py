"""Which lengths of a history are worth a state: dense near its end, ever rarer towards its start.

A question usually comes at the end and an edit shortly before it, so a gap may be as long as its
distance from the end: the states grow with the logarithm of the length.
"""

from collections.abc import Sequence


def spread_lengths(total: int, step: int) -> list[int]:
    """Multiples of `step` about step, 2 step, 4 step ... before `total`, shortest first."""
    lengths = set()
    distance = step
    while distance < total:
        lengths.add((total - distance) // step * step)
        distance *= 2
    return sorted(lengths - {0})


def least_missed(lengths: Sequence[int], start: int) -> int:
    """The place in `lengths`, which rise from above `start`, of the one to give up first.

    Never the last. Without it a gap has to be read again; the nearer to the end, the likelier.
    """
    end = lengths[-1]
    befores = [start, *lengths]

    def loss(place: int) -> float:
        return (lengths[place] - befores[place]) / (end - lengths[place])

    return min(range(len(lengths) - 1), key=loss)
