"""Patch selection without learning, and its oracle: each rule gives every frame a fixed position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from video_env.cache.store import Cache
from video_env.data.patches import grid_corners
from video_env.envs.patch_select import GridPatchSelect
from video_env.errors import InputError
from video_env.evaluation.protocols import LooksAt


class FixedPatches:
    """A policy that looks its choice up by the video's row and the frame: acts in PatchSelect-v0 with
    ``observation="index"``.

    Args:
        positions: int64 [V, T] for every row of the cache (of rows never asked for anything).
    """

    gflops = 0.0
    looks_at: LooksAt = "glance"

    def __init__(self, positions: np.ndarray) -> None:
        self.positions = positions

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Positions int64 [B]."""
        video, frame = (np.asarray(observation[name])[..., 0] for name in ("video", "frame"))
        # Where no frame is left, any position will do.
        return self.positions[video, np.minimum(frame, self.positions.shape[1] - 1)], state


def random_patches(cache: Cache, seed: int) -> FixedPatches:
    """A random position, drawn once for every frame."""
    generator = np.random.default_rng(seed)
    return FixedPatches(generator.integers(_positions(cache), size=_shape(cache)))


def centre_patches(cache: Cache) -> FixedPatches:
    """The middle of the grid."""
    return FixedPatches(np.full(_shape(cache), _positions(cache) // 2))


def most_moving_patches(cache: Cache, split: str) -> FixedPatches:
    """The position whose patch differs most from the same place one frame earlier (in the first frame: one
    later), by the sum of absolute differences of pixels. Subtractions are no multiply-adds: 0 GFLOPs."""
    frames, source = cache["frames"], cache.meta["arrays"]["patches"]["source"]
    if "patch_size" not in source:
        raise InputError(
            f"most-moving patch: cache {cache.path} does not say how large its patches are; they were "
            "computed elsewhere"
        )
    size = int(frames.row_shape[1])
    # Frames may be stored smaller than they were when the patches were cut.
    patch = max(1, round(source["patch_size"] * size / source["frame_size"]))
    top, left = grid_corners(patch, size, _positions(cache)).T
    positions = np.zeros(_shape(cache), np.int64)
    for row in cache.rows(split):
        video = frames[int(row)].astype(np.int32)
        moved = np.abs(np.diff(video, axis=0)).sum(axis=-1)
        # A single frame does not move: the first position.
        moved = np.concatenate([moved[:1], moved]) if len(moved) else np.zeros(video.shape[:3], int)
        summed = np.pad(moved.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
        bottom, right = top + patch, left + patch
        inside = (
            summed[:, bottom, right] - summed[:, top, right] - summed[:, bottom, left] + summed[:, top, left]
        )
        positions[row] = inside.argmax(axis=1)
    return FixedPatches(positions)


def greedy_oracle(cache: Cache, split: str) -> FixedPatches:
    """At each frame the position that most raises the true class's probability.

    Its choice is free: it knows what no method can know. Greedy, so not quite an upper bound.
    """
    task = GridPatchSelect(cache, split, "confidence", observation="index")
    labels, positions = cache.labels[task.rows], np.zeros(_shape(cache), np.int64)
    for video in np.array_split(np.arange(len(task.rows)), -(-len(task.rows) // 64)):
        state = task.begin(video, np.random.default_rng(0))
        for frame in range(task.num_frames):
            every = [(np.full((len(video), 1), position), None) for position in range(task.num_positions)]
            _, probabilities = task.consider(state, every)
            best = probabilities[np.arange(len(video)), :, labels[video]].argmax(axis=1)
            positions[task.rows[video], frame] = best
            state, _, _ = task.step(state, best)
    return FixedPatches(positions)


PATCH_RULES: dict[str, Callable[[Cache, str, int], FixedPatches]] = {
    "random-patch": lambda cache, split, seed: random_patches(cache, seed),
    "centre-patch": lambda cache, split, seed: centre_patches(cache),
    "most-moving-patch": lambda cache, split, seed: most_moving_patches(cache, split),
    "patch-oracle": lambda cache, split, seed: greedy_oracle(cache, split),
}
"""By name: (cache, split, seed) to a policy."""


def _shape(cache: Cache) -> tuple[int, int]:
    return len(cache), int(cache["patches"].row_shape[0])


def _positions(cache: Cache) -> int:
    return int(cache["patches"].row_shape[1])
