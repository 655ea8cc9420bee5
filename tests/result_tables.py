"""Result tables for tests: written by hand, and of policies without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from baselines.heuristics import random, uniform
from baselines.oracle import oracle
from baselines.patches import most_moving_patches, random_patches
from video_env.cache.store import Cache
from video_env.evaluation.protocols import Entry


def entry(method: str, cache: Cache, split: str, num_frames: int = 0, seed: int = 0) -> Entry:
    """``uniform``, ``random``, ``oracle`` or ``all-frames``; ``random-patch`` or ``most-moving-patch``, at the
    cache's patch size."""
    title, options = method.replace("-", " "), {"observation": "index"}
    if method.endswith("patch"):
        title = title.replace("most moving", "most-moving")
        policy = (
            random_patches(cache, seed) if method == "random-patch" else most_moving_patches(cache, split)
        )
        setting = {"patch_size": cache.meta["arrays"]["patches"]["source"]["patch_size"]}
        return Entry(method, title, "heuristic", setting, seed, "PatchSelect-v0", policy, options)
    num_frames = cache.num_candidates if method == "all-frames" else num_frames
    chosen = {
        "uniform": lambda: uniform(cache, num_frames),
        "all-frames": lambda: uniform(cache, num_frames),
        "random": lambda: random(cache, num_frames, seed),
        "oracle": lambda: oracle(cache, num_frames, split),
    }[method]()
    family = "bound" if method in ("oracle", "all-frames") else "heuristic"
    return Entry(
        method, title, family, {"num_frames": num_frames}, seed, "FrameSelectOneStep-v0", chosen,
        {**options, "num_frames": num_frames},
    )  # fmt: skip


def table(
    method: str,
    setting: dict[str, Any],
    accuracy: float,
    gflops: float,
    *,
    title: str | None = None,
    family: str = "",
    frames: float = 1,
    seeds: int = 3,
    seconds: float = 0.0,
    speed: float = 10.0,
    videos: int = 400,
    noise: int = 0,
    train: float = float("nan"),
    own_gap: float = float("nan"),
    recognizer: str = "r",
    ends: tuple[float, float] = (1.0, 12.0),
) -> pd.DataFrame:
    """A point of a method; in every seed the same share of its videos is right, drawn by ``noise``. ``ends``
    are the GFLOPs of one frame and of all."""
    parts = []
    for seed in range(seeds):
        order = np.random.default_rng(noise).permutation(videos)
        correct = order < round(accuracy * videos)
        parts.append(
            pd.DataFrame(
                {
                    "method": method, "title": title or method, "family": family, **setting, "seed": seed,
                    "split": "test", "data": "d", "video": [f"v{number}" for number in range(videos)],
                    "label": np.arange(videos) % 2, "labels": [[number % 2] for number in range(videos)],
                    "prediction": np.where(correct, np.arange(videos) % 2, 1 - np.arange(videos) % 2),
                    "correct": correct, "confidence": 0.5, "gflops": gflops, "frames": frames,
                    "selected": [[0]] * videos, "scores": [[0.5, 0.5]] * videos,
                    "videos_per_second": speed * (1 + 0.01 * seed),
                    "training_seconds": seconds * (1 + 0.01 * seed), "top1_train": train, "recognizer_gap": own_gap,
                    "recognizer": recognizer, "one_frame_gflops": ends[0], "all_frames_gflops": ends[1],
                    "machine": "a processor",
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)
