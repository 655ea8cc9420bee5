"""In which parts videos are taken."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LOOKED_AT_TOGETHER = 32  # videos; bounds the memory that frames take
LARGEST_IN_MEMORY = 1 << 30  # bytes of scaled frames or maps that are kept, not read anew in every epoch


def in_parts(count: int, size: int) -> Iterator[np.ndarray]:
    """0 to count − 1 in parts of at most this size, in order."""
    yield from np.array_split(np.arange(count), -(-count // size))


def shuffled(count: int, size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """0 to count − 1 in random order, in batches of at most this size, which differ by one at most."""
    return np.array_split(generator.permutation(count), -(-count // size))
