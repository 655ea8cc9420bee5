"""Our native vector environments as Stable-Baselines3 expects them."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from video_env.errors import InputError


class StableBaselinesVecEnv(VecEnv):
    """A Gymnasium vector environment as a Stable-Baselines3 ``VecEnv``.

    Batches go through as they are, with no loop over the environments; only those whose episode ended
    get an entry in ``infos``: ``terminal_observation``, ``TimeLimit.truncated``, ``episode`` with its
    return ``r``, length ``l`` and time ``t``, as Stable-Baselines3's ``Monitor`` writes it, and
    ``is_success``: whether the video was recognised (``info["correct"]``, where there is such).

    A ``VecEnv`` returns the next episode's first observation in the step that ends the last one. So do
    environments that reset in the same step, as ours. Of all others those that ended are reset here, by
    Gymnasium's ``reset(options={"reset_mask": ended})``, before a step could be wasted on them.

    Args:
        env: a vector environment that resets in the same step, or that knows ``reset_mask`` (of
            Gymnasium's ``SyncVectorEnv`` and ``AsyncVectorEnv`` any, whatever their ``AutoresetMode``).
        videos: ids, one for each of our environments, that every reset begins with; random by default.

    Raises:
        InputError: the environment does not say how it resets; or, when an episode first ends, it does not
            know ``reset_mask`` and has reset other environments too.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], videos: Sequence[str] | None = None) -> None:
        self.env = env
        self.videos = videos
        self.render_mode = env.render_mode
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise InputError(
                f"{env}: found autoreset_mode {mode!r} in its metadata, expected an AutoresetMode"
            )
        self._same_step = mode == AutoresetMode.SAME_STEP
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
        self._started = time.time()
        self._actions: np.ndarray | None = None

    def reset(self) -> Any:
        videos = [options["video"] for options in self._options if "video" in options] or self.videos
        if videos and len(videos) != self.num_envs:
            raise InputError(f"set_options: 'video' for {len(videos)} of {self.num_envs} environments")
        options = {"video": list(videos)} if videos else None
        observation, _ = self.env.reset(seed=self._seeds[0], options=options)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observation, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(done)
        if ended.size:
            last: Any = info["final_obs"] if self._same_step else observation
            correct = (info["final_info"] if self._same_step else info).get("correct")
            for index in ended:
                infos[index] = {
                    "terminal_observation": last[index] if self._same_step else _row(last, index),
                    "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                    "episode": {
                        "r": float(self._returns[index]),
                        "l": int(self._lengths[index]),
                        "t": time.time() - self._started,
                    },
                }
                if correct is not None:
                    infos[index]["is_success"] = bool(correct[index])
            if not self._same_step:
                observation = self._reset_ended(observation, done)
            self._returns[done], self._lengths[done] = 0, 0
        return observation, rewards.astype(np.float32), done, infos

    def _reset_ended(self, observation: Any, done: np.ndarray) -> Any:
        """The observations with those of fresh episodes where one has ended."""
        before = copy.deepcopy(_rows(observation, ~done))
        after, _ = self.env.reset(options={"reset_mask": done})
        if not data_equivalence(before, _rows(after, ~done)):
            raise InputError(
                f"{self.env}: resets in {self.env.metadata['autoreset_mode'].name} mode and does not know "
                "options['reset_mask']; expected one that does, or AutoresetMode.SAME_STEP"
            )
        return after

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.env.render() or [None] * self.num_envs)  # type: ignore[arg-type]

    def has_attr(self, attr_name: str) -> bool:
        return hasattr(self.env, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        if indices is not None:
            raise InputError(
                f"set_attr {attr_name}: found indices {indices}, expected none: all share one task"
            )
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Call a batched method of the vector environment; its result has one row per environment."""
        result = getattr(self.env, method_name)(*args, **options)
        return [result[index] for index in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        # Episode statistics are written here, as Monitor would.
        from stable_baselines3.common.monitor import Monitor

        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


def _rows(observation: Any, rows: np.ndarray) -> Any:
    """Some environments' part of a batch of observations, whose arrays may stand in a dict."""
    if isinstance(observation, dict):
        return {key: _rows(values, rows) for key, values in observation.items()}
    return observation[rows]


def _row(observation: Any, index: Any) -> Any:
    """A copy of one environment's observation, which outlives the batch."""
    return copy.deepcopy(_rows(observation, index))
