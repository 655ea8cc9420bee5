"""In which parts videos are taken."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from video_env.models.stopping import Length

LOOKED_AT_TOGETHER = 32  # videos; bounds the memory that frames take
LARGEST_IN_MEMORY = 1 << 30  # bytes of scaled frames or maps that are kept, not read anew in every epoch


def in_parts(count: int, size: int) -> Iterator[np.ndarray]:
    """0 to count − 1 in parts of at most this size, in order."""
    yield from np.array_split(np.arange(count), -(-count // size))


def shuffled(count: int, size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """0 to count − 1 in random order, in batches of at most this size, which differ by one at most."""
    return np.array_split(generator.permutation(count), per_epoch(count, size))


def of_round(
    length: Length, round: int, count: int, size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """The batches of a training's round: a pass over all videos, or so many batches of them, in random order
    that is drawn anew whenever all were taken.

    Args:
        length: of the training.
        round: its number.
        count: how many videos there are.
        size: of a batch; all videos where there are fewer.
        generator: draws the order.
    """
    if length.epochs:
        return shuffled(count, size, generator)
    size, updates = min(size, count), length.updates_of(round, 0)
    passes = [generator.permutation(count) for _ in range(-(-updates * size // count))]
    return np.split(np.concatenate(passes)[: updates * size], updates)


def per_epoch(count: int, size: int) -> int:
    """Batches of a pass over all videos, as ``shuffled`` makes them."""
    return -(-count // size)
