"""Videos to arrays: parallel, resumable, verified.

A build is a sequence of shards. A shard is first written under temporary names and then committed by
one small record, ``.unfinished/JOB/00000.json``, that holds its index rows, its failures and the
checksums of its files. A build that was interrupted, however, goes on after the last committed shard;
when all are there, the index is written, then ``meta.json``, and the records go. Nothing in a finished
cache depends on how often it was interrupted or on the number of workers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as DecodingTimeoutError
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from tqdm import tqdm

from video_env.cache.store import (
    FORMAT_VERSION,
    Cache,
    CacheError,
    read_meta,
    shard_path,
    write_array,
    write_bytes,
    write_meta,
)
from video_env.data.annotations import Annotations
from video_env.data.decode import DecodedVideo, Decoder, VideoError, read_candidates, resolve_decoder
from video_env.errors import InputError

# Videos whose frames go through the networks together. Part of the format in effect: another number
# changes the last bits of the features.
VIDEOS_PER_BATCH = 8

VERSIONED_PACKAGES = ("video-env", "numpy", "torch", "torchvision")


class Encoder(Protocol):
    """What turns frames into one array of the cache."""

    gflops: float
    source: dict[str, Any]

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """uint8 [B, T, H, W, 3] to features [B, T, ...], the same for the same frames and batch."""


@dataclass(frozen=True)
class BuildSettings:
    """How videos are read.

    Attributes:
        num_candidates: T, frames per video.
        frame_size: height and width of the frames in pixels.
        shorter_side: pixels of the shorter side before the centre is cut out; frame_size by default.
        decoder: decord, torchcodec, or auto for the one that is installed.
        random_epoch: draw a random frame inside each segment, seeded by the video and this number;
            by default the centres are taken.
        shard_size: videos per shard; memory use and the work lost by a crash grow with it.
        processes: decoding processes; by default as many as there are cores.
        timeout_seconds: a video that takes longer to decode counts as failed.
        max_failures: videos that may fail before the build stops (what is done is kept).
        keep_frames: store the frames themselves, for pictures and for training networks.
    """

    num_candidates: int = 10
    frame_size: int = 224
    shorter_side: int | None = None
    decoder: Decoder = "auto"
    random_epoch: int | None = None
    shard_size: int = 64
    processes: int | None = None
    timeout_seconds: float = 60.0
    max_failures: int = 100
    keep_frames: bool = True

    def __post_init__(self) -> None:
        for name in ("num_candidates", "frame_size", "shard_size", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: found {getattr(self, name)}, expected more than 0")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes: found {self.processes}, expected at least 1")
        if self.max_failures < 0:
            raise InputError(f"max_failures: found {self.max_failures}, expected 0 or more")


def build_cache(
    annotations: Annotations,
    out: Path,
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
    encoders = dict(encoders or {})
    settings_record = _settings_record(annotations, settings, encoders)
    if (out / "meta.json").exists():
        _require_same(out, read_meta(out)["build"], settings_record, "is finished")
        # Left by a call that was ended between its last two steps.
        shutil.rmtree(out / ".unfinished" / "build", ignore_errors=True)
        return Cache(out)
    if (
        out.is_dir()
        and {entry.name for entry in out.iterdir()} - {".unfinished"}
        and not (out / ".unfinished" / "build").is_dir()
    ):
        raise CacheError(f"{out}: the folder is not empty and holds no unfinished cache")
    job = _Job(out, "build", settings_record)
    table = annotations.table
    shards = [
        table.iloc[start : start + settings.shard_size] for start in range(0, len(table), settings.shard_size)
    ]
    pending = [number for number in range(len(shards)) if number not in job.records]
    _check_failures(out, job, settings)
    done = sum(len(shards[number]) for number in job.records)
    with tqdm(total=len(table), initial=done, desc="decoding and encoding", unit="video") as progress:
        for number, results in _decoded_shards(annotations, shards, pending, settings):
            arrays, rows, failures = _encode_shard(results, settings, encoders, progress)
            job.commit(number, arrays, rows=rows, failures=failures)
            _check_failures(out, job, settings)
    return _finish_build(out, job, annotations, settings, encoders, settings_record)


def _check_failures(out: Path, job: _Job, settings: BuildSettings) -> None:
    failures = [failure for record in job.records.values() for failure in record["failures"]]
    if len(failures) > settings.max_failures:
        raise CacheError(
            f"{len(failures)} videos failed, more than --max-failures {settings.max_failures}; the last: "
            f"{failures[-1]['reason']}. What is done is kept: run the command again with a larger "
            f"--max-failures to go on, or mend the videos and delete {out} to begin anew"
        )


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
    present = [name for name in names if name in cache]
    if present:
        raise CacheError(f"cache {cache.path} has {', '.join(present)} already; remove them first")
    shard_rows = cache.meta["shard_rows"]
    edges = [0, *itertools.accumulate(shard_rows)]
    job = _Job(cache.path, "+".join(names), source, restart_if_different=True)
    for number in tqdm(range(len(shard_rows)), desc=f"adding {', '.join(names)}", unit="shard"):
        if number not in job.records:
            rows = slice(edges[number], edges[number + 1])
            job.commit(number, compute(rows) if shard_rows[number] else {})
    meta = read_meta(cache.path)
    meta["arrays"].update(job.array_entries(source))
    meta["gflops"].update(gflops or {})
    write_meta(cache.path, meta)
    job.remove()
    return Cache(cache.path)


def encode_frames(cache: Cache, encoders: Mapping[str, Encoder]) -> Cache:
    """Add what encoders make of the cached frames, one array each; opens the cache again.

    Raises:
        CacheError: the cache has no frames, or has one of the arrays already.
    """
    frames = cache["frames"]
    for name, encoder in encoders.items():

        def compute(rows: slice, name: str = name, encoder: Encoder = encoder) -> dict[str, np.ndarray]:
            starts = range(rows.start, rows.stop, VIDEOS_PER_BATCH)
            batches = [frames[start : min(start + VIDEOS_PER_BATCH, rows.stop)] for start in starts]
            return {name: np.concatenate([encoder(batch) for batch in batches])}

        cache = add_arrays(cache, (name,), compute, source=encoder.source, gflops={name: encoder.gflops})
    return cache


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
        rows.append({**row, "num_frames": result.num_frames, "frames_per_second": result.frames_per_second})
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


def _decoded_shards(
    annotations: Annotations, shards: list[pd.DataFrame], pending: list[int], settings: BuildSettings
) -> Iterator[tuple[int, Iterator[tuple[dict[str, Any], DecodedVideo | str]]]]:
    """The pending shards, each with its videos' rows and decoded frames (or the reason of failure).

    A bounded number of videos is decoded ahead, across the borders of shards, so that neither side
    waits for the other for long.
    """
    if not pending:
        return
    processes = settings.processes or os.cpu_count() or 1
    rows = itertools.chain.from_iterable(_rows(shards[number]) for number in pending)
    # The networks go first where both want a core; decoding has its lead to live on.
    with ProcessPool(
        processes, initializer=os.nice, initargs=[19], context=get_context("forkserver")
    ) as pool:
        try:
            ahead: deque[tuple[dict[str, Any], ProcessFuture]] = deque()

            def schedule(row: dict[str, Any]) -> None:
                future = pool.schedule(
                    read_candidates,
                    args=(annotations.videos / row["path"], settings.num_candidates, settings.frame_size),
                    kwargs=_reading(row, settings),
                    timeout=settings.timeout_seconds,
                )
                ahead.append((row, future))

            for row in itertools.islice(rows, 2 * VIDEOS_PER_BATCH + 2 * processes):
                schedule(row)

            def results(count: int) -> Iterator[tuple[dict[str, Any], DecodedVideo | str]]:
                for _ in range(count):
                    row, future = ahead.popleft()
                    for following in itertools.islice(rows, 1):
                        schedule(following)
                    yield row, _result(future, settings)

            for number in pending:
                yield number, results(len(shards[number]))
        finally:
            pool.stop()


def decode_all(annotations: Annotations, settings: BuildSettings) -> Iterator[DecodedVideo | str]:
    """Every video decoded, or the reason why it is not, in order: what a build does before encoding."""
    for _, results in _decoded_shards(annotations, [annotations.table], [0], settings):
        for _, result in results:
            yield result


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _result(future: ProcessFuture, settings: BuildSettings) -> DecodedVideo | str:
    try:
        return future.result()
    except VideoError as error:
        return str(error)
    except InputError:
        raise  # a setting, not this video
    except DecodingTimeoutError:
        return f"decoding took longer than {settings.timeout_seconds:g} seconds; the decoder hangs on it"
    except ProcessExpired as error:
        return f"the decoder ended its process (exit code {error.exitcode})"
    except Exception as error:
        return f"reading it failed ({type(error).__name__}: {error})"


def _reading(row: dict[str, Any], settings: BuildSettings) -> dict[str, Any]:
    """The options of ``read_candidates`` for a video."""
    options: dict[str, Any] = {
        "shorter_side": settings.shorter_side,
        "decoder": settings.decoder,
        "start_seconds": _seconds(row.get("start")),
        "end_seconds": _seconds(row.get("end")),
    }
    if settings.random_epoch is not None:
        seed = [zlib.crc32(row["video"].encode()), settings.random_epoch]
        options["generator"] = np.random.default_rng(seed)
    return options


def _seconds(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _finish_build(
    out: Path,
    job: _Job,
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
    write_bytes(out / "failures.csv", failed.encode())
    meta: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "shard_rows": [len(record["rows"]) for record in records],
        "num_candidates": settings.num_candidates,
        "frame_size": settings.frame_size,
        "classes": list(annotations.classes),
        "index_sha256": write_bytes(out / "index.parquet", index),
        "arrays": job.array_entries({"decoder": settings_record["decoder"]}),
        "gflops": {name: encoder.gflops for name, encoder in encoders.items()},
        "networks": {},
        "build": settings_record,
        "versions": versions(),
    }
    for name, encoder in encoders.items():
        meta["arrays"][name]["source"] = encoder.source
    write_meta(out, meta)
    job.remove()
    return Cache(out)


def _settings_record(
    annotations: Annotations, settings: BuildSettings, encoders: Mapping[str, Encoder]
) -> dict[str, Any]:
    """What decides a cache's content: an interrupted build goes on only with the same."""
    record = asdict(settings)
    for name in ("processes", "timeout_seconds", "max_failures"):
        del record[name]
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


def _require_same(out: Path, found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    different = [key for key in expected if found.get(key) != expected[key]]
    if different:
        raise CacheError(
            f"cache {out} {what}, but with other settings: "
            + "; ".join(f"{key} {found.get(key)!r}, now {expected[key]!r}" for key in different)
            + ". Choose another folder or delete this one"
        )


class _Job:
    """Work on shards in ``.unfinished/NAME``: what it is for, and a record of each committed shard."""

    def __init__(
        self, cache: Path, name: str, settings: dict[str, Any], *, restart_if_different: bool = False
    ) -> None:
        self.cache = cache
        self.folder = cache / ".unfinished" / name
        settings_file = self.folder / "settings.json"
        if settings_file.is_file():
            found = json.loads(settings_file.read_text())
            if found != settings and restart_if_different:
                shutil.rmtree(self.folder)
            else:
                _require_same(cache, found, settings, "is unfinished")
        if not settings_file.is_file():
            write_bytes(settings_file, json.dumps(settings, indent=1, sort_keys=True).encode())
        self.records: dict[int, dict[str, Any]] = {
            int(file.stem): record
            for file in sorted(self.folder.glob("[0-9]*.json"))
            if self._is_there(int(file.stem), record := json.loads(file.read_text()))
        }

    def _is_there(self, number: int, record: dict[str, Any]) -> bool:
        return all(shard_path(self.cache / name, number).is_file() for name in record["arrays"])

    def commit(self, number: int, arrays: Mapping[str, np.ndarray], **more: Any) -> None:
        """Write one shard of each array, then the record that makes it count."""
        written = {
            name: {
                "sha256": write_array(shard_path(self.cache / name, number), values),
                "dtype": values.dtype.str,
                "row_shape": list(values.shape[1:]),
            }
            for name, values in arrays.items()
        }
        record = {"arrays": written, **more}
        write_bytes(self.folder / f"{number:05d}.json", json.dumps(record).encode())
        self.records[number] = json.loads(json.dumps(record))

    def array_entries(self, source: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The finished arrays as ``meta.json`` describes them; an empty shard has no checksum."""
        records = [self.records[number]["arrays"] for number in sorted(self.records)]
        return {
            name: {
                "dtype": first["dtype"],
                "row_shape": first["row_shape"],
                "sha256": [arrays[name]["sha256"] if arrays else "" for arrays in records],
                "source": source,
            }
            for name, first in next(filter(None, records)).items()
        }

    def remove(self) -> None:
        shutil.rmtree(self.folder)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
