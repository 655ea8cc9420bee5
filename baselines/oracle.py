"""The oracle: the best frames by the true label, the upper bound of any selection of N frames."""

from __future__ import annotations

import numpy as np

from baselines.heuristics import FixedSubsets
from video_env.cache.store import Cache
from video_env.envs.rewards import Verdicts, subset_bits


def oracle(cache: Cache, num_frames: int, split: str) -> FixedSubsets:
    """The N frames that together give the true class the highest probability.

    With the subset table (T ≤ 12) it is the best of all C(T, N) sets; without it, frames are added one
    by one, each time the one that raises that probability most. Its choice is free: it knows what no
    method can know.
    """
    rows = cache.rows(split)
    subsets = np.zeros((len(cache), cache.num_candidates), bool)
    if "subset_confidence" in cache:
        bits = subset_bits(cache.num_candidates)
        sets = (np.arange(1 << cache.num_candidates)[:, None] & bits) > 0
        sets = sets[sets.sum(axis=1) == num_frames]
        confidence = cache["subset_confidence"][rows][:, sets @ bits]
        subsets[rows] = sets[confidence.argmax(axis=1)]
    else:
        verdicts = Verdicts(cache, rows)
        for batch in np.array_split(np.arange(len(rows)), -(-len(rows) // 64)):
            subsets[rows[batch]] = _greedy(verdicts, batch, num_frames, cache.num_candidates)
    return FixedSubsets(subsets, "nothing")


def _greedy(verdicts: Verdicts, video: np.ndarray, num_frames: int, num_candidates: int) -> np.ndarray:
    chosen = np.zeros((len(video), num_candidates), bool)
    labels = verdicts.labels[video]
    for _ in range(num_frames):
        confidence = np.full((len(video), num_candidates), -1.0)
        for frame in range(num_candidates):
            more = chosen.copy()
            more[:, frame] = True
            probabilities = verdicts.probabilities(video, more)
            confidence[:, frame] = probabilities[np.arange(len(video)), labels]
        confidence[chosen] = -1
        chosen[np.arange(len(video)), confidence.argmax(axis=1)] = True
    return chosen
