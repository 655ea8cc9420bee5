"""A cache of a few videos in memory, whose arrays are computed where somebody looks at them.

Whatever acts on a finished cache acts on such a one too, and only what it asks for is computed: one that
chooses two frames has two frames embedded.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from video_env.cache.arrays import CachedArray
from video_env.cache.meta import CacheError
from video_env.cache.store import Cache

Compute = Callable[..., np.ndarray]
"""From int64 [n] for each index of a cell (video; video and frame; ...) to the cells' values [n, ...]."""

SPLIT = "test"
"""Of all videos in memory."""


class ArrayOnDemand(CachedArray):
    """An array whose cells are computed when they are first asked for.

    Args:
        name: of the array.
        dtype: of its values.
        row_shape: of one video's entry.
        videos: V.
        compute: gives the cells' values.
        depth: how many indices name a cell: 1 for whole videos, 2 for frames, 3 for positions in frames.
    """

    on_demand = True

    def __init__(
        self, name: str, dtype: str, row_shape: tuple[int, ...], videos: int, compute: Compute, depth: int = 1
    ) -> None:
        super().__init__(name, Path(), dtype, row_shape, [videos])
        self._compute = compute
        self._values = np.zeros((videos, *row_shape), self.dtype)
        self._known = np.zeros((videos, *row_shape)[:depth] if depth > 1 else (videos,), bool)

    def __getitem__(self, rows: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if not isinstance(rows, tuple):
            self._know(rows)
        return super().__getitem__(rows)

    def entries(self, rows: np.ndarray, *inner: np.ndarray) -> np.ndarray:
        self._know((rows, *inner)[: self._known.ndim])
        return super().entries(rows, *inner)

    def of_frames(self, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        number, frame = np.nonzero(wanted)
        self._know((rows[number], frame)[: self._known.ndim])
        return super().__getitem__(rows)

    def _know(self, cells: Any) -> None:
        asked = np.zeros_like(self._known)
        asked[cells] = True
        missing = np.nonzero(asked & ~self._known)
        if missing[0].size:
            self._values[missing] = self._compute(*missing)
            self._known[missing] = True

    def _shard(self, number: int) -> np.ndarray:
        return self._values


class CacheInMemory(Cache):
    """Videos that nobody has labelled, as a cache with the networks and costs of another one.

    All videos are of the split ``test`` and have label 0, which means nothing.

    Args:
        source: the cache whose networks, costs and classes count; ``path`` is its path.
        videos: ids.
        arrays: by name; each is one of the source's too.
    """

    def __init__(self, source: Cache, videos: list[str], arrays: Mapping[str, CachedArray]) -> None:
        self.path = source.path
        entries = source.meta["arrays"]
        # No two caches in memory have the same contents.
        self.meta = {
            **source.meta,
            "shard_rows": [len(videos)],
            "arrays": {name: {**entries[name], "sha256": [uuid.uuid4().hex]} for name in arrays},
        }
        self._arrays = dict(arrays)
        index = pd.DataFrame({"video": videos, "label": 0, "split": SPLIT})
        self.__dict__["index"] = index  # where the cached property looks first

    def rows(self, split: str) -> np.ndarray:
        if split != SPLIT:
            raise CacheError(f"split {split!r}: found videos without labels, which no method can learn from")
        return super().rows(split)

    def __copy__(self) -> CacheInMemory:
        return self

    def __deepcopy__(self, memo: Any) -> CacheInMemory:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cache in memory is of one process, and cannot be pickled")
