"""One dynamics, two views: a task's pure, batch-first functions as a single or a vector environment.

A *task* knows spaces and dynamics for a whole batch of episodes at once: state in, state out, and no
randomness but in which video is drawn, which is the views' business. ``TaskEnv`` is a batch of one,
``TaskVectorEnv`` a batch of ``num_envs``; neither holds a rule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from video_env.cache.store import Cache
from video_env.errors import InputError


@dataclass
class EpisodeState:
    """A batch of episodes; every field is an array whose first dimension is the batch.

    No field is written to once its state is returned, so observations and infos may share it.

    Attributes:
        video: int64 [B], position of the episode's video within the split.
    """

    video: np.ndarray


State = TypeVar("State", bound=EpisodeState)
Arrays = dict[str, np.ndarray]


class Task(Protocol[State]):
    """What the views need. ``B`` is the batch; arrays returned are new or not to be written to."""

    cache: Cache
    rows: np.ndarray
    observation_space: gym.spaces.Dict
    action_space: gym.Space

    def begin(self, video: np.ndarray) -> State:
        """Fresh episodes on these videos (positions within the split), int64 [B]."""

    def step(self, state: State, action: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """The state after the actions, the rewards float64 [B], and which episodes ended, bool [B]."""

    def observe(self, state: State) -> Arrays:
        """The observations, each [B, ...]."""

    def describe(self, state: State) -> Arrays:
        """What ``info`` holds, each [B, ...]."""

    def render(self, state: State, episode: int) -> np.ndarray:
        """A picture of one episode, uint8 [H, W, 3]."""


class _View(Generic[State]):
    """What both views share: drawing videos and rendering."""

    task: Task[State]
    state: State | None = None

    def _draw(self, generator: np.random.Generator, count: int, options: dict[str, Any] | None) -> np.ndarray:
        """Positions within the split: the videos asked for, or random ones."""
        chosen = (options or {}).get("video")
        if chosen is None:
            return generator.integers(len(self.task.rows), size=count)
        names = [chosen] * count if isinstance(chosen, str) else list(chosen)
        if len(names) != count:
            raise InputError(f"options['video']: found {len(names)} videos, expected 1 or {count}")
        rows = np.array([self.task.cache.row(name) for name in names])
        positions = np.searchsorted(self.task.rows, rows)
        inside = (positions < len(self.task.rows)) & np.isin(rows, self.task.rows)
        if not inside.all():
            stray = names[int((~inside).argmax())]
            raise InputError(f"options['video']: {stray!r} is not in this environment's split")
        return positions

    def _picture(self, episode: int) -> np.ndarray:
        if self.state is None:
            raise gym.error.ResetNeeded("call reset before render")
        return self.task.render(self.state, episode)


def check_render_mode(render_mode: str | None) -> str | None:
    """Raise InputError for a render mode that the environments do not have."""
    if render_mode not in (None, "rgb_array"):
        raise InputError(f"render_mode {render_mode!r}: expected None or 'rgb_array'")
    return render_mode


class TaskEnv(_View[State], gym.Env[Arrays, Any]):
    """A task as a single environment."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, task: Task[State], render_mode: str | None = None) -> None:
        self.task = task
        self.render_mode = check_render_mode(render_mode)
        self.observation_space = task.observation_space
        self.action_space = task.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.task.begin(self._draw(self.np_random, 1, options))
        return self._first(self.task.observe(self.state)), self._info()

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        if self.state is None:
            raise gym.error.ResetNeeded("call reset before step")
        _require_valid(self.action_space, action)
        self.state, reward, terminated = self.task.step(self.state, np.asarray(action)[None])
        observation = self._first(self.task.observe(self.state))
        return observation, float(reward[0]), bool(terminated[0]), False, self._info()

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        return self._picture(0) if self.render_mode else None

    def action_masks(self) -> np.ndarray:
        """bool [actions], which of them are valid now (sb3-contrib's protocol)."""
        return self._info()["action_mask"]

    def _info(self) -> dict[str, Any]:
        assert self.state is not None
        described = self._first(self.task.describe(self.state))
        return {key: value if value.ndim else value.item() for key, value in described.items()}

    @staticmethod
    def _first(arrays: Arrays) -> dict[str, Any]:
        return {key: np.asarray(value[0]) for key, value in arrays.items()}


class TaskVectorEnv(_View[State], VectorEnv[Arrays, Any, Any]):
    """A task as a native vector environment.

    Episodes that end begin anew in the same step (``AutoresetMode.SAME_STEP``, since in one-step
    episodes anything else would waste every other step): the observation returned is the new
    episode's, and ``info["final_obs"]`` and ``info["final_info"]`` hold the last of the old one in
    the rows that the mask ``info["_final_obs"]`` marks; other rows there mean nothing.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"], "render_fps": 2, "autoreset_mode": AutoresetMode.SAME_STEP,
    }  # fmt: skip

    def __init__(self, task: Task[State], num_envs: int = 1, render_mode: str | None = None) -> None:
        self.task = task
        self.num_envs = num_envs
        self.render_mode = check_render_mode(render_mode)
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)
        self._everywhere = np.ones(num_envs, bool)
        self._everywhere.flags.writeable = False
        self._info: dict[str, Any] = {}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        if isinstance(seed, list):
            raise InputError("seed: found a list, expected one int for all the environments of this vector")
        super().reset(seed=seed)
        self.state = self.task.begin(self._draw(self.np_random, self.num_envs, options))
        self._info = self._masked(self.task.describe(self.state), self._everywhere)
        return self.task.observe(self.state), self._info

    def step(self, actions: Any) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self.state is None:
            raise gym.error.ResetNeeded("call reset before step")
        actions = np.asarray(actions)
        if actions.shape[:1] != (self.num_envs,):
            raise InputError(f"actions: found shape {actions.shape}, expected {self.num_envs} rows")
        state, reward, terminated = self.task.step(self.state, actions)
        ended = np.flatnonzero(terminated)
        final: dict[str, Any] = {}
        if ended.size:
            final["final_info"] = self._masked(self.task.describe(state), terminated)
            last = self.task.observe(_rows(state, ended))
            final["final_obs"] = self._masked(self._spread(last, ended), terminated)
            final["_final_obs"] = final["_final_info"] = terminated
            state = _replaced(state, ended, self.task.begin(self._draw(self.np_random, ended.size, None)))
        self.state = state
        self._info = self._masked(self.task.describe(state), self._everywhere)
        truncated = np.zeros(self.num_envs, bool)
        return self.task.observe(state), reward, terminated, truncated, self._info | final

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        return tuple(self._picture(episode) for episode in range(self.num_envs)) if self.render_mode else None

    def action_masks(self) -> np.ndarray:
        """bool [num_envs, actions], which of them are valid now."""
        return self._info["action_mask"]

    def _spread(self, arrays: Arrays, rows: np.ndarray) -> Arrays:
        """Values of some rows as arrays of all rows, zero elsewhere."""
        spread = {}
        for key, values in arrays.items():
            spread[key] = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
            spread[key][rows] = values
        return spread

    @staticmethod
    def _masked(arrays: Arrays, mask: np.ndarray) -> dict[str, Any]:
        """Gymnasium's form of vector infos: each entry with a mask of the rows that have it."""
        return arrays | {f"_{key}": mask for key in arrays}


def _rows(state: State, rows: np.ndarray) -> State:
    return type(state)(*(getattr(state, field.name)[rows] for field in fields(state)))


def _replaced(state: State, rows: np.ndarray, by: State) -> State:
    """The state with some rows taken from another one."""
    values = []
    for field in fields(state):
        value = getattr(state, field.name).copy()
        value[rows] = getattr(by, field.name)
        values.append(value)
    return type(state)(*values)


def _require_valid(space: gym.Space, action: Any) -> None:
    if isinstance(space, gym.spaces.Box):
        action = np.asarray(action, space.dtype)
    elif isinstance(space, gym.spaces.MultiBinary):
        action = np.asarray(action)
    if not space.contains(action):
        raise InputError(f"action {action!r}: expected a member of {space}")
