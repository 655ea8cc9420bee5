"""Arguments that all environments share: their defaults, and what is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from video_env.cache.store import Cache
from video_env.errors import InputError

PACKAGED_CACHE = Path(__file__).parent.parent / "packaged"

Observation = Literal["features", "index"]


def check_observation(observation: Observation) -> Observation:
    """The kind of observation, or InputError where there is none such."""
    if observation not in ("features", "index"):
        raise InputError(f"observation {observation!r}: expected features or index")
    return observation


def check_cost(cost_per_gflop: float) -> float:
    """λ, or InputError where it is negative or not finite."""
    if not 0 <= cost_per_gflop < np.inf:
        raise InputError(f"cost_per_gflop: found {cost_per_gflop}, expected a number of at least 0")
    return float(cost_per_gflop)


def known_gflops(cache: Cache, part: str) -> float:
    """The cost of a part of the recognizer, or InputError where the cache does not state it."""
    gflops = cache.gflops
    if part not in gflops:
        raise InputError(
            f"cache {cache.path}: meta.json states no GFLOPs of {part!r}; it has "
            f"{', '.join(gflops) or 'none'}"
        )
    return gflops[part]
