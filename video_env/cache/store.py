"""The cache: a folder with an index of videos and named arrays in shards.

::

    CACHE/
      meta.json          format version, T, classes, GFLOPs of every part, sources, every shard's checksum
      index.parquet      one row per video: video, path, label, split, ...
      failures.csv       videos that could not be decoded: video, path, reason
      frames/00000.npy   rows 0 to 63 of the array "frames", and so on for each array
      networks/*.safetensors   the weights that arrays were computed with, where they were trained here
      .unfinished/       work in progress, gone once it is finished

``meta.json`` is written last and replaced in one step, so an array that it names is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from video_env.errors import InputError
from video_env.files import sha256_of, write_bytes

FORMAT_VERSION = 1
_ENTRIES = {
    "arrays", "build", "classes", "frame_size", "gflops", "index_sha256", "networks", "num_candidates",
    "shard_rows",
}  # fmt: skip

# How a user makes an array that is missing.
MADE_BY = {
    "frames": "video-env cache (with --keep-frames)",
    "skim": "video-env cache, or video-env train recognizer --network small",
    "embedding": "video-env cache, or video-env train recognizer --network small",
    "subset_confidence": "video-env train recognizer (up to 12 candidate frames)",
    "subset_prediction": "video-env train recognizer (up to 12 candidate frames)",
    "glance": "video-env cache add, or video-env train adafocus (whose cache is OUT/cache)",
    "patches": "video-env cache add, or video-env train adafocus (whose cache is OUT/cache)",
}


class CacheError(InputError):
    """A cache that cannot be used; the message names the file, what was found and what was expected."""


class CachedArray:
    """One array of a cache: rows are videos, in the order of the index.

    Indexing by a row, a slice or an integer array reads memory-mapped shards and returns a copy in
    memory; ``cache["skim"][[3, 1]]`` has shape [2, T, D].
    """

    def __init__(self, folder: Path, dtype: str, row_shape: tuple[int, ...], shard_rows: list[int]) -> None:
        self.folder = folder
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.shard_rows = shard_rows
        self._starts = np.concatenate([[0], np.cumsum(shard_rows)]).astype(int)
        # Bounded, because each open shard holds a file descriptor.
        self._shard = lru_cache(maxsize=128)(self._open_shard)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of videos, shape of one video's entry)."""
        return (len(self), *self.row_shape)

    def __getitem__(self, rows: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(rows, tuple):
            raise IndexError(f"{self.folder.name}: one index expected, found {len(rows)}")
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (len(self),):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(
                f"{self.folder.name}: indexed by {rows.dtype} {rows.shape}, expected a row, a slice, "
                f"integers [n] or booleans [{len(self)}]"
            )
        rows = rows.astype(np.int64)
        if rows.size and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(
                f"row {rows.min()} or {rows.max()} of {self.folder.name}, which has {len(self)} rows"
            )
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
            raise IndexError(
                f"row {rows.min()} or {rows.max()} of {self.folder.name}, which has {len(self)} rows"
            )
        result = np.empty((len(rows), *self.row_shape[len(inner) :]), self.dtype)
        shard_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of_row):
            here = np.flatnonzero(shard_of_row == number)
            place = (rows[here] - self._starts[number], *(index[here] for index in inner))
            result[here] = self._shard(int(number))[place]
        return result

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
            # An .npy header is padded to a multiple of 64 bytes; none of ours needs more than 128.
            if found - data not in (64, 128):
                raise CacheError(
                    f"{path}: the shard is damaged: found {found} bytes, expected {data} of data and a "
                    "header of 64 or 128"
                )

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


class Cache:
    """A finished cache, opened for reading: ``cache["skim"]`` is the array of that name.

    Opening checks the format version, the shapes and that every shard is there with its full size;
    ``verify`` reads everything and checks every checksum.

    Args:
        path: the cache's folder.

    Raises:
        CacheError: there is no cache, it is unfinished, of another format version, or incomplete.
    """

    def __init__(self, path: str | Path) -> None:
        self.meta = read_meta(Path(path))
        self.path = Path(path).absolute()
        self._arrays = {
            name: CachedArray(
                self.path / name,
                entry["dtype"],
                tuple(entry["row_shape"]),
                self.meta["shard_rows"],
            )
            for name, entry in self.meta["arrays"].items()
        }
        self._check_index()
        for array in self._arrays.values():
            array.check_sizes()

    def __len__(self) -> int:
        """Number of videos."""
        return sum(self.meta["shard_rows"])

    def __contains__(self, name: object) -> bool:
        """Whether the cache has the array of this name."""
        return name in self._arrays

    def __getitem__(self, name: str) -> CachedArray:
        if name not in self._arrays:
            hint = f"; made by: {MADE_BY[name]}" if name in MADE_BY else ""
            raise CacheError(
                f"cache {self.path} has no array {name!r}; it has {', '.join(self.arrays)}{hint}"
            )
        return self._arrays[name]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path: memory maps are opened anew in another process."""
        return Cache, (str(self.path),)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name} {array.row_shape}" for name, array in self._arrays.items())
        return f"Cache({str(self.path)!r}, {len(self)} videos, {arrays})"

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._arrays)

    @property
    def num_candidates(self) -> int:
        """T, the number of candidate frames of every video."""
        return int(self.meta["num_candidates"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in it."""
        return tuple(self.meta["classes"])

    @property
    def gflops(self) -> dict[str, float]:
        """Counted multiply-adds in 10^9: ``skim``, ``embedding`` and ``glance`` per frame, ``patches`` per
        patch, ``classifier`` per frame, ``hidden`` of the recognizer per frame and ``output`` per video,
        as far as they are known."""
        return dict(self.meta["gflops"])

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per video, in the order of the arrays' rows."""
        return pd.read_parquet(self.path / "index.parquet")

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [V], the (first) label of every video."""
        return np.array(self.index["label"], np.int64)

    @property
    def identity(self) -> str:
        """Tells caches apart by what an agent is trained on: the videos and the recognizer."""
        recognizer = self.meta["networks"].get("recognizer.safetensors", "none")
        return f"videos {self.meta['build']['annotations']}, recognizer {recognizer[:16]}"

    @property
    def contents(self) -> dict[str, str]:
        """Tells apart all that results can depend on: the videos, each array and each network, by name."""
        return {
            "videos": str(self.meta["build"]["annotations"]),
            **{f"array {name}": self.content(name) for name in self.arrays},
            **{f"network {name}": str(found)[:16] for name, found in self.meta["networks"].items()},
        }

    def sources(self, *names: str) -> dict[str, dict[str, Any]]:
        """What made some arrays: the network, its weights, the sizes that it saw. Of the cache's own
        networks, named by their files: the weights.

        Raises:
            CacheError: the cache has no such array.
        """
        return {name: self._source(name) for name in names}

    def _source(self, name: str) -> dict[str, Any]:
        if name.endswith(".safetensors"):
            return {"weights": self.meta["networks"].get(name, "none")}
        _ = self[name]  # its error says how to make it
        return dict(self.meta["arrays"][name].get("source", {}))

    def content(self, name: str) -> str:
        """Tells an array apart by its content and shape.

        Raises:
            CacheError: the cache has no such array.
        """
        parts = [str(self[name].row_shape), *self.meta["arrays"][name]["sha256"]]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def fingerprint(self, *names: str) -> str:
        """Tells caches apart by the content and shape of some arrays, and by the classifier over patches."""
        parts = [self.meta["networks"].get("classifier.safetensors", "none")]
        for name in names:
            parts += [name, str(self[name].row_shape), *self.meta["arrays"][name]["sha256"]]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _check_index(self) -> None:
        file = self.path / "index.parquet"
        if not file.is_file():
            raise CacheError(f"{file}: the index is missing; rebuild the cache")
        try:
            rows = pyarrow.parquet.read_metadata(file).num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise CacheError(f"{file}: damaged, no readable table ({error})") from error
        if rows != len(self):
            raise CacheError(f"{file}: found {rows} rows, expected {len(self)} as in meta.json")

    @cached_property
    def _row_of_video(self) -> dict[str, int]:
        return {video: row for row, video in enumerate(self.index["video"])}

    def rows(self, split: str) -> np.ndarray:
        """int64 rows of a split's videos.

        Raises:
            CacheError: the cache has no video of that split; the message lists those it has.
        """
        rows = np.flatnonzero(self.index["split"].to_numpy() == split)
        if rows.size == 0:
            found = ", ".join(sorted(self.index["split"].unique()))
            raise CacheError(f"cache {self.path} has no video of split {split!r}; it has {found}")
        return rows

    def row(self, video: str) -> int:
        """The row of a video by its id.

        Raises:
            CacheError: there is no such video.
        """
        try:
            return self._row_of_video[video]
        except KeyError:
            raise CacheError(f"cache {self.path} has no video {video!r}") from None

    def label_sets(self) -> list[tuple[int, ...]]:
        """All labels of every video; one each where the set is single-label."""
        if "labels" not in self.index:
            return [(label,) for label in self.labels.tolist()]
        return [tuple(int(label) for label in labels) for labels in self.index["labels"]]

    def verify(self) -> Iterator[Path]:
        """Check every shard and network against its checksum, yielding each file that was checked.

        Raises:
            CacheError: at the first file that differs.
        """
        for name, entry in self.meta["arrays"].items():
            for number, sha256 in enumerate(entry["sha256"]):
                if sha256:
                    yield _verified(shard_path(self.path / name, number), sha256)
        for name, sha256 in self.meta["networks"].items():
            yield _verified(self.path / "networks" / name, sha256)
        yield _verified(self.path / "index.parquet", self.meta["index_sha256"])


def add_network(
    cache: Cache,
    name: str,
    safetensors: bytes,
    *,
    gflops: dict[str, float] | None = None,
    training: dict[str, Any] | None = None,
) -> Cache:
    """Store a network's weights as ``networks/NAME.safetensors``, and in ``meta.json`` its counted costs
    and the settings of its training, seed included; opens the cache again."""
    sha256 = write_bytes(cache.path / "networks" / f"{name}.safetensors", safetensors)
    meta = read_meta(cache.path)
    meta["networks"][f"{name}.safetensors"] = sha256
    meta["gflops"].update(gflops or {})
    meta.setdefault("training", {})[name] = training
    write_meta(cache.path, meta)
    return Cache(cache.path)


def remove(cache: Cache, arrays: tuple[str, ...] = (), networks: tuple[str, ...] = ()) -> Cache:
    """Take arrays and networks out of the cache and delete their files; opens the cache again."""
    meta = read_meta(cache.path)
    meta["arrays"] = {name: entry for name, entry in meta["arrays"].items() if name not in arrays}
    files = {f"{name}.safetensors" for name in networks}
    meta["networks"] = {name: sum_ for name, sum_ in meta["networks"].items() if name not in files}
    write_meta(cache.path, meta)
    for job in (cache.path / ".unfinished").glob("*"):
        if set(job.name.split("+")) & set(arrays):
            shutil.rmtree(job)
    for name in arrays:
        shutil.rmtree(cache.path / name, ignore_errors=True)
    for name in files:
        (cache.path / "networks" / name).unlink(missing_ok=True)
    return Cache(cache.path)


def open_cache(cache: str | Path | Cache) -> Cache:
    """A cache from a path, or the cache itself."""
    return cache if isinstance(cache, Cache) else Cache(cache)


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def read_meta(path: Path) -> dict[str, Any]:
    """The contents of ``meta.json``, its version checked.

    Raises:
        CacheError: see ``Cache``.
    """
    file = path / "meta.json"
    if not path.is_dir():
        raise CacheError(f"cache {path}: no such folder; make one with video-env cache")
    if not file.is_file():
        unfinished = (path / ".unfinished").is_dir()
        raise CacheError(
            f"cache {path}: "
            + (
                "unfinished: run the video-env cache command that began it again"
                if unfinished
                else "no meta.json in it, so it is no cache; make one with video-env cache"
            )
        )
    try:
        meta = json.loads(file.read_text())
        version = meta["format_version"]
        missing = _ENTRIES - set(meta)
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{file}: damaged, no readable format version ({error})") from error
    if version != FORMAT_VERSION:
        raise CacheError(
            f"{file}: found format version {version}, expected {FORMAT_VERSION}; build the cache again "
            "with this version of video-env"
        )
    if missing:
        raise CacheError(f"{file}: damaged, no entry {', '.join(sorted(missing))}")
    return meta


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Replace ``meta.json`` in one step: this is what makes new arrays part of the cache."""
    write_bytes(path / "meta.json", (json.dumps(meta, indent=1, sort_keys=True) + "\n").encode())


def _verified(path: Path, sha256: str) -> Path:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error})") from error
    if found != sha256:
        raise CacheError(f"{path}: damaged: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…")
    return path
