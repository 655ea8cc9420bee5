"""How long the networks take on the machine at hand."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from video_env.cache.store import Cache
from video_env.models.backbones import BACKBONES, BackboneName, FrameNetwork, evaluating
from video_env.models.device import resolve_device

BATCH_VIDEOS = 32


def network_seconds(cache: Cache, runs: dict[str, float], device: str) -> float:
    """Seconds per video that the cache's networks take on frames that are decoded already.

    Each network runs over a batch of 32 images; the time is the median of several passes. Weights do not
    change the time, so the networks are built anew with random ones. The time of policies is measured while
    they act, in batches of up to 2048 videos (see ``evaluate``).

    Args:
        cache: says which networks its arrays were computed with.
        runs: by array, on how many frames (or patches) of a video its network runs.
        device: where they run; see ``resolve_device``.

    Returns:
        Their sum; NaN where features were computed elsewhere, by networks that are not known here.
    """
    seconds = 0.0
    for array, count in runs.items():
        if not count:
            continue
        source = cache.meta["arrays"][array]["source"]
        if source["network"] not in BACKBONES:
            return float("nan")
        seconds += count * _seconds_per_frame(
            source["network"], source.get("patch_size", source["frame_size"]), source["input_size"],
            source.get("temporal_shift", 0), resolve_device(device),
        )  # fmt: skip
    return seconds


@lru_cache(maxsize=16)
def _seconds_per_frame(
    network: BackboneName, frame_size: int, input_size: int | None, temporal_shift: int, device: torch.device
) -> float:
    model = FrameNetwork(network, input_size=input_size, temporal_shift=temporal_shift).to(device)
    model = model.to(memory_format=torch.channels_last)
    frames = torch.randint(
        0, 256, (1, BATCH_VIDEOS, frame_size, frame_size, 3), dtype=torch.uint8, device=device
    )
    times = []
    with evaluating(model):
        for _ in range(6):
            begun = time.perf_counter()
            model(frames).sum().item()
            times.append(time.perf_counter() - begun)
    return sorted(times[1:])[2] / BATCH_VIDEOS
