"""Caches of random numbers, for timing: what they hold changes no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.models.classifiers import GRUClassifier, store_classifier

CLASSES = 200
"""As in ActivityNet."""


def random_cache(
    folder: Path, videos: int, arrays: dict[str, tuple[int, ...]], gflops: dict[str, float]
) -> Cache:
    """A cache of training videos alone.

    Args:
        folder: for it.
        videos: how many.
        arrays: by name, the shape of one video's row; ``frames`` are uint8, features float16 in [0, 1).
        gflops: see ``cache_from_arrays``.
    """
    generator = np.random.default_rng(0)
    names = [f"{number}" for number in range(videos)]
    labels = generator.integers(CLASSES, size=videos)
    made = {
        name: generator.integers(0, 256, (videos, *shape), np.uint8)
        if name == "frames"
        else generator.random((videos, *shape), np.float32).astype(np.float16)
        for name, shape in arrays.items()
    }
    index = pd.DataFrame({"video": names, "label": labels, "split": "train"})
    return cache_from_arrays(folder, index, made, [str(number) for number in range(CLASSES)], gflops)


def random_patch_cache(folder: Path, videos: int) -> Cache:
    """For AdaFocus's stage 2, at its published sizes: 16 frames, glance maps of MobileNetV2, ResNet-50's
    features of 49 patches, and a GRU of 1024 units."""
    arrays = {"glance": (16, 1280, 7, 7), "patches": (16, 49, 2048)}
    cache = random_cache(folder, videos, arrays, {"glance": 0.3, "patches": 0.75})
    return store_classifier(cache, GRUClassifier(1280, 2048, CLASSES))
