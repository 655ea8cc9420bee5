"""Stable-Baselines3 on the frame-selection environments: PPO in one step, MaskablePPO in sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import nn
from tqdm import tqdm

import video_env  # noqa: F401  (registers the environments)
from baselines.features import CandidateFeatures
from baselines.vec_env import StableBaselinesVecEnv
from video_env.cache.store import Cache
from video_env.errors import InputError, require_positive, require_seed
from video_env.evaluation.evaluate import LooksAt
from video_env.models.cost import counted_gflops
from video_env.models.device import resolve_device

AlgorithmName = Literal["ppo", "maskable-ppo"]

ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str]] = {
    "ppo": (PPO, "FrameSelectOneStep-v0"),
    "maskable-ppo": (MaskablePPO, "FrameSelect-v0"),
}
"""By name: the class, and the environment it is trained on here."""


@dataclass(frozen=True)
class SB3Settings:
    """Settings of an algorithm and its training; the rest is Stable-Baselines3's default.

    Attributes:
        algorithm: ``ppo`` (one step, N frames) or ``maskable-ppo`` (one frame after another).
        num_frames: N, for ``ppo``.
        cost_per_gflop: λ, for ``maskable-ppo``.
        reward: quality by name.
        steps: environment steps in all.
        num_envs: environments that run side by side.
        steps_per_env: of each in a rollout.
        batch_size: transitions per gradient step.
        epochs: passes over a rollout.
        learning_rate: Adam's.
        entropy: weight of the entropy bonus.
        seed: decides the initial weights and every draw.
    """

    algorithm: AlgorithmName = "ppo"
    num_frames: int = 2
    cost_per_gflop: float = 0.0
    reward: str = "confidence"
    steps: int = 150_000
    num_envs: int = 256
    steps_per_env: int = 8
    batch_size: int = 512
    epochs: int = 6
    learning_rate: float = 2e-3
    entropy: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InputError(f"algorithm {self.algorithm!r}: expected one of {', '.join(ALGORITHMS)}")
        require_positive(
            self, "num_frames", "steps", "num_envs", "steps_per_env", "batch_size", "epochs", "learning_rate"
        )
        require_seed(self.seed)
        if self.batch_size < 2 or self.num_envs * self.steps_per_env < 2:
            raise InputError("batch_size and num_envs · steps_per_env: expected at least 2 each")

    def environment_options(self) -> dict[str, Any]:
        """What the environment is made with, without cache and split."""
        if self.algorithm == "ppo":
            return {"num_frames": self.num_frames, "reward": self.reward, "observation": "index"}
        return {"cost_per_gflop": self.cost_per_gflop, "reward": self.reward, "observation": "index"}


def train_sb3(
    cache: Cache, settings: SB3Settings, *, device: str = "auto", log_folder: Path | None = None
) -> BaseAlgorithm:
    """Train an algorithm on the cache's training videos; save it with its own ``save``."""
    algorithm, environment = ALGORITHMS[settings.algorithm]
    env = gym.make_vec(
        environment, num_envs=settings.num_envs, vectorization_mode="vector_entry_point", cache=cache,
        split="train", **settings.environment_options(),
    )  # fmt: skip
    model = algorithm(
        "MultiInputPolicy",
        StableBaselinesVecEnv(env),
        n_steps=settings.steps_per_env,  # type: ignore[call-arg]
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        ent_coef=settings.entropy,
        gamma=1.0,
        policy_kwargs=_policy_options(cache),
        device=resolve_device(device),
        seed=settings.seed,
    )
    if log_folder is not None:
        model.set_logger(configure(str(log_folder), ["csv", "tensorboard"]))
    name = f"{settings.algorithm}, " + (
        f"N = {settings.num_frames}" if settings.algorithm == "ppo" else f"λ = {settings.cost_per_gflop:g}"
    )
    model.learn(settings.steps, callback=_Progress(settings.steps, name))
    return model


class SB3Policy:
    """A trained Stable-Baselines3 model with what the evaluation needs to know of it.

    Args:
        model: any of its algorithms, trained on a frame-selection environment.
    """

    looks_at: LooksAt = "skim"

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model
        self.gflops = _policy_gflops(model)
        self._takes_masks = isinstance(model, MaskablePPO)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """The model's own ``predict``; masks are passed on where it takes them."""
        masks = {"action_masks": action_masks} if self._takes_masks else {}
        return self.model.predict(observation, state, episode_start, deterministic, **masks)


def load_sb3(algorithm: AlgorithmName, path: Path, cache: Cache, device: str = "auto") -> BaseAlgorithm:
    """Read a saved model; its features come from this cache.

    Raises:
        InputError: the file is missing, no such model, or trained on a cache of another shape.
    """
    if not path.is_file():
        raise InputError(f"model {path}: no such file")
    try:
        model = ALGORITHMS[algorithm][0].load(
            path, device=resolve_device(device), custom_objects={"policy_kwargs": _policy_options(cache)}
        )
    except InputError:
        raise
    except Exception as error:  # many kinds, for a file that is no model or one of other sizes
        raise InputError(
            f"model {path}: cannot be read as {algorithm} for cache {cache.path} ({error})"
        ) from error
    candidates = model.observation_space["selected"].shape  # type: ignore[index]
    if candidates != (cache.num_candidates,):
        raise InputError(
            f"model {path}: trained on {candidates[0]} candidate frames, cache {cache.path} has "
            f"{cache.num_candidates}"
        )
    return model


def _policy_options(cache: Cache) -> dict[str, Any]:
    return {
        "features_extractor_class": CandidateFeatures,
        "features_extractor_kwargs": {"cache": str(cache.path)},
        "net_arch": [64],
        "activation_fn": nn.ReLU,
    }


def _policy_gflops(model: BaseAlgorithm) -> float:
    """Counted cost of one decision: whatever the model's ``predict`` runs."""
    observation = {
        key: np.zeros(space.shape, space.dtype)
        for key, space in model.observation_space.spaces.items()  # type: ignore[attr-defined]
    }
    with counted_gflops() as gflops:
        model.predict(observation, deterministic=True)
    return gflops()


class _Progress(BaseCallback):
    """A progress bar in environment steps, with the mean return."""

    def __init__(self, steps: int, name: str) -> None:
        super().__init__()
        self._bar = tqdm(total=steps, desc=name, unit="step", mininterval=1)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.n = min(self.num_timesteps, self._bar.total)
        if self.model.ep_info_buffer:
            mean = np.mean([episode["r"] for episode in self.model.ep_info_buffer])
            self._bar.set_postfix({"return": f"{mean:.3f}"}, refresh=False)
        self._bar.update(0)

    def _on_training_end(self) -> None:
        self._bar.close()
