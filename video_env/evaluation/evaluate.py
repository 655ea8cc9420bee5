"""The only evaluation loop: any policy, every video of a split once, to a result table (``results``)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd

import video_env  # noqa: F401  (registers the environments)
from video_env.cache.store import Cache
from video_env.evaluation.protocols import Entry, LooksAt, Policy, Recognition
from video_env.evaluation.reference import all_frames_top1, frames_gflops, recognizer_of
from video_env.models.device import machine_name
from video_env.models.verdicts import Verdicts

BATCH = 2048
BATCH_FRAMES = 32
"""Videos whose frames are read at once."""
TRAINING_VIDEOS = 400
"""At most so many videos tell how good a learned method is on those that it was trained on."""


def evaluate(entry: Entry, cache: Cache, split: str, device: str = "auto") -> pd.DataFrame:
    """Let a policy choose frames, or patches, for every video of a split: a result table, without speeds
    (``throughput`` measures them).

    Args:
        entry: the policy; it acts on its own cache where it has one.
        cache: else it acts on this one.
        split: whose videos.
        device: which machine the table names; a policy has its own.

    Raises:
        InputError: the environment's options or the cache do not fit, or there is no such device.
    """
    reference, cache = cache, entry.cache or cache
    if entry.environment is None:
        table, chosen, more = _recognised(entry, cache, split)
    else:
        table, chosen, more = _acted(entry, cache, split)
    label_sets = cache.label_sets()
    return pd.DataFrame(
        {
            "method": entry.method,
            "title": entry.title,
            "family": entry.family,
            **entry.setting,
            "seed": entry.seed,
            "split": split,
            "data": cache.meta["build"]["annotations"],
            **{
                key: table[key] for key in ("video", "label", "prediction", "correct", "confidence", "gflops")
            },
            "labels": [label_sets[row] for row in cache.rows(split)],
            "frames": _processed(table, chosen),
            "selected": [np.flatnonzero(row).tolist() for row in chosen],
            **more,
            "videos_per_second": np.nan,
            "training_seconds": entry.training.seconds,
            **_on_training_videos(entry, cache, reference, split),
            "recognizer": recognizer_of(reference),
            "one_frame_gflops": frames_gflops(reference, 1),
            "all_frames_gflops": frames_gflops(reference, reference.num_candidates),
            "machine": machine_name(device),
        }
    )


def _on_training_videos(entry: Entry, cache: Cache, reference: Cache, split: str) -> dict[str, float]:
    """A learned method's top-1 on training videos, and by how much the recognizer is better there, on all
    frames; both missing for what is not learned, and where the cache has no training videos."""
    if not entry.training.seconds or "train" not in cache.splits:
        return {"top1_train": float("nan"), "recognizer_gap": float("nan")}
    rows = training_videos(cache)
    trained, tested = (all_frames_top1(reference, of) for of in (rows, cache.rows(split)))
    return {"top1_train": top1_on(entry, cache, rows), "recognizer_gap": trained - tested}


def training_videos(cache: Cache) -> np.ndarray:
    """int64 rows of the videos that learned methods are tested on beside those of the split: the split
    ``train``, or 400 of it, drawn once."""
    rows = cache.rows("train")
    if len(rows) <= TRAINING_VIDEOS:
        return rows
    # Every fourth might always be of the same classes.
    return np.sort(np.random.default_rng(0).choice(rows, TRAINING_VIDEOS, replace=False))


def top1_on(entry: Entry, cache: Cache, rows: np.ndarray) -> float:
    """A method's top-1 on these training videos."""
    if entry.environment is None:
        return float((_said(entry, cache, rows).probabilities.argmax(axis=-1) == cache.labels[rows]).mean())
    return float(_episodes(entry, cache, "train", rows)["correct"].astype(float).mean())


Outcome = tuple[pd.DataFrame, np.ndarray, dict[str, Any]]
"""The verdict on every video (video, label, prediction, correct, confidence, gflops); which frames were
processed, bool [V, T]; and the table's columns of this kind of selection."""


def make_env(entry: Entry, cache: Cache, split: str, num_envs: int) -> gym.vector.VectorEnv[Any, Any, Any]:
    """The environments that an entry's policy acts in, charged with what the policy costs."""
    policy: Any = entry.policy
    options = dict(entry.options)
    if policy.looks_at != "glance":
        options.setdefault("skim_gflops", look_gflops(policy.looks_at, cache, entry.options))
    return gym.make_vec(
        str(entry.environment), num_envs=num_envs, vectorization_mode="vector_entry_point", cache=cache,
        split=split, selector_gflops=policy.gflops, **options,
    )  # fmt: skip


def _acted(entry: Entry, cache: Cache, split: str) -> Outcome:
    """A policy acts in an environment."""
    table = _episodes(entry, cache, split, cache.rows(split))
    chosen, more = (_patches_chosen if "patches" in table else _frames_chosen)(table, cache, split)
    return table, chosen, more


def _episodes(entry: Entry, cache: Cache, split: str, rows: np.ndarray) -> pd.DataFrame:
    """The final infos of one whole episode for each of these videos of a split, a row each."""
    policy: Any = entry.policy
    names = cache.index["video"].to_numpy(object)[rows]
    parts = []
    for batch in _batches(names):
        last = run_episodes(policy, make_env(entry, cache, split, len(batch)), batch)
        parts.append(pd.DataFrame({key: list(values) for key, values in last.items()}))
    return pd.concat(parts, ignore_index=True)


def _recognised(entry: Entry, cache: Cache, split: str) -> Outcome:
    """A method looks at the videos by itself."""
    rows = cache.rows(split)
    said = _said(entry, cache, rows)
    labels, prediction = cache.index["label"].to_numpy()[rows], said.probabilities.argmax(axis=-1)
    table = pd.DataFrame(
        {
            "video": cache.index["video"].to_numpy(object)[rows],
            "label": labels,
            "prediction": prediction,
            "correct": prediction == labels,
            "confidence": said.probabilities[np.arange(len(rows)), labels],
            "gflops": said.gflops,
        }
    )
    chosen = said.points[..., 0] >= 0
    return table, chosen, _patch_columns(said.points, chosen, said.probabilities)


def _said(entry: Entry, cache: Cache, rows: np.ndarray) -> Recognition:
    """What a method with networks of its own says of these videos."""
    policy: Any = entry.policy
    found = []
    for start in range(0, len(rows), BATCH_FRAMES):
        frames = cache["frames"][rows[start : start + BATCH_FRAMES]]
        found.append(policy.recognise(frames, **entry.options))
    return Recognition(*(np.concatenate(column) for column in zip(*found, strict=True)))


Chosen = tuple[np.ndarray, dict[str, Any]]
"""Which frames were processed, bool [V, T]; and the table's columns of this kind of selection."""


def _frames_chosen(table: pd.DataFrame, cache: Cache, split: str) -> Chosen:
    chosen = np.stack(table["selected"].to_list())
    return chosen, {"scores": list(_scores(cache, split, chosen))}


def _processed(table: pd.DataFrame, chosen: np.ndarray) -> pd.Series:
    """How many frames of each video; an environment says it where one can be processed again."""
    return table.get("processed", pd.Series(chosen.sum(axis=1)))


def _patches_chosen(table: pd.DataFrame, cache: Cache, split: str) -> Chosen:
    points = np.stack(table["patches"].to_list())
    chosen = points[..., 0] >= 0
    return chosen, _patch_columns(points, chosen, np.stack(table["probabilities"].to_list()))


def _patch_columns(points: np.ndarray, chosen: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """From points [V, T, 2], the frames that were processed [V, T], and class probabilities [V, C]."""
    return {
        "patches": [of_video[taken].ravel().tolist() for of_video, taken in zip(points, chosen, strict=True)],
        "exit_after": chosen.sum(axis=1),
        "scores": list(scores.astype(np.float32)),
    }


def run_episodes(
    policy: Policy,
    env: gym.vector.VectorEnv[Any, Any, Any],
    videos: np.ndarray,
    *,
    deciding: AbstractContextManager[Any] | None = None,
) -> dict[str, np.ndarray]:
    """One whole episode on each of these videos.

    Args:
        policy: acts greedily.
        env: a native vector environment with as many environments as videos.
        videos: ids.
        deciding: entered around each of the policy's decisions, to time them.

    Returns:
        The final infos, each [B, ...].
    """
    takes_masks = "action_masks" in inspect.signature(policy.predict).parameters
    observation, info = env.reset(options={"video": list(videos)})
    ended = np.zeros(len(videos), bool)
    last: dict[str, np.ndarray] = {}
    state = None
    start = np.ones(len(videos), bool)

    while not ended.all():
        masks = {"action_masks": info["action_mask"]} if takes_masks and "action_mask" in info else {}
        with deciding or nullcontext():
            action, state = policy.predict(observation, state, start, deterministic=True, **masks)
        observation, _, terminated, truncated, info = env.step(action)
        start = terminated | truncated
        now = start & ~ended
        if now.any():
            for key, values in info["final_info"].items():
                if not key.startswith("_"):
                    last.setdefault(key, np.empty_like(values))[now] = values[now]
        ended |= now
    return last


def look_gflops(looks_at: LooksAt, cache: Cache, options: dict[str, Any]) -> float | None:
    """Cost per video of what a policy must have seen; None is the cache's own cost of skimming."""
    if looks_at == "skim":
        return None
    if looks_at == "nothing":
        return 0.0
    gflops = cache.gflops
    per_frame = gflops["embedding"] + gflops["hidden"]
    # Every candidate goes through the recognizer alone; those chosen are charged when they are chosen.
    unchosen = cache.num_candidates - int(options.get("num_frames", 0))
    return unchosen * per_frame + cache.num_candidates * gflops["output"]


def _scores(cache: Cache, split: str, chosen: np.ndarray) -> np.ndarray:
    """Class probabilities of the chosen frames, float32 [V, C]."""
    verdicts = Verdicts(cache, cache.rows(split))
    parts = [verdicts.probabilities(video, chosen[video]) for video in _batches(np.arange(len(chosen)))]
    return np.concatenate(parts).astype(np.float32)


def _batches(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]
