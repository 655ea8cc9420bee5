"""The oracle: the best frames by the true label, the upper bound of top-1 for any selection of N frames."""

from __future__ import annotations

import numpy as np

from baselines.heuristics import FixedSubsets
from video_env.cache.store import Cache
from video_env.models.verdicts import Verdicts, subset_bits


def oracle(cache: Cache, num_frames: int, split: str) -> FixedSubsets:
    """N frames on which the recognizer is right, where there are such; among them, or among all, those that
    together give the true class the highest probability.

    With the subset table (T ≤ 12) it is the best of all C(T, N) sets; without it, frames are added one
    by one, each time the one that is best so far, which may miss the bound. Its choice is free: it knows
    what no method can know.

    Args:
        cache: the videos.
        num_frames: N.
        split: whose videos.
    """
    rows = cache.rows(split)
    subsets = np.zeros((len(cache), cache.num_candidates), bool)
    labels = cache.index["label"].to_numpy()[rows]
    if "subset_confidence" in cache:
        bits = subset_bits(cache.num_candidates)
        sets = (np.arange(1 << cache.num_candidates)[:, None] & bits) > 0
        sets = sets[sets.sum(axis=1) == num_frames]
        confidence = cache["subset_confidence"][rows][:, sets @ bits].astype(np.float64)
        right = cache["subset_prediction"][rows][:, sets @ bits] == labels[:, None]
        subsets[rows] = sets[(right + confidence).argmax(axis=1)]
    else:
        verdicts = Verdicts(cache, rows)
        for batch in np.array_split(np.arange(len(rows)), -(-len(rows) // 64)):
            subsets[rows[batch]] = _greedy(verdicts, batch, num_frames, cache.num_candidates)
    return FixedSubsets(subsets, "nothing")


def _greedy(verdicts: Verdicts, video: np.ndarray, num_frames: int, num_candidates: int) -> np.ndarray:
    chosen = np.zeros((len(video), num_candidates), bool)
    labels = verdicts.labels[video]
    for _ in range(num_frames):
        worth = np.full((len(video), num_candidates), -1.0)
        for frame in range(num_candidates):
            more = chosen.copy()
            more[:, frame] = True
            probabilities = verdicts.probabilities(video, more)
            right = probabilities.argmax(axis=1) == labels
            worth[:, frame] = right + probabilities[np.arange(len(video)), labels]
        worth[chosen] = -1
        chosen[np.arange(len(video)), worth.argmax(axis=1)] = True
    return chosen
