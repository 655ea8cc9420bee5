"""The cache: a folder with an index of videos and named arrays in shards.

::

    CACHE/
      meta.json          format version, T, classes, GFLOPs of every part, sources, every shard's checksum
      index.parquet      one row per video: video, path, label, split, ...
      failures.csv       videos that could not be decoded: video, path, reason
      frames/00000.npy   rows 0 to 63 of the array "frames", and so on for each array
      networks/*.safetensors   the weights that arrays were computed with, where they were trained here
      .unfinished/       work in progress, gone once it is finished

``meta.json`` is written last and replaced in one step, so an array that it names is whole. What replaces an
array or a network lies beside the old one until then, and stays there: ``places`` in ``meta.json`` says so
(``"skim": "skim.2"``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from video_env.cache.arrays import CachedArray, shard_path
from video_env.cache.meta import NETWORKS, CacheError, place_of, read_meta, write_meta
from video_env.errors import InputError
from video_env.files import sha256_of
from video_env.settings import difference

__all__ = ["Cache", "CacheError", "CachedArray", "open_cache", "read_meta", "write_meta"]


class Cache:
    """A finished cache, opened for reading: ``cache["skim"]`` is the array of that name.

    Opening checks ``meta.json`` as a whole, the shapes, and that every shard is there with its full size;
    ``verify`` reads everything and checks every checksum. A cache that is only read needs no right to write.

    Args:
        path: the cache's folder.

    Raises:
        CacheError: there is no cache, it is unfinished, of another format version, or incomplete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        while True:
            self.meta = read_meta(self.path)
            try:
                self._open()
            except CacheError:
                # Replaced between reading meta.json and looking for what it names?
                if read_meta(self.path) == self.meta:
                    raise
            else:
                return

    def _open(self) -> None:
        for name in (NETWORKS, *(place_of(self.meta, name) for name in self.meta["arrays"])):
            if (self.path / name).is_symlink():
                raise CacheError(f"{self.path / name}: is a link, expected a folder of the cache itself")
        self._arrays = {
            name: CachedArray(
                name,
                self.path / place_of(self.meta, name),
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
            raise CacheError(
                f"cache {self.path} has no array {name!r}; it has {', '.join(self.arrays)}", needs=name
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

    def network_file(self, name: str) -> Path:
        """Where a network's weights lie, by its file name in ``meta["networks"]``.

        Raises:
            CacheError: the cache has no such network.
        """
        if name not in self.meta["networks"]:
            found = ", ".join(self.meta["networks"]) or "none"
            raise CacheError(f"cache {self.path} has no network {name!r}; it has {found}")
        return self.path / NETWORKS / place_of(self.meta, name)

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per video, in the order of the arrays' rows.

        Raises:
            CacheError: the table is damaged, or a label has no class.
        """
        file = self.path / "index.parquet"
        try:
            index = pd.read_parquet(file)
            labels = index["label"].to_numpy()
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            raise CacheError(f"{file}: damaged, no readable table ({error})") from error
        if labels.dtype.kind not in "iu" or not (labels.min() >= 0 and labels.max() < len(self.classes)):
            raise CacheError(
                f"{file}: found labels {', '.join(map(str, labels[:5]))}, ..., expected whole numbers from 0 "
                f"to {len(self.classes) - 1}"
            )
        return index

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

    def require_sources(self, known: dict[str, dict[str, Any]], *, of: str) -> None:
        """Raise InputError unless arrays were made as they were for somebody who learned from them.

        Args:
            known: what ``sources`` gave then.
            of: who learned, for the error.

        Raises:
            InputError: they were made otherwise.
            CacheError: the cache has no such array.
        """
        for name, found in self.sources(*known).items():
            if different := difference(found, known[name]):
                raise InputError(
                    f"{of}: cache {self.path} has {name} made otherwise than what it was trained on: "
                    f"{different}"
                )

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
            table = pyarrow.parquet.read_metadata(file)
            columns = set(table.schema.names)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise CacheError(f"{file}: damaged, no readable table ({error})") from error
        if table.num_rows != len(self):
            raise CacheError(f"{file}: found {table.num_rows} rows, expected {len(self)} as in meta.json")
        missing = {"video", "label", "split"} - columns
        if missing:
            raise CacheError(f"{file}: no column {', '.join(sorted(missing))}")

    @cached_property
    def _row_of_video(self) -> dict[str, int]:
        return {video: row for row, video in enumerate(self.index["video"])}

    @cached_property
    def splits(self) -> frozenset[str]:
        """Those that there are videos of."""
        return frozenset(self.index["split"])

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

    def guess(self, split: str) -> float:
        """The accuracy of a guess without looking on a split: the share of its most frequent label."""
        return float(np.bincount(self.labels[self.rows(split)]).max() / len(self.rows(split)))

    def label_shares(self) -> np.ndarray:
        """float32 [V, C], the target of each video: 1 on its label, or equal shares on its several labels."""
        shares = np.zeros((len(self), len(self.classes)), np.float32)
        for row, labels in enumerate(self.label_sets()):
            shares[row, list(labels)] = 1 / len(labels)
        return shares

    def verify(self) -> Iterator[Path]:
        """Check all that a result depends on, yielding each file that was checked: ``meta.json`` against its
        seal, the index, the list of failures, and every shard and network against their checksums.

        Raises:
            CacheError: at the first file that differs.
        """
        self._open()
        if read_meta(self.path) != self.meta:
            raise CacheError(f"{self.path / 'meta.json'}: was replaced since the cache was opened")
        yield self.path / "meta.json"
        yield _verified(self.path / "index.parquet", self.meta["index_sha256"])
        _ = Cache(self.path).index  # its labels
        if "failures_sha256" in self.meta:
            yield _verified(self.path / "failures.csv", self.meta["failures_sha256"])
        for name, entry in self.meta["arrays"].items():
            for number, sha256 in enumerate(entry["sha256"]):
                if sha256:
                    yield _verified(shard_path(self[name].folder, number), sha256)
        for name, sha256 in self.meta["networks"].items():
            yield _verified(self.network_file(name), sha256)


def open_cache(cache: str | Path | Cache) -> Cache:
    """A cache from a path, or the cache itself."""
    return cache if isinstance(cache, Cache) else Cache(cache)


def _verified(path: Path, sha256: str) -> Path:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error})") from error
    if found != sha256:
        raise CacheError(f"{path}: damaged: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…")
    return path
