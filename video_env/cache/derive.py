"""A new cache without decoding: from arrays at hand, or from another cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from video_env.cache.arrays import shard_path
from video_env.cache.build import fingerprint, versions
from video_env.cache.jobs import Job, changing, finished_before, require_new
from video_env.cache.meta import NETWORKS, CacheError
from video_env.cache.store import Cache
from video_env.files import inside, link_or_copy, write_bytes


def derive(cache: Cache, out: Path, arrays: Sequence[str], *, networks: bool = False) -> Cache:
    """A cache of the same videos with some of the arrays, without copying them: shards are hard links
    where the file system has them. A finished one at ``out`` is opened as it is.

    Args:
        cache: the source; it is not changed.
        out: folder of the new cache.
        arrays: which arrays to take over.
        networks: take the stored networks over too.

    Raises:
        CacheError: at ``out`` lies a cache of other videos, or with other values in these arrays.
    """
    with changing(out):
        if (out / "meta.json").exists():
            there = Cache(out)
            same = there.meta["build"]["annotations"] == cache.meta["build"]["annotations"]
            if not same or any(
                name not in there or there.content(name) != cache.content(name) for name in arrays
            ):
                raise CacheError(f"{out}: holds a cache that was not derived from {cache.path}; delete it")
            return there
        require_new(out, "derive")
        meta = {key: value for key, value in cache.meta.items() if key != "places"}
        meta["arrays"] = {name: cache.meta["arrays"][cache[name].name] for name in arrays}
        meta["networks"] = cache.meta["networks"] if networks else {}
        job = Job(out, "derive", {"contents": cache.contents, "arrays": list(arrays), "networks": networks})
        for name in arrays:
            for number, rows in enumerate(meta["shard_rows"]):
                if rows:
                    shard = shard_path(cache[name].folder, number)
                    link_or_copy(shard, inside(out, name, shard.name))
        for name in meta["networks"]:
            link_or_copy(cache.network_file(name), inside(out, NETWORKS, name))
        for name in ("index.parquet", *(["failures.csv"] if "failures_sha256" in meta else [])):
            link_or_copy(cache.path / name, out / name)
        job.finish(meta)
        return Cache(out)


def extract(
    cache: Cache,
    out: Path,
    videos_per_split: dict[str, int],
    *,
    frame_size: int | None = None,
    shard_size: int = 32,
) -> Cache:
    """A small cache of the first videos of each split, with all arrays and networks.

    Args:
        cache: the source; it is not changed.
        out: folder of the new cache.
        videos_per_split: how many to take of each split.
        frame_size: pixels that frames are scaled down to; as they are by default. Features and costs
            stay those of the frames they were computed from.
        shard_size: videos per shard.

    Raises:
        CacheError: ``out`` exists, or a split has fewer videos.
    """
    if not any(videos_per_split.values()) or min(videos_per_split.values()) < 0:
        raise CacheError(f"videos per split: found {videos_per_split}, expected 0 or more, and some")
    for split, count in videos_per_split.items():
        if count > len(cache.rows(split)):
            raise CacheError(
                f"split {split}: {count} videos asked for, the cache has {len(cache.rows(split))}"
            )
    rows = np.concatenate([cache.rows(split)[:count] for split, count in videos_per_split.items()])

    def values(shard: np.ndarray) -> dict[str, np.ndarray]:
        arrays = {name: cache[name][shard] for name in cache.arrays}
        if "frames" in arrays and frame_size is not None:
            arrays["frames"] = _scaled(arrays["frames"], frame_size)
        return arrays

    index = cache.index.iloc[rows].reset_index(drop=True)
    shards = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)]
    sources = {name: entry["source"] for name, entry in cache.meta["arrays"].items()}
    own = ("places", "failures_sha256", "arrays", "shard_rows")
    meta = {key: value for key, value in cache.meta.items() if key not in own}
    meta["build"] = {"annotations": fingerprint(index, cache.classes)}
    if frame_size is not None:
        meta["frame_size"] = frame_size
    networks = {name: cache.network_file(name) for name in cache.meta["networks"]}
    origin = {"contents": cache.contents, "frame_size": frame_size}
    return _write_cache(out, "extract", origin, index, shards, values, sources, meta, networks)


def cache_from_arrays(
    out: Path,
    index: pd.DataFrame,
    arrays: Mapping[str, np.ndarray],
    classes: Sequence[str],
    gflops: Mapping[str, float],
    *,
    shard_size: int = 64,
) -> Cache:
    """A cache of features that were computed elsewhere.

    Args:
        out: folder of the new cache.
        index: one row per video with at least ``video``, ``label`` (int) and ``split``.
        arrays: [V, T, ...] by name; ``skim`` and ``embedding`` are what frame selection needs.
        classes: the classes' names.
        gflops: 10^9 multiply-adds per frame of ``skim`` and ``embedding``.
        shard_size: videos per shard.

    Raises:
        CacheError: ``out`` exists, or the index and the arrays do not fit together.
    """
    missing = {"video", "label", "split"} - set(index.columns)
    if missing:
        raise CacheError(f"index: no column {', '.join(sorted(missing))}; it has {', '.join(index.columns)}")
    shapes = {name: values.shape[:2] for name, values in arrays.items()}
    num_candidates = next(iter(shapes.values()))[1]
    wrong = {name: shape for name, shape in shapes.items() if shape != (len(index), num_candidates)}
    if wrong:
        raise CacheError(f"arrays: found {wrong}, expected first dimensions {(len(index), num_candidates)}")
    lowest, highest = index["label"].min(), index["label"].max()
    if lowest < 0 or highest >= len(classes):
        raise CacheError(f"index: labels from {lowest} to {highest}, expected 0 to {len(classes) - 1}")
    meta = {
        "num_candidates": num_candidates,
        "frame_size": int(arrays["frames"].shape[2]) if "frames" in arrays else 0,
        "classes": list(classes),
        "gflops": dict(gflops),
        "networks": {},
        "build": {"annotations": fingerprint(index, classes)},
        "versions": versions(),
    }
    sources = {name: {"network": "elsewhere"} for name in arrays}
    rows = np.arange(len(index))
    shards = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)]
    return _write_cache(
        out, "from-arrays", {name: _content(values) for name, values in arrays.items()},
        index.reset_index(drop=True), shards,
        lambda shard: {name: values[shard] for name, values in arrays.items()}, sources, meta,
    )  # fmt: skip


def _content(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest()


def _write_cache(
    out: Path,
    name: str,
    origin: dict[str, Any],
    index: pd.DataFrame,
    shards: Sequence[np.ndarray],
    values: Callable[[np.ndarray], dict[str, np.ndarray]],
    sources: dict[str, dict[str, Any]],
    meta: dict[str, Any],
    networks: Mapping[str, Path] | None = None,
) -> Cache:
    """A new cache: its networks, the shards one after another, the index, then ``meta.json``; an interrupted
    call of the same name and origin goes on."""
    settings = {
        "origin": origin, "build": meta["build"], "shards": [len(shard) for shard in shards],
        "gflops": meta["gflops"], "versions": versions(),
    }  # fmt: skip
    with changing(out):
        if finished_before(out, name, settings):
            return Cache(out)
        require_new(out, name)
        job = Job(out, name, settings)
        for network, file in (networks or {}).items():
            job.network(network, file.read_bytes)
        for number, shard in enumerate(shards):
            if number not in job.records:
                job.commit(number, values(shard))
        entries = job.array_entries({})
        index_sha256 = write_bytes(out / "index.parquet", index.to_parquet(index=False))
        job.finish(
            {
                **meta,
                "arrays": {array: {**entry, "source": sources[array]} for array, entry in entries.items()},
                "shard_rows": [len(shard) for shard in shards],
                "index_sha256": index_sha256,
            }
        )
        return Cache(out)


def _scaled(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [B, T, H, W, 3] to [B, T, size, size, 3]."""
    flat = [
        np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))
        for frame in frames.reshape(-1, *frames.shape[2:])
    ]
    return np.stack(flat).reshape(*frames.shape[:2], size, size, 3)
