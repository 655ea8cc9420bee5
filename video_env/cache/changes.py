"""Changes of a finished cache: arrays and networks added, replaced and taken out.

Each change becomes part of the cache in one step. Until then the cache is what it was; an interrupted
change goes on where it was when it is asked for again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from video_env.cache.jobs import Job, changing, finished_before, forget
from video_env.cache.meta import NETWORK_SUFFIX, NETWORKS, CacheError, place_of, places, read_meta
from video_env.cache.store import Cache

# Videos whose frames go through the networks together. Part of the format in effect: another number
# changes the last bits of the features.
VIDEOS_PER_BATCH = 8


class Encoder(Protocol):
    """What turns frames into one array of the cache."""

    source: dict[str, Any]

    @property
    def gflops(self) -> float: ...

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """uint8 [B, T, H, W, 3] to features [B, T, ...], the same for the same frames and batch."""


class Change:
    """What is to be added to, replaced in and taken out of a cache; see ``change``."""

    def __init__(self, path: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._meta = read_meta(path)
        taken = places(self._meta)
        self._job = Job(path, name, settings, taken=taken, restart_if_different=True)
        self._new_arrays: dict[str, dict[str, Any]] = {}
        self._out: set[str] = set()

    def network(self, name: str, make: Callable[[], bytes]) -> Path:
        """Store a network, by its name without suffix; ``make`` is not called if the interrupted change had
        it. Returns its file."""
        return self._job.network(name + NETWORK_SUFFIX, make)

    def arrays(
        self,
        names: tuple[str, ...],
        compute: Callable[[slice], dict[str, np.ndarray]],
        source: dict[str, Any],
    ) -> None:
        """Compute arrays shard by shard; see ``add_arrays``. One call for each change."""
        shard_rows = self._meta["shard_rows"]
        edges = [0, *itertools.accumulate(shard_rows)]
        for number in tqdm(range(len(shard_rows)), desc=f"adding {', '.join(names)}", unit="shard"):
            if number not in self._job.records:
                rows = slice(edges[number], edges[number + 1])
                self._job.commit(number, compute(rows) if shard_rows[number] else {})
        self._new_arrays = self._job.array_entries(source)

    def take_out(self, *names: str) -> None:
        """Take out arrays, and networks by their files' names, if the cache has them, and the unfinished work
        on these arrays."""
        forget(self._path, names)
        self._out |= set(names)

    def finish(
        self, *, gflops: Mapping[str, float] | None = None, training: Mapping[str, Any] | None = None
    ) -> Cache:
        """Make the change part of the cache.

        Args:
            gflops: counted costs to record.
            training: by network without suffix, the settings to record.
        """
        old, new = self._meta, dict(self._meta)
        added: dict[str, Mapping[str, Any]] = {"arrays": self._new_arrays, "networks": self._job.networks}
        for kind, entries in added.items():
            kept = {name: entry for name, entry in old[kind].items() if name not in self._out}
            new[kind] = {**kept, **entries}
        new["gflops"] = {**old["gflops"], **(gflops or {})}
        trained = {
            name: record
            for name, record in old.get("training", {}).items()
            if name + NETWORK_SUFFIX not in self._out
        }
        if trained or training:
            new["training"] = {**trained, **(training or {})}
        where = {name: place_of(old, name) for name in (*new["arrays"], *new["networks"])}
        where |= {name: self._job.place(name) for entries in added.values() for name in entries}
        new["places"] = {name: place for name, place in where.items() if place != name}
        if not new["places"]:
            del new["places"]
        used = set(where.values())
        replaced = [Path(place_of(old, name)) for name in old["arrays"]]
        replaced += [Path(NETWORKS, place_of(old, name)) for name in old["networks"]]
        self._job.finish(new, [path for path in replaced if path.name not in used])
        return Cache(self._path)


@contextmanager
def change(cache: Cache, name: str, settings: Mapping[str, Any]) -> Iterator[Change | None]:
    """Hold a cache and change it: the change is made by its ``finish``. None instead, if the same change was
    made by a call that was ended only while it tidied up.

    Args:
        cache: the cache.
        name: of the work, by which an interrupted change is found.
        settings: all that decides its results; unfinished work for others is deleted.
    """
    with changing(cache.path):
        if finished_before(cache.path, name, settings):
            yield None
        else:
            yield Change(cache.path, name, settings)


def add_arrays(
    cache: Cache,
    names: tuple[str, ...],
    compute: Callable[[slice], dict[str, np.ndarray]],
    *,
    source: dict[str, Any],
    gflops: Mapping[str, float] | None = None,
) -> Cache:
    """Add arrays to a finished cache without touching the others; resumes where it was interrupted.

    Args:
        cache: the cache; it stays as it was until all shards are written.
        names: the new arrays.
        compute: gives, for the rows of one shard, each array's values [rows, ...].
        source: what the arrays were made from; an unfinished job with another source is begun anew.
        gflops: counted costs to record with them.

    Returns:
        The cache, opened again.

    Raises:
        CacheError: the cache has one of the arrays already.
    """
    job = "+".join(names)
    with changing(cache.path):
        now = Cache(cache.path)
        present = [name for name in names if name in now]
        if present and not finished_before(cache.path, job, source):
            raise CacheError(f"cache {cache.path} has {', '.join(present)} already; remove them first")
        with change(now, job, source) as made:
            if made is None:
                return now
            made.arrays(names, compute, source)
            return made.finish(gflops=gflops)


def encode_frames(cache: Cache, encoders: Mapping[str, Encoder]) -> Cache:
    """Add what encoders make of the cached frames, one array each; opens the cache again.

    Raises:
        CacheError: the cache has no frames, or has one of the arrays already.
    """
    for name, encoder in encoders.items():
        compute = encoding(cache, name, encoder)
        cache = add_arrays(cache, (name,), compute, source=encoder.source, gflops={name: encoder.gflops})
    return cache


def encoding(cache: Cache, name: str, encoder: Encoder) -> Callable[[slice], dict[str, np.ndarray]]:
    """What gives, for the rows of one shard, an array by its name: the encoder's features of the frames.

    Raises:
        CacheError: the cache has no frames.
    """
    frames = cache["frames"]

    def compute(rows: slice) -> dict[str, np.ndarray]:
        starts = range(rows.start, rows.stop, VIDEOS_PER_BATCH)
        batches = [frames[start : min(start + VIDEOS_PER_BATCH, rows.stop)] for start in starts]
        return {name: np.concatenate([encoder(batch) for batch in batches])}

    return compute


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
    settings = {"sha256": hashlib.sha256(safetensors).hexdigest(), "gflops": gflops, "training": training}
    with change(cache, f"network-{name}", settings) as made:
        if made is None:
            return Cache(cache.path)
        made.network(name, lambda: safetensors)
        return made.finish(gflops=gflops, training={name: training})


def remove(cache: Cache, arrays: tuple[str, ...] = (), networks: tuple[str, ...] = ()) -> Cache:
    """Take arrays and networks (named without suffix) out of the cache and delete their files, and the
    unfinished work on these arrays; opens the cache again."""
    names = (*arrays, *(name + NETWORK_SUFFIX for name in networks))
    with change(cache, "remove", {"names": names}) as made:
        if made is None:
            return Cache(cache.path)
        made.take_out(*names)
        return made.finish()
