"""How many videos per second the points of a comparison take on the machine at hand.

All points are timed in turns, on the same 32 videos, from decoded frames: a video's time is that of the
method's own work, and that of the networks whose features come from the cache, on as many frames (or patches)
as the method had processed. On a processor it is the time for which one core computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

import video_env  # noqa: F401  (registers the environments)
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.evaluate import make_env, run_episodes
from video_env.evaluation.protocols import Entry
from video_env.evaluation.rounds import ROUNDS, Stopwatch, Task, one_thread, speed_of, time_in_turns, total
from video_env.models.backbones import FrameNetwork, find_backbone
from video_env.models.device import resolve_device
from video_env.models.inference import for_inference

BATCH_VIDEOS = 32
COLUMNS = (
    "videos_per_second", "videos_per_second_low", "videos_per_second_high", "speed_note",
    "speed_over_all_frames",
)  # fmt: skip
"""Of result tables, that are measured here."""


class Evaluated(NamedTuple):
    """A point and what it chose.

    Attributes:
        entry: the point.
        table: its rows of a result table, in the order of the cache's videos.
        cache: that it was tested on, where it has none of its own.
    """

    entry: Entry
    table: pd.DataFrame
    cache: Cache


def measure_speeds(
    points: Sequence[Evaluated], split: str, device: str = "auto", *, rounds: int = ROUNDS
) -> pd.DataFrame:
    """Time points in turns.

    Args:
        points: all that are to be compared.
        split: whose videos.
        device: where the cache's networks run; policies have their own.
        rounds: how many times each is timed.

    Returns:
        ``COLUMNS``, a row for each point. A speed is missing where features were computed elsewhere, by
        networks that are not known here.
    """
    place = resolve_device(device)
    found = _Tasks(split, place)
    parts = [(found.of_point(point), found.of_all_frames(point.cache)) for point in points]
    with one_thread():
        times = time_in_turns(found.tasks, rounds)
    computed = place.type == "cpu"
    rows: list[tuple[Any, ...]] = []
    for own, everything in parts:
        if not set(own) <= set(times):
            rows.append((np.nan, np.nan, np.nan, "", np.nan))
            continue
        mine, ratio = total(own, times), np.nan
        if set(everything) <= set(times):
            kind = int(computed)
            ratio = float(np.median(total(everything, times)[kind] / mine[kind]))
        rows.append((*speed_of(mine, computed=computed), ratio))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def with_speeds(
    points: Sequence[Evaluated], split: str, device: str = "auto", *, rounds: int = ROUNDS
) -> list[pd.DataFrame]:
    """The points' tables with their speeds; see ``measure_speeds``."""
    speeds = measure_speeds(points, split, device, rounds=rounds)
    tables = [point.table.copy() for point in points]
    for number, table in enumerate(tables):
        for name in COLUMNS:
            table[name] = speeds.loc[number, name]
    return tables


class _Tasks:
    """What is timed for points, each thing once.

    Attributes:
        tasks: by key. A network that is not known here has none.
    """

    def __init__(self, split: str, device: torch.device) -> None:
        self.tasks: dict[Hashable, Task] = {}
        self._split, self._device = split, device
        self._frames: dict[Path, np.ndarray] = {}

    def of_point(self, point: Evaluated) -> dict[Hashable, float]:
        """How many times each task counts in the time of one video, by key."""
        cache, key = point.entry.cache or point.cache, len(self.tasks)
        rows = np.resize(cache.rows(self._split), BATCH_VIDEOS)
        if point.entry.environment is None:
            if cache.path not in self._frames:  # methods of one cache look at the same videos
                self._frames[cache.path] = cache["frames"][rows]
            self.tasks[key] = partial(_recognise, point.entry, self._frames[cache.path])
            own = point.table["gflops"].to_numpy()
            # Where videos are left early, these may take more or fewer frames than others do.
            return {key: own.mean() / np.resize(own, BATCH_VIDEOS).mean() / BATCH_VIDEOS}
        self.tasks[key] = _Decisions(point.entry, cache, self._split, rows)
        networks = (self._network(cache, array, count) for array, count in _runs(point, cache).items())
        return {key: 1 / BATCH_VIDEOS} | {name: share for part in networks for name, share in part.items()}

    def of_all_frames(self, cache: Cache) -> dict[Hashable, float]:
        """Likewise of the recognizer's network on every candidate."""
        return self._network(cache, "embedding", cache.num_candidates)

    def _network(self, cache: Cache, array: str, count: float) -> dict[Hashable, float]:
        if not count:
            return {}
        source = cache.meta["arrays"].get(array, {}).get("source", {})
        try:
            find_backbone(str(source.get("network")))
        except InputError:
            return {array: count}  # for which nothing is timed
        network = _Network(
            source["network"], source.get("patch_size", source["frame_size"]), source["input_size"],
            source.get("temporal_shift", 0),
        )  # fmt: skip
        if network not in self.tasks:
            self.tasks[network] = _pass(network, self._device)
        return {network: count / BATCH_VIDEOS}


def _recognise(entry: Entry, frames: np.ndarray, watch: Stopwatch) -> None:
    policy: Any = entry.policy
    with watch:
        policy.recognise(frames, **entry.options)


class _Decisions:
    """A policy decides on whole episodes; the time of the environment does not count."""

    def __init__(self, entry: Entry, cache: Cache, split: str, rows: np.ndarray) -> None:
        self.entry, self.args = entry, (cache, split)
        self.videos = cache.index["video"].to_numpy(object)[rows]
        self.env: gym.vector.VectorEnv[Any, Any, Any] | None = None

    def __call__(self, watch: Stopwatch) -> None:
        if self.env is None:
            self.env = make_env(self.entry, *self.args, len(self.videos))
        policy: Any = self.entry.policy
        run_episodes(policy, self.env, self.videos, deciding=watch)


class _Network(NamedTuple):
    """A network of the cache and what it looks at."""

    name: str
    frame_size: int
    input_size: int | None
    temporal_shift: int


def _pass(network: _Network, device: torch.device) -> Callable[[Stopwatch], None]:
    """The network on a batch of images. Weights do not change the time: it is built anew with random ones."""
    model = for_inference(
        FrameNetwork(network.name, input_size=network.input_size, temporal_shift=network.temporal_shift)
    ).to(device)
    size = network.frame_size
    frames = torch.randint(0, 256, (1, BATCH_VIDEOS, size, size, 3), dtype=torch.uint8, device=device)

    def run(watch: Stopwatch) -> None:
        with torch.inference_mode(), watch:
            model(frames).sum().item()  # which waits for a GPU to finish

    return run


def _runs(point: Evaluated, cache: Cache) -> Mapping[str, float]:
    """By array, on how many frames (or patches) of a video its network ran, on average."""
    policy: Any = point.entry.policy
    if "exit_after" in point.table and point.table["exit_after"].notna().all():
        looked = point.table["exit_after"].to_numpy(float)
        # The frame at which a video is left was glanced at too.
        glanced = np.minimum(looked + 1, cache.num_candidates)
        return {"glance": float(glanced.mean()), "patches": float(looked.mean())}
    every = cache.num_candidates
    processed = every if policy.looks_at == "all frames" else float(point.table["frames"].mean())
    return {"embedding": processed, "skim": every if policy.looks_at == "skim" else 0}
