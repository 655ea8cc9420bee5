"""Every video's candidate frames, decoded in processes that can be ended."""

from __future__ import annotations

import itertools
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import TimeoutError as DecodingTimeoutError
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from video_env.data.annotations import Annotations
from video_env.data.decode import DecodedVideo, Decoder, VideoError, read_candidates
from video_env.data.frames_folder import ASSUMED_RATE
from video_env.errors import InputError

_AHEAD = 16  # videos decoded before they are asked for, besides two for each process

_NICE = 5
"""Lower the priority of decoding by so much: enough for networks to go first where both want a core. With
19, the least, decoding starves beside other programs, and good videos take longer than they may."""


@dataclass(frozen=True)
class BuildSettings:
    """How videos are read.

    Attributes:
        num_candidates: T, frames per video.
        frame_size: height and width of the frames in pixels.
        shorter_side: pixels of the shorter side before the centre is cut out; frame_size by default.
        decoder: auto (PyAV), decord or torchcodec (see ``video_env.data.decode.read_frames``).
        random_epoch: draw a random frame inside each segment, seeded by the video and this number;
            by default the centres are taken.
        frames_rate: frames per second of folders of frames.
        shard_size: videos per shard; memory use and the work lost by a crash grow with it.
        processes: decoding processes; by default as many as there are cores.
        timeout_seconds: a video that takes longer to decode counts as failed.
        max_failures: videos that may fail before the build stops (what is done is kept).
        keep_frames: store the frames themselves, for pictures and for training networks.
        keep_damaged: read damaged videos as far as a decoder can, frames that it invents included; the
            index's column ``damaged`` then says what is wrong with which.
    """

    num_candidates: int = 10
    frame_size: int = 224
    shorter_side: int | None = None
    decoder: Decoder = "auto"
    random_epoch: int | None = None
    frames_rate: float = ASSUMED_RATE
    shard_size: int = 64
    processes: int | None = None
    timeout_seconds: float = 60.0
    max_failures: int = 100
    keep_frames: bool = True
    keep_damaged: bool = False

    def __post_init__(self) -> None:
        for name in ("num_candidates", "frame_size", "shard_size", "timeout_seconds", "frames_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: found {getattr(self, name)}, expected more than 0")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes: found {self.processes}, expected at least 1")
        if self.max_failures < 0:
            raise InputError(f"max_failures: found {self.max_failures}, expected 0 or more")


def decoded_shards(
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
        processes, initializer=os.nice, initargs=[_NICE], context=get_context("forkserver")
    ) as pool:
        try:
            ahead: deque[tuple[dict[str, Any], ProcessFuture]] = deque()

            def schedule(row: dict[str, Any]) -> ProcessFuture:
                return pool.schedule(
                    read_candidates,
                    args=(annotations.videos / row["path"], settings.num_candidates, settings.frame_size),
                    kwargs=_reading(row, settings),
                    timeout=settings.timeout_seconds,
                )

            def results(count: int) -> Iterator[tuple[dict[str, Any], DecodedVideo | str]]:
                for _ in range(count):
                    row, future = ahead.popleft()
                    if isinstance(future.exception(), ProcessExpired):
                        # Perhaps it was ended from outside, for want of memory: it is tried once more, alone.
                        wait([other for _, other in ahead])
                        future = schedule(row)
                        wait([future])
                    for following in itertools.islice(rows, 1):
                        ahead.append((following, schedule(following)))
                    yield row, _result(future, settings)

            for row in itertools.islice(rows, _AHEAD + 2 * processes):
                ahead.append((row, schedule(row)))

            for number in pending:
                yield number, results(len(shards[number]))
        finally:
            pool.stop()


def decode_all(annotations: Annotations, settings: BuildSettings) -> Iterator[DecodedVideo | str]:
    """Every video decoded, or the reason why it is not, in order: what a build does before encoding."""
    for _, results in decoded_shards(annotations, [annotations.table], [0], settings):
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
    except BrokenProcessPool as error:
        raise InputError(
            "decoding processes cannot start; a script that builds a cache needs if __name__ == '__main__':"
        ) from error
    except Exception as error:
        return f"reading it failed ({type(error).__name__}: {error})"


def _reading(row: dict[str, Any], settings: BuildSettings) -> dict[str, Any]:
    """The options of ``read_candidates`` for a video."""
    options: dict[str, Any] = {
        "shorter_side": settings.shorter_side,
        "decoder": settings.decoder,
        "start_seconds": _seconds(row.get("start")),
        "end_seconds": _seconds(row.get("end")),
        "keep_damaged": settings.keep_damaged,
        "frames_rate": settings.frames_rate,
        "listed_frames": row.get("listed_frames", 0),
        "sha256": row.get("sha256"),
    }
    if settings.random_epoch is not None:
        seed = [zlib.crc32(row["video"].encode()), settings.random_epoch]
        options["generator"] = np.random.default_rng(seed)
    return options


def _seconds(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
