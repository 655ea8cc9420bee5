"""Stable-Baselines3's algorithms on the environments: which can act where, how they are built and act."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from sb3_contrib import QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

import video_env  # noqa: F401  (registers the environments)
from baselines.tuned import Tuned, read_tuned
from baselines.vec_env import StableBaselinesVecEnv
from video_env.cache.in_memory import CacheInMemory
from video_env.cache.store import Cache
from video_env.envs.costs import gflops_of_all_frames, gflops_of_all_patches, relative_cost
from video_env.errors import InputError, require_choice, require_positive, require_seed, require_unused
from video_env.evaluation.patch_sizes import patch_setting
from video_env.evaluation.protocols import LooksAt
from video_env.models.candidate_networks import NETWORKS, NetworkName
from video_env.models.cost import counted_gflops
from video_env.models.device import resolve_device

AlgorithmName = Literal[
    "ppo", "a2c", "dqn", "qr-dqn", "trpo", "maskable-ppo", "recurrent-ppo", "sac", "td3"
]  # fmt: skip
EnvironmentName = Literal[
    "FrameSelectOneStep-v0", "FrameSelect-v0", "PatchSelect-v0", "PatchSelectContinuous-v0"
]  # fmt: skip

ONE_STEP, SEQUENTIAL, PATCHES, ANY_POINT = get_args(EnvironmentName)
_SUFFIX = {ONE_STEP: ", one step", SEQUENTIAL: ", sequential", PATCHES: ", patches", ANY_POINT: ", any point"}


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of Stable-Baselines3 and where it can act.

    Attributes:
        kind: the class.
        title: in tables and curves.
        tuned: name of the file of its tuned settings, RL Zoo's name for the algorithm.
        environments: ids of those whose actions it supports; the first is its own choice.
    """

    kind: type[BaseAlgorithm]
    title: str
    tuned: str
    environments: tuple[str, ...]


_ANY_ACTION = (ONE_STEP, SEQUENTIAL, PATCHES, ANY_POINT)
_DISCRETE = (SEQUENTIAL, PATCHES)
_BOX = (ONE_STEP, ANY_POINT)

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(PPO, "PPO", "ppo", _ANY_ACTION),
    "a2c": Algorithm(A2C, "A2C", "a2c", _ANY_ACTION),
    "dqn": Algorithm(DQN, "DQN", "dqn", _DISCRETE),
    "qr-dqn": Algorithm(QRDQN, "QR-DQN", "qrdqn", _DISCRETE),
    "trpo": Algorithm(TRPO, "TRPO", "trpo", _ANY_ACTION),
    # The only environment with actions to mask.
    "maskable-ppo": Algorithm(MaskablePPO, "MaskablePPO", "maskable_ppo", (SEQUENTIAL,)),
    # One step leaves nothing to remember.
    "recurrent-ppo": Algorithm(RecurrentPPO, "RecurrentPPO", "ppo_lstm", (SEQUENTIAL, PATCHES, ANY_POINT)),
    "sac": Algorithm(SAC, "SAC", "sac", _BOX),
    "td3": Algorithm(TD3, "TD3", "td3", _BOX),
}


@dataclass(frozen=True)
class SB3Settings:
    """Settings of an algorithm and its training; the rest is tuned (``baselines/hyperparameters``) or
    Stable-Baselines3's default.

    Attributes:
        algorithm: by name.
        environment: id; by default the algorithm's own first choice: FrameSelectOneStep-v0 (N frames at
            once) for ppo, a2c, trpo, sac and td3, FrameSelect-v0 (one frame after another) for the others.
        num_frames: N, in FrameSelectOneStep-v0.
        cost_per_gflop: λ, in the other environments; 0 where neither form of it is given.
        cost_of_all_frames: λ in the other form: the share of quality that all frames together may cost.
        allow_exit: let the policy stop before the last frame, for patches.
        reward: by name; by default confidence for frames, contrast for patches, and increment for
            patches with stops.
        network: by which the candidate frames are seen beside each other (``models.candidate_networks``), for
            frames; tuned by default.
        steps: most environment steps; tuned by default.
        num_envs: environments that run side by side; tuned by default.
        hyperparameters: arguments of the algorithm, such as learning_rate, instead of the tuned ones.
        evaluate_every: environment steps between evaluations on the validation split (all its videos, or
            1000 of them), by Stable-Baselines3's EvalCallback, which logs the mean return, and keeps all
            returns as evaluations.npz in the log folder. The model with the best mean return stays. By
            default a fiftieth of ``steps``; 0 for none: a fixed length, as where the cache has no validation
            split.
        patience: evaluations without a better mean return that end the training; none counts while the policy
            is no better than a guess. 0 for a fixed length, of which the best model stays.
        min_evaluations: the first evaluations, which count in no case.
        seconds: most seconds of training; 0 for no limit. With one the result depends on the machine.
        seed: decides the initial weights and every draw.
    """

    algorithm: AlgorithmName = "ppo"
    environment: EnvironmentName | None = None
    num_frames: int = 2
    cost_per_gflop: float = 0.0
    cost_of_all_frames: float | None = None
    allow_exit: bool = False
    reward: str | None = None
    network: NetworkName | None = None
    steps: int | None = None
    num_envs: int | None = None
    hyperparameters: dict[str, bool | int | float | str] = field(default_factory=dict)
    evaluate_every: int | None = None
    patience: int = 10
    min_evaluations: int = 5
    seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("algorithm", self.algorithm, tuple(ALGORITHMS))
        if self.environment is not None:
            require_choice(
                f"environment of {self.algorithm}", self.environment, ALGORITHMS[self.algorithm].environments
            )
        given = [name for name in ("steps", "num_envs") if getattr(self, name) is not None]
        require_positive(self, "num_frames", *given)
        require_seed(self.seed)
        for name in ("evaluate_every", "patience", "min_evaluations", "seconds"):
            if not 0 <= (getattr(self, name) or 0) < np.inf:
                raise InputError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if self.evaluate_every == 0:
            require_unused(self, "patience", "min_evaluations", "seconds", because="evaluate_every 0")
        if self.environment_id == ONE_STEP:
            fixed = f"{ONE_STEP}, where N is fixed"
            require_unused(self, "cost_per_gflop", "cost_of_all_frames", because=fixed)
        else:
            require_unused(
                self, "num_frames", because=f"{self.environment_id}, whose policy chooses how many"
            )
        if self.cost_of_all_frames is not None:
            require_unused(self, "cost_per_gflop", because="cost_of_all_frames, which is λ too")
            if not 0 <= self.cost_of_all_frames < np.inf:
                found = self.cost_of_all_frames
                raise InputError(f"cost_of_all_frames: found {found}, expected a number of at least 0")
        if self.allow_exit and not self.of_patches:
            raise InputError(
                f"allow_exit: {self.algorithm} selects frames in {self.environment_id}; it is for patches"
            )
        if self.network is not None:
            require_choice("network", self.network, NETWORKS)
        if self.of_patches:
            require_unused(self, "network", because=f"{self.environment_id}; it is for frames")
        self._check_hyperparameters()

    def _check_hyperparameters(self) -> None:
        for name, value in self.hyperparameters.items():
            require_choice(f"hyperparameter of {self.algorithm}", name, hyperparameter_names(self.algorithm))
            if name == "learning_rate" and not (isinstance(value, int | float) and 0 < value < np.inf):
                raise InputError(f"learning_rate: found {value}, expected a number above 0")
            if name == "gamma" and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise InputError(f"gamma: found {value}, expected 0 to 1")

    @property
    def environment_id(self) -> str:
        """The environment, with its default resolved."""
        return self.environment or ALGORITHMS[self.algorithm].environments[0]

    @property
    def of_patches(self) -> bool:
        """Whether patches are selected, not frames."""
        return self.environment_id in (PATCHES, ANY_POINT)

    def all_frames_gflops(self, cache: Cache) -> float:
        """What all frames of a video spend in the environment."""
        return gflops_of_all_patches(cache) if self.of_patches else gflops_of_all_frames(cache)

    def environment_options(self, cache: Cache) -> dict[str, Any]:
        """What the environment is made with, without cache and split."""
        reward = ("increment" if self.allow_exit else "contrast") if self.of_patches else "confidence"
        options: dict[str, Any] = {"reward": self.reward or reward, "observation": "index"}
        if self.environment_id == ONE_STEP:
            return {"num_frames": self.num_frames, **options}
        share = self.cost_of_all_frames
        options["cost_per_gflop"] = (
            self.cost_per_gflop if share is None else relative_cost(share, self.all_frames_gflops(cache))
        )
        return {"allow_exit": self.allow_exit, **options} if self.of_patches else options

    def tuned(self) -> Tuned:
        """The tuned settings, with what is set here instead."""
        tuned = read_tuned(ALGORITHMS[self.algorithm].tuned, self.environment_id)
        # With stops the rewards are increments, which have to sum up to the whole aim.
        own = {"gamma": 1.0} if self.allow_exit else {}
        return replace(
            tuned,
            num_envs=self.num_envs or tuned.num_envs,
            steps=self.steps or tuned.steps,
            policy_options=tuned.policy_options | ({"network": self.network} if self.network else {}),
            arguments=tuned.arguments | own | self.hyperparameters,
        )

    def title(self) -> str:
        """The method, as tables name it."""
        algorithm = ALGORITHMS[self.algorithm]
        suffix = "" if self.environment_id == algorithm.environments[0] else _SUFFIX[self.environment_id]
        return algorithm.title + suffix + (", exit" if self.allow_exit else "")

    def method(self) -> str:
        """The method's id in tables."""
        kind = (PATCHES, ANY_POINT) if self.of_patches else (ONE_STEP, SEQUENTIAL)
        first = next(one for one in ALGORITHMS[self.algorithm].environments if one in kind)
        name = f"patch-{self.algorithm}" if self.of_patches else self.algorithm
        suffix = "" if self.environment_id == first else _SUFFIX[self.environment_id].replace(" ", "-")[1:]
        return name + suffix.replace(",", "-") + ("-exit" if self.allow_exit else "")

    def setting(self, cache: Cache) -> dict[str, float]:
        """The point on its method's curve."""
        if self.environment_id == ONE_STEP:
            return {"num_frames": self.num_frames}
        share = self.cost_of_all_frames
        cost = {"cost_per_gflop": self.cost_per_gflop} if share is None else {"cost_of_all_frames": share}
        if not self.of_patches:
            return cost
        return {**patch_setting(cache), **(cost if self.allow_exit else {})}


def hyperparameter_names(algorithm: str) -> tuple[str, ...]:
    """The algorithm's arguments that can be set by value: numbers, switches and words."""
    parameters = inspect.signature(ALGORITHMS[algorithm].kind.__init__).parameters.values()
    elsewhere = {"seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}
    plain = [
        each.name
        for each in parameters
        if isinstance(each.default, bool | int | float | str) and each.name not in elsewhere
    ]
    optional = ["target_kl", "clip_range_vf", "max_grad_norm", "noise_std"]
    there = {each.name for each in parameters} | ({"noise_std"} if algorithm == "td3" else set())
    return tuple(sorted({*plain, *(name for name in optional if name in there)}))


def build(
    cache: Cache,
    settings: SB3Settings,
    tuned: Tuned,
    device: str,
    env: StableBaselinesVecEnv,
    *,
    to_train: bool = True,
) -> BaseAlgorithm:
    """The algorithm with fresh weights on environments: to be trained; or to take a saved model's weights and
    act, for which one environment will do.

    Raises:
        InputError: a hyperparameter's value is refused.
    """
    arguments, kind = dict(tuned.arguments), ALGORITHMS[settings.algorithm].kind
    on, options = resolve_device(device), _on(cache, tuned.policy_options)
    try:
        arguments |= _action_noise(arguments, env.action_space)
        if to_train:
            return kind(tuned.policy, env, device=on, seed=settings.seed, policy_kwargs=options, **arguments)
        # As Stable-Baselines3's own load does it: batches need not fit the number of environments.
        model = kind(  # type: ignore[call-arg]
            tuned.policy, None, device=on, policy_kwargs=options, **arguments, _init_setup_model=False
        )
        model.env, model.n_envs = env, env.num_envs
        model.observation_space, model.action_space = env.observation_space, env.action_space
        model._setup_model()
    except (AssertionError, TypeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        raise InputError(
            f"hyperparameters {arguments}: {settings.algorithm} refuses them ({error})"
        ) from error
    return model


def _action_noise(arguments: dict[str, Any], space: gym.Space[Any]) -> dict[str, Any]:
    """The noise that ``noise_type`` and ``noise_std`` stand for, which are taken out of the arguments."""
    if not arguments.pop("noise_type", None):
        return {}
    shape: tuple[int, ...] = space.shape or ()
    deviation = np.full(shape, float(arguments.pop("noise_std")))
    return {"action_noise": NormalActionNoise(np.zeros(shape), deviation)}


def make_environments(
    cache: Cache, settings: SB3Settings, split: str, num_envs: int, videos: list[str] | None = None
) -> StableBaselinesVecEnv:
    """So many environments of a split side by side; with these videos first, by their ids."""
    env = gym.make_vec(
        settings.environment_id, num_envs=num_envs, vectorization_mode="vector_entry_point",
        cache=cache, split=split, **settings.environment_options(cache),
    )  # fmt: skip
    return StableBaselinesVecEnv(env, videos)


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


def _on(cache: Cache, policy_options: dict[str, Any]) -> dict[str, Any]:
    """The policy's arguments, its features from this cache."""
    extractor = policy_options.get("features_extractor_kwargs") or {}
    own = cache if isinstance(cache, CacheInMemory) else str(cache.path)
    return {**policy_options, "features_extractor_kwargs": {**extractor, "cache": own}}


def _policy_gflops(model: BaseAlgorithm) -> float:
    """Counted cost of one decision: whatever the model's ``predict`` runs."""
    observation = {
        key: np.zeros(space.shape, space.dtype)
        for key, space in model.observation_space.spaces.items()  # type: ignore[attr-defined]
    }
    with counted_gflops() as gflops:
        model.predict(observation, deterministic=True)
    return gflops()
