"""Stable-Baselines3 on the environments: PPO and MaskablePPO choose frames; PPO, RecurrentPPO and SAC choose
patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import nn
from tqdm import tqdm

import video_env  # noqa: F401  (registers the environments)
from baselines.features import CandidateFeatures, GlanceFeatures
from baselines.patches import patch_setting
from baselines.vec_env import StableBaselinesVecEnv
from video_env.cache.store import Cache
from video_env.envs.patch_select import GridPatchSelect
from video_env.errors import InputError, require_positive, require_seed
from video_env.evaluation.evaluate import LooksAt
from video_env.models.cost import counted_gflops
from video_env.models.device import resolve_device

AlgorithmName = Literal["ppo", "maskable-ppo", "patch-ppo", "patch-recurrent-ppo", "patch-sac"]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of Stable-Baselines3 and what it is trained on here.

    Attributes:
        kind: the class.
        environment: id.
        title: in tables and curves.
        looks_at: what its policy needs to have seen.
        recurrent: whether its policy is.
    """

    kind: type[BaseAlgorithm]
    environment: str
    title: str
    looks_at: LooksAt = "skim"
    recurrent: bool = False

    @property
    def of_patches(self) -> bool:
        """Whether it selects patches, not frames."""
        return self.looks_at == "glance"


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(PPO, "FrameSelectOneStep-v0", "PPO"),
    "maskable-ppo": Algorithm(MaskablePPO, "FrameSelect-v0", "MaskablePPO"),
    "patch-ppo": Algorithm(PPO, "PatchSelect-v0", "PPO, patches", "glance"),
    "patch-recurrent-ppo": Algorithm(
        RecurrentPPO, "PatchSelect-v0", "RecurrentPPO, patches", "glance", recurrent=True
    ),
    "patch-sac": Algorithm(SAC, "PatchSelectContinuous-v0", "SAC, patches", "glance"),
}


@dataclass(frozen=True)
class SB3Settings:
    """Settings of an algorithm and its training; the rest is Stable-Baselines3's default.

    Attributes:
        algorithm: ``ppo`` (N frames in one step), ``maskable-ppo`` (one frame after another),
            ``patch-ppo``, ``patch-recurrent-ppo`` (a patch in every frame) or ``patch-sac`` (at any point).
        num_frames: N, for ``ppo``.
        cost_per_gflop: λ, for the others.
        allow_exit: let the policy stop before the last frame, for patches.
        reward: by name; by default confidence for frames, contrast for patches, and increment for
            patches with stops.
        gamma: discount; by default 1, and 0.7 (as in AdaFocus) for patches without stops.
        steps: environment steps in all.
        num_envs: environments that run side by side.
        steps_per_env: of each in a rollout (of SAC: gradient steps after each step of all environments).
        batch_size: transitions per gradient step.
        epochs: passes over a rollout; not of SAC.
        learning_rate: Adam's.
        entropy: weight of the entropy bonus; of SAC, which learns it, the first one.
        seed: decides the initial weights and every draw.
    """

    algorithm: AlgorithmName = "ppo"
    num_frames: int = 2
    cost_per_gflop: float = 0.0
    allow_exit: bool = False
    reward: str | None = None
    gamma: float | None = None
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
        sac = self.algorithm == "patch-sac"
        if not (self.entropy > 0 if sac else self.entropy >= 0):
            raise InputError(
                f"entropy: found {self.entropy}, expected {'more than' if sac else 'at least'} 0"
            )
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise InputError(f"gamma: found {self.gamma}, expected 0 to 1")
        if self.allow_exit and not ALGORITHMS[self.algorithm].of_patches:
            raise InputError(f"allow_exit: {self.algorithm} selects frames; it is for patches")

    def environment_options(self) -> dict[str, Any]:
        """What the environment is made with, without cache and split."""
        patches = ALGORITHMS[self.algorithm].of_patches
        reward = ("increment" if self.allow_exit else "contrast") if patches else "confidence"
        options: dict[str, Any] = {"reward": self.reward or reward, "observation": "index"}
        if self.algorithm == "ppo":
            return {"num_frames": self.num_frames, **options}
        options["cost_per_gflop"] = self.cost_per_gflop
        return {"allow_exit": self.allow_exit, **options} if patches else options

    def discount(self) -> float:
        """γ, with its default resolved."""
        patches = ALGORITHMS[self.algorithm].of_patches
        return (0.7 if patches and not self.allow_exit else 1.0) if self.gamma is None else self.gamma

    def setting(self, cache: Cache) -> str:
        """The point on its method's curve, as tables name it."""
        cost = f"λ = {self.cost_per_gflop:g}"
        if not ALGORITHMS[self.algorithm].of_patches:
            return f"N = {self.num_frames}" if self.algorithm == "ppo" else cost
        return f"{patch_setting(cache)}, {cost}" if self.allow_exit else patch_setting(cache)


def train_sb3(
    cache: Cache, settings: SB3Settings, *, device: str = "auto", log_folder: Path | None = None
) -> BaseAlgorithm:
    """Train an algorithm on the cache's training videos; save it with its own ``save``."""
    algorithm = ALGORITHMS[settings.algorithm]
    env = gym.make_vec(
        algorithm.environment, num_envs=settings.num_envs, vectorization_mode="vector_entry_point",
        cache=cache, split="train", **settings.environment_options(),
    )  # fmt: skip
    shared: dict[str, Any] = {
        "batch_size": settings.batch_size, "learning_rate": settings.learning_rate,
        "gamma": settings.discount(), "policy_kwargs": _policy_options(cache, settings.algorithm),
        "device": resolve_device(device), "seed": settings.seed,
    }  # fmt: skip
    policy = "MultiInputLstmPolicy" if algorithm.recurrent else "MultiInputPolicy"
    if algorithm.kind is SAC:
        # Twenty rounds of transitions before learning begins.
        model: BaseAlgorithm = SAC(
            policy, StableBaselinesVecEnv(env), gradient_steps=settings.steps_per_env, buffer_size=100_000,
            ent_coef=f"auto_{settings.entropy}", learning_starts=20 * settings.num_envs, **shared,
        )  # fmt: skip
    else:
        model = algorithm.kind(
            policy, StableBaselinesVecEnv(env), n_steps=settings.steps_per_env,  # type: ignore[call-arg]
            n_epochs=settings.epochs, ent_coef=settings.entropy, **shared,
        )  # fmt: skip
    if log_folder is not None:
        model.set_logger(configure(str(log_folder), ["csv", "tensorboard"]))
    name = f"{algorithm.title}, {settings.setting(cache)}"
    model.learn(settings.steps, callback=_Progress(settings.steps, name))
    return model


class SB3Policy:
    """A trained Stable-Baselines3 model with what the evaluation needs to know of it.

    Args:
        model: any of its algorithms, trained on one of our environments.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model
        seen = model.observation_space.spaces  # type: ignore[attr-defined]
        self.looks_at: LooksAt = "glance" if "state" in seen else "skim"
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
        model = ALGORITHMS[algorithm].kind.load(
            path, device=resolve_device(device),
            custom_objects={"policy_kwargs": _policy_options(cache, algorithm)},
        )  # fmt: skip
    except InputError:
        raise
    except Exception as error:  # many kinds, for a file that is no model or one of other sizes
        raise InputError(
            f"model {path}: cannot be read as {algorithm} for cache {cache.path} ({error})"
        ) from error
    spaces = model.observation_space.spaces  # type: ignore[attr-defined]
    patches = ALGORITHMS[algorithm].of_patches
    trained = int(spaces["frame"].high[0]) if patches else spaces["selected"].shape[0]
    if trained != cache.num_candidates:
        raise InputError(
            f"model {path}: trained on {trained} candidate frames, cache {cache.path} has "
            f"{cache.num_candidates}"
        )
    if patches:
        task = GridPatchSelect(cache, cache.index["split"].iloc[0], "increment", observation="index")
        found, expected = spaces["state"].shape, task.observation_space["state"].shape
        actions = getattr(model.action_space, "n", task.num_positions)
        if found != expected or actions not in (task.num_positions, task.num_positions + 1):
            raise InputError(
                f"model {path}: trained on a classifier's state of {found} and {actions} actions, cache "
                f"{cache.path} has {expected} and {task.num_positions} positions"
            )
    return model


def _policy_options(cache: Cache, algorithm: AlgorithmName) -> dict[str, Any]:
    patches = ALGORITHMS[algorithm].of_patches
    return {
        "features_extractor_class": GlanceFeatures if patches else CandidateFeatures,
        "features_extractor_kwargs": {"cache": str(cache.path)},
        "net_arch": [64],
        "activation_fn": nn.ReLU,
        **({"lstm_hidden_size": 128} if ALGORITHMS[algorithm].recurrent else {}),
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
