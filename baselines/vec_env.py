"""Our native vector environments as Stable-Baselines3 expects them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from video_env.errors import InputError


class StableBaselinesVecEnv(VecEnv):
    """A Gymnasium vector environment as a Stable-Baselines3 ``VecEnv``.

    Batches go through as they are, with no loop over the environments; only those whose episode ended
    get an entry in ``infos``: ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` with
    its return ``r``, length ``l`` and time ``t``, as Stable-Baselines3's ``Monitor`` writes it.

    Args:
        env: a vector environment that resets in the same step (as ours do) or in the next one.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.env = env
        self.render_mode = env.render_mode
        self._same_step = env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
        if not self._same_step:
            raise InputError(f"{env}: expected an environment whose autoreset_mode is SAME_STEP")
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
        self._started = time.time()
        self._actions: np.ndarray | None = None

    def reset(self) -> Any:
        videos = [options["video"] for options in self._options if "video" in options]
        if videos and len(videos) != self.num_envs:
            raise InputError(f"set_options: 'video' for {len(videos)} of {self.num_envs} environments")
        observation, _ = self.env.reset(seed=self._seeds[0], options={"video": videos} if videos else None)
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
        for index in np.flatnonzero(done):
            infos[index] = {
                "terminal_observation": info["final_obs"][index],
                "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                "episode": {
                    "r": float(self._returns[index]),
                    "l": int(self._lengths[index]),
                    "t": time.time() - self._started,
                },
            }
        self._returns[done], self._lengths[done] = 0, 0
        return observation, rewards.astype(np.float32), done, infos

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
