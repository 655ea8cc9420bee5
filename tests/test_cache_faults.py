"""Each command that writes a cache, ended at each of its file events, then run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_cache
from tests.faults import Case, faults
from video_env.cache import build
from video_env.cache.build import build_cache
from video_env.cache.changes import add_arrays, remove
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import derive, extract
from video_env.cache.store import Cache, CacheError
from video_env.data.annotations import Annotations
from video_env.models.train_backbone import BackboneTraining, SkimTraining
from video_env.models.train_recognizer import RecognizerTraining, train_recognizer
from video_env.models.train_small import SmallTraining, train_small_networks

SETTINGS = BuildSettings(num_candidates=3, frame_size=8, shard_size=2)
TRAINING = RecognizerTraining(hidden=8, epochs=1, least_steps=1, batch_size=8)
SMALL_TRAINING = SmallTraining(
    backbone=BackboneTraining(epochs=1, least_steps=1, batch_size=8),
    skim=SkimTraining(epochs=1, least_steps=1, batch_size=8),
)
VIDEOS = 5


class Frames:
    """In place of a decoded video."""

    def __init__(self, number: int) -> None:
        generator = np.random.default_rng(number)
        self.frames = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
        self.frame_indices = np.arange(3)
        self.timestamps_seconds = np.arange(3) / 10
        self.num_frames, self.frames_per_second = 3, 10.0


class Mean:
    gflops = 0.001
    source = {"network": "mean"}

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        return clips.mean(axis=(2, 3)).astype(np.float16)


def decoded(
    annotations: Annotations, shards: list[pd.DataFrame], pending: list[int], settings: BuildSettings
) -> Iterator[tuple[int, Iterator[tuple[dict[str, Any], Any]]]]:
    """In place of decoding: known frames, and one video that fails."""
    for number in pending:
        rows = shards[number].to_dict("records")
        yield (
            number,
            iter([(row, "damaged" if row["video"] == "3" else Frames(int(row["video"]))) for row in rows]),
        )


def build_known(folder: Path) -> None:
    build.decoded_shards = decoded  # type: ignore[assignment]
    names = [str(number) for number in range(VIDEOS)]
    table = pd.DataFrame({"video": names, "path": names, "label": 0, "split": "train"})
    build_cache(Annotations(table, ("a",), folder), folder / "cache", SETTINGS, {"mean": Mean()})


def nothing(folder: Path) -> None:
    pass


def usable(folder: Path) -> None:
    """What an ended change leaves is a whole cache."""
    assert len(list(Cache(folder / "cache").verify())) >= 5


def small_cache(folder: Path) -> None:
    write_cache(folder / "cache", num_candidates=3, videos=24)


def without_recognizer(folder: Path) -> None:
    small_cache(folder)
    remove(Cache(folder / "cache"), ("subset_confidence", "subset_prediction"), ("recognizer",))


def train(folder: Path) -> None:
    train_recognizer(Cache(folder / "cache"), TRAINING, "cpu")


def train_anew(folder: Path) -> None:
    """Unless a call was ended when all was done: another one would train again, as it is told to."""
    cache = Cache(folder / "cache")
    record = cache.meta["training"].get("recognizer") or {}
    if record.get("seed") != 1 or unfinished(folder / "cache"):
        train_recognizer(cache, replace(TRAINING, seed=1), "cpu", overwrite=True)


def unfinished(cache: Path) -> bool:
    return any(file.is_file() for file in (cache / ".unfinished").rglob("*"))


def has_verdicts(folder: Path) -> None:
    """The old recognizer with its verdicts or the new one with its own, never a mixture."""
    usable(folder)
    cache = Cache(folder / "cache")
    source = cache.meta["arrays"]["subset_confidence"]["source"]["recognizer"]
    assert source == cache.meta["networks"]["recognizer.safetensors"]


def add_double(folder: Path) -> None:
    cache = Cache(folder / "cache")
    with suppress(CacheError):  # where a call was ended when all was done
        add_arrays(
            cache, ("double",), lambda rows: {"double": 2 * cache["skim"][rows]}, source={"from": "skim"}
        )


def take_out(folder: Path) -> None:
    remove(Cache(folder / "cache"), ("skim", "frames"), ("recognizer",))


def derive_one(folder: Path) -> None:
    derive(Cache(folder / "cache"), folder / "derived", ["skim", "frames"], networks=True)


def extract_one(folder: Path) -> None:
    if not (folder / "small" / "meta.json").exists() or unfinished(folder / "small"):
        extract(Cache(folder / "cache"), folder / "small", {"train": 3, "test": 2}, shard_size=2)


def frames_alone(folder: Path) -> None:
    small_cache(folder)
    tables = ("subset_confidence", "subset_prediction")
    remove(Cache(folder / "cache"), ("embedding", "skim", *tables), ("recognizer",))


def train_small(folder: Path) -> None:
    train_small_networks(Cache(folder / "cache"), SMALL_TRAINING, "cpu")


BUILD = Case(nothing, build_known)
RECOGNIZER = Case(without_recognizer, train, usable)
RECOGNIZER_ANEW = Case(small_cache, train_anew, has_verdicts)
ADD = Case(small_cache, add_double, usable)
REMOVE = Case(small_cache, take_out, usable)
DERIVE = Case(small_cache, derive_one, usable)
EXTRACT = Case(small_cache, extract_one, usable)
SMALL = Case(frames_alone, train_small, usable)
CASES = ["BUILD", "SMALL", "RECOGNIZER", "RECOGNIZER_ANEW", "ADD", "REMOVE", "DERIVE", "EXTRACT"]


@pytest.mark.parametrize("name", CASES)
def test_ended_at_some_events(tmp_path: Path, name: str) -> None:
    report = faults(f"tests.test_cache_faults:{name}", tmp_path, sample=4)
    assert report["tried"] == 4
    assert report["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ended_at_every_event(tmp_path: Path, name: str) -> None:
    report = faults(f"tests.test_cache_faults:{name}", tmp_path)
    assert report["tried"] == 2 * report["events"] > 40
    assert report["wrong"] == []
