"""Frame selection without learning: each rule gives every video a fixed set of N frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from video_env.cache.store import Cache
from video_env.data.sampling import candidate_indices
from video_env.errors import InputError
from video_env.evaluation.protocols import LooksAt
from video_env.models.verdicts import Verdicts


@dataclass(frozen=True)
class NumFrames:
    """Settings of methods that choose N frames without a training.

    Attributes:
        num_frames: numbers of frames, one point on the curve each.
    """

    num_frames: tuple[int, ...] = (1, 2, 3, 4, 6)


class FixedSubsets:
    """A policy that looks its choice up by the video's row: acts in FrameSelectOneStep-v0 with
    ``num_frames=N`` and ``observation="index"``.

    Args:
        subsets: bool [V, T], N frames for every row of the cache (rows never asked for may be empty).
        looks_at: what the rule needs to have seen, which is charged to it.
    """

    gflops = 0.0

    def __init__(self, subsets: np.ndarray, looks_at: LooksAt) -> None:
        self.subsets = subsets
        self.looks_at: LooksAt = looks_at

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Scores float32 [B, T]: 1 for the chosen frames, −1 for the others."""
        chosen = self.subsets[np.asarray(observation["video"])[..., 0]]
        return np.where(chosen, np.float32(1), np.float32(-1)), state


def uniform(cache: Cache, num_frames: int) -> FixedSubsets:
    """The centres of N uniform segments of the candidates."""
    return _same(cache, candidate_indices(cache.num_candidates, num_frames))


def random(cache: Cache, num_frames: int, seed: int) -> FixedSubsets:
    """N random candidates, drawn once for every video."""
    generator = np.random.default_rng(seed)
    return _highest(generator.random((len(cache), cache.num_candidates)), num_frames, "nothing")


def centre(cache: Cache, num_frames: int) -> FixedSubsets:
    """The N candidates in the middle of the video, one after another."""
    first = (cache.num_candidates - num_frames) // 2
    return _same(cache, np.arange(first, first + num_frames))


def single_frame_confidence(cache: Cache, num_frames: int, split: str) -> FixedSubsets:
    """The N candidates of whose class the recognizer, seeing one alone, is surest (no label is used).

    It runs on all T candidates first, which is charged to the method.
    """
    rows = cache.rows(split)
    verdicts = Verdicts(cache, rows)
    scores = np.zeros((len(cache), cache.num_candidates))
    for batch in np.array_split(np.arange(len(rows)), -(-len(rows) // 64)):
        scores[rows[batch]] = verdicts.single_frame_probabilities(batch).max(axis=2)
    return _highest(scores, num_frames, "all frames")


def motion(cache: Cache, num_frames: int, split: str) -> FixedSubsets:
    """The N candidates that differ most from the one before (the first: from the one after), by the
    mean absolute difference of pixels. Subtractions are no multiply-adds: the cost is 0 GFLOPs."""
    frames, scores = cache["frames"], np.zeros((len(cache), cache.num_candidates))
    for row in cache.rows(split):
        video = frames[int(row)].astype(np.int16)
        moved = np.abs(np.diff(video, axis=0)).mean(axis=(1, 2, 3))
        scores[row, 1:] = moved
        scores[row, 0] = moved[0] if moved.size else 0  # of a single candidate there is nothing to compare
    return _highest(scores, num_frames, "nothing")


HEURISTICS: dict[str, Callable[[Cache, int, str, int], FixedSubsets]] = {
    "uniform": lambda cache, num_frames, split, seed: uniform(cache, num_frames),
    "random": lambda cache, num_frames, split, seed: random(cache, num_frames, seed),
    "centre": lambda cache, num_frames, split, seed: centre(cache, num_frames),
    "single-frame-confidence": lambda cache, num_frames, split, seed: single_frame_confidence(
        cache, num_frames, split
    ),
    "motion": lambda cache, num_frames, split, seed: motion(cache, num_frames, split),
}
"""By name: (cache, N, split, seed) to a policy."""


def check_num_frames(cache: Cache, num_frames: int) -> None:
    """Raise InputError unless 1 ≤ N ≤ T."""
    if not 1 <= num_frames <= cache.num_candidates:
        raise InputError(
            f"num_frames: found {num_frames}, expected 1 to {cache.num_candidates}, the candidate frames "
            f"of cache {cache.path}"
        )


def _same(cache: Cache, frames: np.ndarray) -> FixedSubsets:
    subset = np.zeros(cache.num_candidates, bool)
    subset[frames] = True
    return FixedSubsets(np.broadcast_to(subset, (len(cache), cache.num_candidates)), "nothing")


def _highest(scores: np.ndarray, num_frames: int, looks_at: LooksAt) -> FixedSubsets:
    """The N highest scores of each row, of equal ones the earlier."""
    subsets = np.zeros(scores.shape, bool)
    np.put_along_axis(subsets, np.argsort(-scores, axis=1, kind="stable")[:, :num_frames], True, axis=1)
    return FixedSubsets(subsets, looks_at)
