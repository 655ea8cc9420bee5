"""Videos to arrays: parallel, resumable, verified.

A build is a sequence of shards (``video_env.cache.jobs``). One that was interrupted, however, goes on after
the last committed shard; when all are there, the index is written, then ``meta.json``, and the records go.
Nothing in a finished cache depends on how often it was interrupted or on the number of workers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from video_env.cache.changes import VIDEOS_PER_BATCH, Encoder
from video_env.cache.decoding import BuildSettings, decoded_shards
from video_env.cache.jobs import Job, changing, require_new, require_same, unfinished_settings
from video_env.cache.meta import CacheError, read_meta
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.data.decode import DecodedVideo, resolve_decoder
from video_env.data.frames_folder import ASSUMED_RATE
from video_env.files import write_bytes

VERSIONED_PACKAGES = ("video-env", "numpy", "torch", "torchvision")


def build_cache(
    annotations: Annotations,
    out: str | Path,
    settings: BuildSettings,
    encoders: Mapping[str, Encoder] | None = None,
) -> Cache:
    """Decode every video's candidate frames and store them and what the encoders make of them.

    Decoding runs in ``settings.processes`` processes, which are ended and replaced when a video makes
    them hang or crash; the encoders run here, meanwhile. Memory holds one shard and a few decoded
    videos, however many there are. A cache that is there already and finished is opened as it is.

    Args:
        annotations: the videos.
        out: folder of the cache.
        settings: how to read them.
        encoders: array name to encoder.

    Returns:
        The finished cache, with the arrays ``frame_index`` (int32 [T]), ``timestamp_seconds``
        (float32 [T]), ``frames`` if they are kept, and one per encoder. Videos that could not be
        decoded are listed in ``failures.csv``, not in the index.

    Raises:
        CacheError: ``out`` holds something else, or an unfinished build of other videos or settings;
            more videos failed than allowed; no video could be decoded.
    """
    out, encoders = Path(out).expanduser(), dict(encoders or {})
    settings_record = _settings_record(annotations, settings, encoders)
    _require_same_build(out, settings_record)  # before waiting, perhaps for hours, to be refused
    with changing(out):
        _require_same_build(out, settings_record)
        if (out / "meta.json").exists():
            return Cache(out)
        require_new(out, "build")
        job = Job(out, "build", settings_record)
        return _build(out, job, annotations, settings, encoders, settings_record)


def _require_same_build(out: Path, settings_record: dict[str, Any]) -> None:
    if (out / "meta.json").exists():
        require_same(out, read_meta(out)["build"], settings_record, "is finished")
    elif (unfinished := unfinished_settings(out, "build")) is not None:
        require_same(out, unfinished, settings_record, "is unfinished")


def _build(
    out: Path,
    job: Job,
    annotations: Annotations,
    settings: BuildSettings,
    encoders: Mapping[str, Encoder],
    settings_record: dict[str, Any],
) -> Cache:
    table = annotations.table
    shards = [
        table.iloc[start : start + settings.shard_size] for start in range(0, len(table), settings.shard_size)
    ]
    pending = [number for number in range(len(shards)) if number not in job.records]
    _check_failures(out, job, settings)
    done = sum(len(shards[number]) for number in job.records)
    with tqdm(total=len(table), initial=done, desc="decoding and encoding", unit="video") as progress:
        for number, results in decoded_shards(annotations, shards, pending, settings):
            arrays, rows, failures = _encode_shard(results, settings, encoders, progress)
            job.commit(number, arrays, rows=rows, failures=failures)
            _check_failures(out, job, settings)
    return _finish_build(out, job, annotations, settings, encoders, settings_record)


def _check_failures(out: Path, job: Job, settings: BuildSettings) -> None:
    failures = [failure for record in job.records.values() for failure in record["failures"]]
    if len(failures) > settings.max_failures:
        raise CacheError(
            f"{len(failures)} videos failed, more than max_failures {settings.max_failures}; the last: "
            f"{failures[-1]['reason']}. What is done is kept: build the cache again with a larger "
            f"max_failures to go on, or mend the videos and delete {out} to begin anew"
        )


def _encode_shard(
    results: Iterator[tuple[dict[str, Any], DecodedVideo | str]],
    settings: BuildSettings,
    encoders: Mapping[str, Encoder],
    progress: tqdm,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], list[dict[str, str]]]:
    """One shard's arrays, index rows and failures."""
    parts: dict[str, list[np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    batch: list[DecodedVideo] = []

    def flush() -> None:
        if batch:
            for name, values in _encode(batch, settings, encoders).items():
                parts.setdefault(name, []).append(values)
            batch.clear()

    for row, result in results:
        progress.update()
        if isinstance(result, str):
            failures.append({"video": row["video"], "path": row["path"], "reason": result})
            continue
        measured = {"num_frames": result.num_frames, "frames_per_second": result.frames_per_second}
        damage = {"damaged": result.damage} if settings.keep_damaged else {}
        rows.append({**row, **measured, **damage})
        batch.append(result)
        if len(batch) == VIDEOS_PER_BATCH:
            flush()
    flush()
    return {name: np.concatenate(values) for name, values in parts.items()}, rows, failures


def _encode(
    batch: list[DecodedVideo], settings: BuildSettings, encoders: Mapping[str, Encoder]
) -> dict[str, np.ndarray]:
    frames = np.stack([video.frames for video in batch])
    arrays = {
        "frame_index": np.stack([video.frame_indices for video in batch]).astype(np.int32),
        "timestamp_seconds": np.stack([video.timestamps_seconds for video in batch]).astype(np.float32),
    }
    if settings.keep_frames:
        arrays["frames"] = frames
    for name, encoder in encoders.items():
        arrays[name] = encoder(frames)
    return arrays


def _finish_build(
    out: Path,
    job: Job,
    annotations: Annotations,
    settings: BuildSettings,
    encoders: Mapping[str, Encoder],
    settings_record: dict[str, Any],
) -> Cache:
    records = [job.records[number] for number in sorted(job.records)]
    rows = [row for record in records for row in record["rows"]]
    failures = [failure for record in records for failure in record["failures"]]
    if not rows:
        raise CacheError(
            f"none of the {len(failures)} videos could be decoded; the first: {failures[0]['reason']}"
        )
    index = pd.DataFrame(rows).to_parquet(index=False)
    failed = pd.DataFrame(failures, columns=["video", "path", "reason"]).to_csv(index=False)
    meta: dict[str, Any] = {
        "shard_rows": [len(record["rows"]) for record in records],
        "num_candidates": settings.num_candidates,
        "frame_size": settings.frame_size,
        "classes": list(annotations.classes),
        "failures_sha256": write_bytes(out / "failures.csv", failed.encode()),
        "index_sha256": write_bytes(out / "index.parquet", index),
        "arrays": job.array_entries({"decoder": settings_record["decoder"]}),
        "gflops": {name: encoder.gflops for name, encoder in encoders.items()},
        "networks": {},
        "build": settings_record,
        "versions": versions(),
    }
    for name, encoder in encoders.items():
        meta["arrays"][name]["source"] = encoder.source
    job.finish(meta)
    return Cache(out)


def _settings_record(
    annotations: Annotations, settings: BuildSettings, encoders: Mapping[str, Encoder]
) -> dict[str, Any]:
    """What decides a cache's content: an interrupted build goes on only with the same."""
    record = asdict(settings)
    for name in ("processes", "timeout_seconds", "max_failures"):
        del record[name]
    if settings.frames_rate == ASSUMED_RATE:
        del record["frames_rate"]  # so that caches from before there was a choice are not other ones
    record["decoder"] = resolve_decoder(settings.decoder)
    record["annotations"] = fingerprint(annotations.table, annotations.classes)
    record["encoders"] = {name: encoder.source for name, encoder in encoders.items()}
    return json.loads(json.dumps(record))


def fingerprint(table: pd.DataFrame, classes: Sequence[str]) -> str:
    """Tells two annotation tables apart, by their columns, rows, the rows' order and the classes."""
    text = table.to_csv(index=False) + "\n".join(classes)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} ({len(table)} videos)"


def versions() -> dict[str, str]:
    """The packages that decide what a cache holds."""
    return {name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES}
