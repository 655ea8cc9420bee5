"""Small caches and videos that the tests share; every one is made here, from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.data import demo
from video_env.models.classifiers import build_classifier, store_classifier
from video_env.models.recognizers import Recognizer, store_recognizer
from video_env.models.train_recognizer import add_subset_tables

GFLOPS = {"skim": 0.01, "embedding": 0.5}


def write_cache(
    out: Path, *, num_candidates: int = 6, tables: bool = True, consensus: str = "max", videos: int = 24
) -> Cache:
    """A cache of random features with an untrained recognizer: 4 classes, D = 8, C = 4."""
    import torch

    generator = np.random.default_rng(0)
    index = pd.DataFrame(
        {
            "video": [f"video-{number:02d}" for number in range(videos)],
            "label": generator.integers(4, size=videos),
            "split": np.where(np.arange(videos) < videos * 2 // 3, "train", "test"),
        }
    )
    shape = (videos, num_candidates)
    arrays = {
        "skim": generator.normal(size=(*shape, 5)).astype(np.float16),
        "embedding": generator.normal(size=(*shape, 8)).astype(np.float16),
        "frames": generator.integers(0, 256, (*shape, 16, 16, 3), dtype=np.uint8),
    }
    cache = cache_from_arrays(out, index, arrays, list("abcd"), GFLOPS, shard_size=10)
    torch.manual_seed(0)
    recognizer = Recognizer(8, 4, hidden=16, consensus=consensus)  # type: ignore[arg-type]
    for parameter in recognizer.parameters():
        torch.nn.init.normal_(parameter)
    cache = store_recognizer(cache, recognizer, recognizer.gflops())
    return add_subset_tables(cache, "cpu") if tables else cache


def write_patch_cache(
    out: Path, *, classifier: str = "gru", videos: int = 24, num_frames: int = 4, num_positions: int = 9
) -> Cache:
    """A cache of random glance maps and patch features with an untrained classifier: 4 classes, glance maps
    of 6 features on 3x3, 5 features a patch, R = 7."""
    import torch

    generator = np.random.default_rng(3)
    index = pd.DataFrame(
        {
            "video": [f"video-{number:02d}" for number in range(videos)],
            "label": generator.integers(4, size=videos),
            "split": np.where(np.arange(videos) < videos * 2 // 3, "train", "test"),
        }
    )
    shape = (videos, num_frames)
    arrays = {
        "glance": generator.normal(size=(*shape, 6, 3, 3)).astype(np.float16),
        "patches": generator.normal(size=(*shape, num_positions, 5)).astype(np.float16),
        "frames": generator.integers(0, 256, (*shape, 24, 24, 3), dtype=np.uint8),
    }
    cache = cache_from_arrays(
        out, index, arrays, list("abcd"), {"glance": 0.02, "patches": 0.1}, shard_size=10
    )
    torch.manual_seed(0)
    config = {"classifier": classifier, "glance": 6, "patch": 5, "classes": 4, "hidden": 7}
    network = build_classifier(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return store_classifier(cache, network)


def write_known_cache(out: Path, *, num_candidates: int = 6, videos: int = 400) -> Cache:
    """A cache whose best subset is known: the skim features mark two frames of each video, and the
    recognizer is right if and only if both are chosen (see ``best``)."""
    generator = np.random.default_rng(1)
    best = np.stack([generator.permutation(num_candidates)[:2] for _ in range(videos)])
    rows = np.arange(videos)
    skim = generator.normal(0, 0.1, (videos, num_candidates, 4))
    skim[..., 1] = 1
    skim[rows[:, None], best, :2] = 1, 0
    labels = generator.integers(2, size=videos)
    # Two embedding features, one carried by each marked frame; class 1 is right where both are seen
    # and the label is 1, class 0 likewise; seen alone they cancel.
    embedding = np.zeros((videos, num_candidates, 4))
    embedding[rows, best[:, 0], 0] = 1
    embedding[rows, best[:, 1], 1] = 1
    embedding[rows, :, 2] = labels[:, None]
    index = pd.DataFrame(
        {
            "video": [f"known-{number:03d}" for number in range(videos)],
            "label": labels,
            "split": np.where(rows < videos * 3 // 4, "train", "test"),
            "best": [sorted(pair) for pair in best.tolist()],
        }
    )
    arrays = {"skim": skim.astype(np.float16), "embedding": embedding.astype(np.float16)}
    cache = cache_from_arrays(out, index, arrays, ["a", "b"], GFLOPS)
    subsets = (np.arange(2**num_candidates)[:, None] >> np.arange(num_candidates)) & 1
    both = subsets[:, best].prod(axis=2).T
    confidence = np.where(both, 0.95, 0.05)
    confidence[:, 0] = 0.5
    prediction = np.where(both, labels[:, None], 1 - labels[:, None])
    prediction[:, 0] = -1
    from video_env.cache.changes import add_arrays

    def compute(shard: slice) -> dict[str, np.ndarray]:
        return {
            "subset_confidence": confidence[shard].astype(np.float16),
            "subset_prediction": prediction[shard].astype(np.int16),
        }

    cache = store_recognizer(cache, Recognizer(4, 2, hidden=0), {"hidden": 0.0, "output": 0.0})
    return add_arrays(cache, ("subset_confidence", "subset_prediction"), compute, source={"made": "by hand"})


def write_known_patch_cache(out: Path, *, videos: int = 120, num_frames: int = 3) -> Cache:
    """A cache whose best position is known in every frame: the glance map marks it (column ``best`` of the
    index), and each frame's patch there tells the label once; all others tell nothing."""
    import torch

    generator = np.random.default_rng(5)
    best, labels = generator.integers(9, size=(videos, num_frames)), generator.integers(2, size=videos)
    row, frame = np.ogrid[:videos, :num_frames]
    glance = generator.normal(0, 0.1, (videos, num_frames, 2, 9))
    glance[row, frame, 0, best] = 1
    patches = np.zeros((videos, num_frames, 9, 2 * num_frames))
    patches[row, frame, best, 2 * frame + labels[:, None]] = 1
    index = pd.DataFrame(
        {
            "video": [f"known-{number:03d}" for number in range(videos)],
            "label": labels,
            "split": np.where(np.arange(videos) < videos * 3 // 4, "train", "test"),
            "best": best.tolist(),
        }
    )
    arrays = {
        "glance": glance.reshape(videos, num_frames, 2, 3, 3).astype(np.float16),
        "patches": patches.astype(np.float16),
    }
    cache = cache_from_arrays(out, index, arrays, ["a", "b"], {"glance": 0.02, "patches": 0.1})
    size = 2 * num_frames
    classifier = build_classifier(
        {"classifier": "running_max", "glance": 2, "patch": size, "classes": 2, "hidden": size}
    )
    weights = {
        "input.weight": torch.cat([torch.zeros(size, 2), torch.eye(size)], dim=1),
        "input.bias": torch.zeros(size),
        "output.weight": torch.eye(2).repeat(1, num_frames),
        "output.bias": torch.zeros(2),
    }
    classifier.load_state_dict(weights)
    return store_classifier(cache, classifier)


def interrupt_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings be interrupted once their checkpoint has been written so many times."""
    from video_env.models.training_loop import TrainingLoop

    save, count = TrainingLoop._save, 0

    def save_then_fail(self: TrainingLoop, *arguments: Any, **options: Any) -> None:
        nonlocal count
        save(self, *arguments, **options)
        count += arguments[0] is not None
        if count == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLoop, "_save", save_then_fail)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_cache(tmp_path_factory.mktemp("cache") / "cache")


@pytest.fixture(scope="session", params=["gru", "running_max"])
def patch_cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Cache:
    return write_patch_cache(tmp_path_factory.mktemp("patches") / "cache", classifier=request.param)


@pytest.fixture(scope="session")
def known_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_known_cache(tmp_path_factory.mktemp("known") / "cache")


@pytest.fixture(scope="session")
def demo_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with freshly written mp4 files of the built-in data set and its annotations."""
    folder = tmp_path_factory.mktemp("demo")
    for _ in demo.write_demo_data(demo.DemoData(train=40, validation=10, test=10), folder):
        pass
    return folder
