"""A trained method of one's own: the candidates that pay most on the training videos, by their place.

video-env compare CACHE --methods uniform learned-places oracle --out RUN --modules my_trained_method
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import video_env  # noqa: F401  (registers the environments)
from video_env.evaluation.protocols import Entry, LooksAt, Training
from video_env.evaluation.registry import Job, method
from video_env.files import write_array


@dataclass(frozen=True)
class LearnedPlacesSettings:
    """What can be set, here and on the command line.

    Attributes:
        num_frames: numbers of frames, one point on the curve each.
        episodes: rounds of training, one random candidate of every training video each.
    """

    num_frames: tuple[int, ...] = (1, 2, 4)
    episodes: int = 50


class LearnedPlaces:
    """A policy for FrameSelectOneStep-v0, the same for every video.

    Args:
        scores: float32 [T] in [-1, 1]; the environment takes the N highest.
    """

    gflops = 0.0
    looks_at: LooksAt = "nothing"

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Scores float32 [B, T]."""
        return np.broadcast_to(self.scores, observation["selected"].shape), state


def train_learned_places(job: Job, settings: LearnedPlacesSettings) -> None:
    """Learn the mean reward of each candidate alone, and keep it in ``job.folder``."""
    file = job.file("learned-places.npy")
    if file.is_file():  # an interrupted comparison goes on
        return
    begun, count = time.perf_counter(), job.cache.num_candidates
    environments = gym.make_vec(
        "FrameSelectOneStep-v0", num_envs=len(job.cache.rows("train")),
        vectorization_mode="vector_entry_point", cache=job.cache, split="train", num_frames=1,
        observation="index",
    )  # fmt: skip
    environments.reset(seed=job.seed)
    # Another stream than that of the environments, which draw the videos.
    draws, rewards, tries = np.random.default_rng([job.seed, 1]), np.zeros(count), np.zeros(count)
    for _ in range(settings.episodes):
        chosen = draws.integers(count, size=environments.num_envs)
        action = np.full((environments.num_envs, count), -1, np.float32)
        action[np.arange(environments.num_envs), chosen] = 1
        reward = environments.step(action)[1]
        rewards += np.bincount(chosen, reward, minlength=count)
        tries += np.bincount(chosen, minlength=count)
    means = rewards / np.maximum(tries, 1)
    write_array(file, np.append(means, time.perf_counter() - begun))


@method(
    "learned-places",
    about="the candidates that pay most alone, by their place",
    settings=LearnedPlacesSettings(),
    train=train_learned_places,
)
def learned_places(job: Job, settings: LearnedPlacesSettings) -> list[Entry]:
    """One entry for each number of frames, all of the one training."""
    *means, seconds = np.load(job.file("learned-places.npy")).tolist()
    order = np.argsort(np.argsort(means))
    scores = (2 * order / max(1, len(means) - 1) - 1).astype(np.float32)
    return [
        job.entry(
            {"num_frames": count},
            "FrameSelectOneStep-v0",
            LearnedPlaces(scores),
            options={"num_frames": count, "observation": "index"},
            training=Training(seconds=seconds, stages=1),
        )
        for count in settings.num_frames
    ]
