"""What a method says of video files: the evaluation's own loop, on videos that no cache holds and nobody
labelled.

::

    registry.load()
    for said in predict(["surfing.mp4"], Cache("cache"), agent_from("ocsampler.pt")):
        print(said.video, said.name, said.timestamps_seconds, said.gflops)

The cache gives the networks, the costs, the names of the classes, and how videos are read.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from video_env.cache.decoding import BuildSettings, decode_all
from video_env.cache.in_memory import SPLIT
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.data.decode import DecodedVideo
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import kind_of
from video_env.evaluation.evaluate import BATCH_FRAMES, evaluate
from video_env.evaluation.protocols import Entry
from video_env.models.videos_in_memory import NetworksOf

EntryOf = Callable[[Cache], Entry]
"""Gives a method's entry on a cache."""


@dataclass(frozen=True)
class Prediction:
    """What a method says of a video, and what it looked at.

    Attributes:
        video: the file, as it was given.
        label: the predicted class, a position in the cache's classes; −1 where the method looked at nothing.
        name: of that class; ``none`` where there is none.
        probabilities: float32 [C].
        chosen: bool [T], which of the candidates were processed.
        frame_indices: int64 [N], their numbers in the file, from 0.
        timestamps_seconds: float64 [N], when they are shown.
        frames_per_second: mean rate of the file.
        patches: float [N, 2], (row, column) in [0, 1] of the patch in each; None where frames are chosen.
        patch_share: side of a patch as a share of the frame's; None likewise.
        gflops: 10^9 multiply-adds of all that ran, as an evaluation counts them.
        seconds: that it took, decoding included; of videos that were looked at together, their mean.
        frames: uint8 [T, H, W, 3], the candidates.
    """

    video: str
    label: int
    name: str
    probabilities: np.ndarray
    chosen: np.ndarray
    frame_indices: np.ndarray
    timestamps_seconds: np.ndarray
    frames_per_second: float
    patches: np.ndarray | None
    patch_share: float | None
    gflops: float
    seconds: float
    frames: np.ndarray


@dataclass(frozen=True)
class Failure:
    """A video that cannot be read.

    Attributes:
        video: the file, as it was given.
        reason: why; it names the file.
    """

    video: str
    reason: str


def agent_from(file: str | Path, *, device: str = "auto", **options: Any) -> EntryOf:
    """A saved agent, of whatever kind the file holds.

    Args:
        file: of the agent.
        device: where it runs.
        options: of its kind, as ``gflops`` of a conditional exit.

    Raises:
        InputError: there is no such file, it holds no agent, or an option is none of its kind.
    """
    path = Path(file).expanduser()
    kind = kind_of(path)
    if foreign := set(options) - set(inspect.signature(kind.entry).parameters):
        name = sorted(foreign)[0]
        raise InputError(
            f"{name}: found {options[name]}; it means nothing with an agent of the kind {kind.name}"
        )
    return lambda cache: kind.entry(cache=cache, agent=path, device=device, **options)


def predict(
    videos: Sequence[str | Path], cache: Cache, entry_of: EntryOf, *, device: str = "auto"
) -> Iterator[Prediction | Failure]:
    """Let a method look at video files, one after another, and say what they show.

    Files are decoded in other processes, ahead; networks run here, on what the method looks at and no more.

    Args:
        videos: files.
        cache: whose networks are used, and as whose videos they are read; it stays as it is.
        entry_of: the method.
        device: where the cache's networks run.

    Yields:
        One for each file, in their order.

    Raises:
        InputError: the cache does not say how its videos were read, or does not hold a network that the
            method asks for, or the method does not fit the cache.
    """
    settings, networks = reading_of(cache), NetworksOf(cache, device)
    names = list(dict.fromkeys(str(video) for video in videos))
    if not names:
        return
    table = pd.DataFrame(
        {"video": names, "path": [str(Path(name).expanduser().absolute()) for name in names]}
    )
    annotations = Annotations(table.assign(label=0, split=SPLIT), cache.classes, Path("/"))
    decoded = zip(names, decode_all(annotations, settings), strict=True)
    while True:
        begun = time.perf_counter()
        if not (batch := dict(itertools.islice(decoded, BATCH_FRAMES))):
            return
        read = {name: video for name, video in batch.items() if isinstance(video, DecodedVideo)}
        said = _say(read, networks, entry_of, device) if read else {}
        seconds = (time.perf_counter() - begun) / len(batch)
        for name, video in batch.items():
            yield Failure(name, video) if isinstance(video, str) else replace(said[name], seconds=seconds)


def reading_of(cache: Cache) -> BuildSettings:
    """How a cache's videos were read, with the centres of segments as candidates.

    Raises:
        InputError: it does not say so.
    """
    names = ("num_candidates", "frame_size", "shorter_side", "decoder", "keep_damaged")
    build = cache.meta["build"]
    if missing := [name for name in names if name not in build]:
        raise InputError(
            f"cache {cache.path}: does not say how its videos were read (no {', '.join(missing)} in "
            "meta.json); expected one that was built from videos"
        )
    if build["frame_size"] != cache.meta["frame_size"]:
        raise InputError(
            f"cache {cache.path}: found frames of {cache.meta['frame_size']} pixels, expected "
            f"{build['frame_size']}, as its videos were read"
        )
    return BuildSettings(**{name: build[name] for name in (*names, "frames_rate") if name in build})


def _say(
    decoded: dict[str, DecodedVideo], networks: NetworksOf, entry_of: EntryOf, device: str
) -> dict[str, Prediction]:
    """What the method says of a few videos, by their ids."""
    cache = networks.looking_at(decoded)
    entry = entry_of(cache)
    if entry.environment is not None:
        # No decision depends on the reward, and this one asks for nothing besides.
        entry = replace(entry, options={**entry.options, "reward": "confidence"})
    table = evaluate(entry, cache, SPLIT, device)
    rows: list[dict[str, Any]] = [{str(name): row[name] for name in row} for row in table.to_dict("records")]
    return {row["video"]: _prediction(row, decoded[row["video"]], cache) for row in rows}


def _prediction(row: dict[str, Any], video: DecodedVideo, cache: Cache) -> Prediction:
    frames, label = np.asarray(row["selected"], int), int(row["prediction"])
    chosen = np.zeros(cache.num_candidates, bool)
    chosen[frames] = True
    patches = np.reshape(row["patches"], (-1, 2)) if "patches" in row else None
    size = row.get("patch_size")
    return Prediction(
        video=row["video"], label=label, name=cache.classes[label] if label >= 0 else "none",
        probabilities=np.asarray(row["scores"], np.float32), chosen=chosen,
        frame_indices=video.frame_indices[frames], timestamps_seconds=video.timestamps_seconds[frames],
        frames_per_second=video.frames_per_second, patches=patches,
        patch_share=None if patches is None or size is None else float(size) / int(cache.meta["frame_size"]),
        gflops=float(row["gflops"]), seconds=float("nan"), frames=video.frames,
    )  # fmt: skip
