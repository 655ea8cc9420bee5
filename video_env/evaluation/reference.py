"""What a comparison is measured against: the recognizer of its cache, and what that costs."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from video_env.cache.store import Cache
from video_env.models.verdicts import Verdicts

TOGETHER = 512
"""Videos whose features are in memory at once."""
NO_RECOGNIZER = "none"
"""Of a cache without one, such as that of a released system with networks of its own."""


def recognizer_of(cache: Cache) -> str:
    """A short fingerprint of a cache's recognizer: its weights, and the network whose features it gets.

    A cache that was derived from another one, with patches say, has the same.
    """
    weights = cache.meta["networks"].get("recognizer.safetensors")
    if weights is None:
        return NO_RECOGNIZER
    source = cache.meta["arrays"].get("embedding", {}).get("source", {})
    return hashlib.sha256(json.dumps([weights, source], sort_keys=True).encode()).hexdigest()[:16]


def all_frames_top1(cache: Cache, rows: np.ndarray) -> float:
    """The recognizer's top-1 on all candidates of these videos; NaN where the cache has none."""
    if recognizer_of(cache) == NO_RECOGNIZER:
        return float("nan")
    verdicts, right = Verdicts(cache, rows), 0
    for video in np.array_split(np.arange(len(rows)), -(-len(rows) // TOGETHER)):
        every = np.ones((len(video), cache.num_candidates), bool)
        right += int((verdicts.probabilities(video, every).argmax(axis=1) == verdicts.labels[video]).sum())
    return right / len(rows)


def frames_gflops(cache: Cache, num_frames: int) -> float:
    """10^9 multiply-adds of the recognizer on so many frames of a video, without any selection: its backbone
    and its layers per frame on each, the last layer once. NaN where the cache does not know its parts."""
    gflops = cache.gflops
    if not {"embedding", "hidden", "output"} <= set(gflops):
        return float("nan")
    return num_frames * (gflops["embedding"] + gflops["hidden"]) + gflops["output"]
