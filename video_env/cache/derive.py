"""A new cache without decoding: from arrays at hand, or from another cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from video_env.cache.build import fingerprint, versions
from video_env.cache.store import FORMAT_VERSION, Cache, CacheError, shard_path, write_meta
from video_env.files import write_array, write_bytes


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
    if (out / "meta.json").exists():
        there = Cache(out)
        same = there.meta["build"]["annotations"] == cache.meta["build"]["annotations"]
        if not same or any(
            name not in there or there.content(name) != cache.content(name) for name in arrays
        ):
            raise CacheError(f"{out}: holds a cache that was not derived from {cache.path}; delete it")
        return there
    meta = dict(cache.meta)
    meta["arrays"] = {name: meta["arrays"][cache[name].folder.name] for name in arrays}
    meta["networks"] = cache.meta["networks"] if networks else {}
    files = [Path(name, f"{number:05d}.npy") for name in arrays
             for number, rows in enumerate(meta["shard_rows"]) if rows]  # fmt: skip
    files += [Path("networks", name) for name in meta["networks"]]
    files += [Path(name) for name in ("index.parquet", "failures.csv") if (cache.path / name).is_file()]
    for file in files:
        _link(cache.path / file, out / file)
    write_meta(out, meta)
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
    if out.exists():
        raise CacheError(f"{out}: exists already; delete it or choose another folder")
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

    for name in cache.meta["networks"]:
        write_bytes(out / "networks" / name, (cache.path / "networks" / name).read_bytes())
    index = cache.index.iloc[rows].reset_index(drop=True)
    shards = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)]
    sources = {name: entry["source"] for name, entry in cache.meta["arrays"].items()}
    meta = {**cache.meta, "build": {"annotations": fingerprint(index, cache.classes)}}
    if frame_size is not None:
        meta["frame_size"] = frame_size
    return _write_cache(out, index, map(values, shards), sources, meta)


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
    if out.exists():
        raise CacheError(f"{out}: exists already; delete it or choose another folder")
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
    starts = range(0, len(index), shard_size)
    shards = (
        {name: values[start : start + shard_size] for name, values in arrays.items()} for start in starts
    )
    meta = {
        "format_version": FORMAT_VERSION,
        "num_candidates": num_candidates,
        "frame_size": int(arrays["frames"].shape[2]) if "frames" in arrays else 0,
        "classes": list(classes),
        "gflops": dict(gflops),
        "networks": {},
        "build": {"annotations": fingerprint(index, classes)},
        "versions": versions(),
    }
    sources = {name: {"network": "elsewhere"} for name in arrays}
    return _write_cache(out, index.reset_index(drop=True), shards, sources, meta)


def _write_cache(
    out: Path,
    index: pd.DataFrame,
    shards: Iterable[dict[str, np.ndarray]],
    sources: dict[str, dict[str, Any]],
    meta: dict[str, Any],
) -> Cache:
    """Write shards one after another, then the index, then ``meta.json``."""
    meta["shard_rows"], meta["arrays"] = [], {}
    for number, arrays in enumerate(shards):
        for name, values in arrays.items():
            entry = meta["arrays"].setdefault(
                name,
                {
                    "dtype": values.dtype.str,
                    "row_shape": list(values.shape[1:]),
                    "sha256": [],
                    "source": sources[name],
                },
            )
            entry["sha256"].append(write_array(shard_path(out / name, number), values))
        meta["shard_rows"].append(len(values))
    meta["index_sha256"] = write_bytes(out / "index.parquet", index.to_parquet(index=False))
    write_meta(out, meta)
    return Cache(out)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _scaled(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [B, T, H, W, 3] to [B, T, size, size, 3]."""
    flat = [
        np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))
        for frame in frames.reshape(-1, *frames.shape[2:])
    ]
    return np.stack(flat).reshape(*frames.shape[:2], size, size, 3)
