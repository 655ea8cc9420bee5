"""λ relative to what all frames of a video cost, so that one value suits cheap and dear networks alike.

An environment's ``cost_per_gflop`` is in quality per GFLOP; what is a low price for a small network is beyond
every gain for a large one. ``cost_of_all_frames`` is the share of quality that processing all frames of a
video may cost: λ = cost_of_all_frames / (GFLOPs that all frames spend).
"""

from __future__ import annotations

from video_env.cache.store import Cache
from video_env.envs.options import check_number, known_gflops
from video_env.errors import InputError


def gflops_of_all_frames(cache: Cache) -> float:
    """What processing every candidate spends in FrameSelect-v0: what is in its rewards.

    Raises:
        InputError: the cache does not state it.
    """
    return cache.num_candidates * (known_gflops(cache, "embedding") + known_gflops(cache, "hidden"))


def gflops_of_all_patches(cache: Cache) -> float:
    """What a patch in every frame spends in PatchSelect-v0: the patches, the classifier's steps, and all
    glances but the first, which is not in the rewards.

    Raises:
        InputError: the cache does not state it, or has no patches.
    """
    frames = cache["patches"].row_shape[0]
    look = known_gflops(cache, "patches") + known_gflops(cache, "classifier")
    return frames * look + (frames - 1) * known_gflops(cache, "glance")


def relative_cost(cost_of_all_frames: float, gflops: float) -> float:
    """λ per GFLOP, of the share of quality that all frames together may cost.

    Args:
        cost_of_all_frames: the share, at least 0.
        gflops: that all frames spend.

    Raises:
        InputError: it is negative or not finite, or frames cost nothing.
    """
    check_number("cost_of_all_frames", cost_of_all_frames)
    if not gflops:
        raise InputError(
            f"cost_of_all_frames {cost_of_all_frames:g}: the cache's frames cost 0 GFLOPs; expected networks "
            "whose cost is known"
        )
    return cost_of_all_frames / gflops


def describe_relative_cost(cost_of_all_frames: float, gflops: float) -> str:
    """The same in words, for whoever trains with it."""
    return (
        f"cost_of_all_frames {cost_of_all_frames:g}: λ = {relative_cost(cost_of_all_frames, gflops):.4g} per "
        f"GFLOP, all frames take {gflops:.4g} GFLOPs"
    )
