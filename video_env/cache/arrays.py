"""One array of a cache, in shards: plain .npy files that are mapped into memory."""

from __future__ import annotations

import math
import resource
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from video_env.cache.meta import CacheError

# Each mapped shard holds a file descriptor, and the limit on them is the process's, whatever the number of
# caches that it keeps open.
_MOST_MAPPED = max(16, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
_mapped: OrderedDict[tuple[int, int], weakref.ref[CachedArray]] = OrderedDict()


class CachedArray:
    """One array of a cache: rows are videos, in the order of the index.

    Indexing by a row, a slice or an integer array reads memory-mapped shards and returns a copy in
    memory; ``cache["skim"][[3, 1]]`` has shape [2, T, D].

    Attributes:
        on_demand: whether entries are computed when they are asked for, so that none is read in advance.
    """

    on_demand = False

    def __init__(
        self, name: str, folder: Path, dtype: str, row_shape: tuple[int, ...], shard_rows: list[int]
    ) -> None:
        self.name = name
        self.folder = folder
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.shard_rows = shard_rows
        self._starts = np.concatenate([[0], np.cumsum(shard_rows)]).astype(int)
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of videos, shape of one video's entry)."""
        return (len(self), *self.row_shape)

    def __getitem__(self, rows: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(rows, tuple):
            raise IndexError(f"{self.name}: one index expected, found {len(rows)}")
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (len(self),):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(
                f"{self.name}: indexed by {rows.dtype} {rows.shape}, expected a row, a slice, "
                f"integers [n] or booleans [{len(self)}]"
            )
        rows = rows.astype(np.int64)
        if rows.size and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"row {rows.min()} or {rows.max()} of {self.name}, which has {len(self)} rows")
        rows = rows % max(len(self), 1)
        result = np.empty((len(rows), *self.row_shape), self.dtype)
        shard_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of_row):
            here = shard_of_row == number
            result[here] = self._shard(int(number))[rows[here] - self._starts[number]]
        return result

    def entries(self, rows: np.ndarray, *inner: np.ndarray) -> np.ndarray:
        """Single entries of many rows, read from the memory map: int64 [n] each, so that
        ``cache["patches"].entries(rows, frames, positions)`` has shape [n, D].

        Raises:
            IndexError: an index is out of range.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.min()} or {rows.max()} of {self.name}, which has {len(self)} rows")
        result = np.empty((len(rows), *self.row_shape[len(inner) :]), self.dtype)
        shard_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of_row):
            here = np.flatnonzero(shard_of_row == number)
            place = (rows[here] - self._starts[number], *(index[here] for index in inner))
            result[here] = self._shard(int(number))[place]
        return result

    def of_frames(self, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """As ``self[rows]``, for who looks at some frames only: others may hold anything, where an array is
        computed on demand.

        Args:
            rows: int64 [n].
            wanted: bool [n, T].
        """
        return self[rows]

    def iterate(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The shards in order: which rows, and their memory-mapped values (read-only)."""
        for number, start in enumerate(self._starts[:-1].tolist()):
            yield slice(start, int(self._starts[number + 1])), self._shard(number)

    def check_sizes(self) -> None:
        """Raise CacheError for a shard that is missing or has another size than its shape says."""
        row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        for number, rows in enumerate(self.shard_rows):
            if rows == 0:
                continue
            path, data = shard_path(self.folder, number), rows * row_bytes
            try:
                found = path.stat().st_size
            except FileNotFoundError:
                raise CacheError(f"{path}: the shard is missing; rebuild the cache") from None
            except OSError as error:
                raise CacheError(f"{path}: the shard cannot be read ({error})") from error
            # An .npy header is padded to a multiple of 64 bytes; none of ours needs more than 128.
            if found - data not in (64, 128):
                raise CacheError(
                    f"{path}: the shard is damaged: found {found} bytes, expected {data} of data and a "
                    "header of 64 or 128"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without its memory maps, which are opened anew in another process."""
        return CachedArray, (self.name, self.folder, self.dtype.str, self.row_shape, self.shard_rows)

    def _shard(self, number: int) -> np.ndarray:
        """A shard's memory map, one of the process's ``_MOST_MAPPED`` latest."""
        values = self._maps.get(number)
        if values is None:
            values = self._maps[number] = self._open_shard(number)
        # No lock, which a forked process could inherit held: each step holds whatever others do meanwhile.
        key = id(self), number
        _mapped[key] = weakref.ref(self)
        with suppress(KeyError):
            _mapped.move_to_end(key)
            while len(_mapped) > _MOST_MAPPED:
                (_, oldest), owner = _mapped.popitem(last=False)
                if (array := owner()) is not None:
                    array._maps.pop(oldest, None)
        return values

    def _open_shard(self, number: int) -> np.ndarray:
        rows, path = self.shard_rows[number], shard_path(self.folder, number)
        if rows == 0:
            return np.empty((0, *self.row_shape), self.dtype)
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CacheError(f"{path}: the shard cannot be read ({error})") from error
        if values.shape != (rows, *self.row_shape) or values.dtype != self.dtype:
            raise CacheError(
                f"{path}: found {values.dtype} {values.shape}, expected {self.dtype} "
                f"{(rows, *self.row_shape)}"
            )
        return values


def shard_path(folder: Path, number: int) -> Path:
    """The file of one shard of the array in a folder."""
    return folder / f"{number:05d}.npy"
