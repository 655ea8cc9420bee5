"""One dynamics, two views: a task's pure, batch-first functions as a single or a vector environment.

A *task* knows spaces and dynamics for a whole batch of episodes at once: state in, state out, and no
randomness once an episode has begun. Which video is drawn is the views' business. ``TaskEnv`` is a batch
of one, ``TaskVectorEnv`` a batch of ``num_envs``; neither holds a rule of its own.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from video_env.cache.store import Cache
from video_env.envs.options import check_integer, make_task
from video_env.errors import InputError


@dataclass
class EpisodeState:
    """A batch of episodes; every field is an array whose first dimension is the batch.

    No field is written to once its state is returned, so that it can be described later.

    Attributes:
        video: int64 [B], number of the episode's video within the split.
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

    def begin(self, video: np.ndarray, generator: np.random.Generator) -> State:
        """Fresh episodes on these videos (numbers within the split), int64 [B]. Whatever else is random
        in them is drawn here, so that ``step`` is a pure function."""

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
        """Numbers within the split: the videos asked for, or random ones."""
        if unknown := set(options or {}) - {"video"}:
            raise InputError(f"options: found {', '.join(map(repr, sorted(unknown)))}, expected 'video'")
        chosen = (options or {}).get("video")
        if chosen is None:
            return generator.integers(len(self.task.rows), size=count)
        names = [chosen] * count if isinstance(chosen, str) else list(np.atleast_1d(chosen))
        if len(names) != count or not all(isinstance(name, str) for name in names):
            raise InputError(f"options['video']: found {chosen!r}, expected a video's id or {count} of them")
        rows = np.array([self.task.cache.row(name) for name in names])
        numbers = np.searchsorted(self.task.rows, rows)
        inside = (numbers < len(self.task.rows)) & np.isin(rows, self.task.rows)
        if not inside.all():
            stray = names[int((~inside).argmax())]
            raise InputError(f"options['video']: {stray!r} is not in this environment's split")
        return numbers

    def _running(self) -> State:
        if self.state is None:
            raise gym.error.ResetNeeded("no episode is running; call reset first")
        return self.state


def check_render_mode(render_mode: str | None) -> str | None:
    """Raise InputError for a render mode that the environments do not have."""
    if render_mode not in (None, "rgb_array"):
        raise InputError(f"render_mode {render_mode!r}: expected None or 'rgb_array'")
    return render_mode


class TaskEnv(_View[State], gym.Env[Arrays, Any]):
    """A task as a single environment; a subclass names its ``kind``.

    Args:
        render_mode: None or ``"rgb_array"``.
        options: arguments of the task.

    Raises:
        InputError: an argument is unknown or out of range.
    """

    kind: ClassVar[type[Task[Any]]]
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        task = self.task = make_task(self.kind, options, "render_mode")
        self.render_mode = check_render_mode(render_mode)
        self.observation_space = task.observation_space  # type: ignore[assignment]
        self.action_space = task.action_space
        self._ended = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.task.begin(self._draw(self.np_random, 1, options), self.np_random)
        self._ended = False
        return self._first(self.task.observe(self.state)), self._info()

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        state = self._running()
        if self._ended:
            raise gym.error.ResetNeeded("this episode has ended; call reset first")
        _require_valid(self.action_space, action)
        self.state, reward, terminated = self.task.step(state, np.asarray(action)[None])
        self._ended = bool(terminated[0])
        observation = self._first(self.task.observe(self.state))
        return observation, float(reward[0]), self._ended, False, self._info()

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        return self.task.render(self._running(), 0) if self.render_mode else None

    def _info(self) -> dict[str, Any]:
        described = self._first(self.task.describe(self._running()))
        return {key: value if value.ndim else value.item() for key, value in described.items()}

    @staticmethod
    def _first(arrays: Arrays) -> dict[str, Any]:
        return {key: np.asarray(value[0]) for key, value in arrays.items()}


class TaskVectorEnv(_View[State], VectorEnv[Arrays, Any, Any]):
    """A task as a native vector environment; a subclass names its ``kind``.

    Episodes that end begin anew in the same step (``AutoresetMode.SAME_STEP``, since in one-step
    episodes anything else would waste every other step): the observation returned is the new
    episode's, and ``info["final_obs"]`` (an array of one observation per environment, None where none
    ended) and ``info["final_info"]`` hold the last of the old one where ``info["_final_info"]`` is set.

    Args:
        num_envs: how many episodes run side by side, at least 1.
        render_mode: None or ``"rgb_array"``.
        max_episode_steps: steps after which an episode is truncated, as Gymnasium's ``TimeLimit`` does to a
            single environment; None, or −1 as in ``gym.make``, for no such limit.
        options: arguments of the task.

    Raises:
        InputError: an argument is unknown or out of range.
    """

    kind: ClassVar[type[Task[Any]]]
    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"], "render_fps": 2, "autoreset_mode": AutoresetMode.SAME_STEP,
    }  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        task = self.task = make_task(self.kind, options, "render_mode", "max_episode_steps")
        self.num_envs = num_envs = check_integer("num_envs", num_envs, 1)
        if max_episode_steps is not None and max_episode_steps != -1:
            self._limit: int | None = check_integer("max_episode_steps", max_episode_steps, 1)
        else:
            self._limit = None
        self._steps = np.zeros(num_envs, np.int64)
        self.render_mode = check_render_mode(render_mode)
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        if isinstance(seed, list):
            raise InputError("seed: found a list, expected one int for all the environments of this vector")
        super().reset(seed=seed)
        self.state = self.task.begin(self._draw(self.np_random, self.num_envs, options), self.np_random)
        self._steps = np.zeros(self.num_envs, np.int64)
        state = self.state
        return self.task.observe(state), self._lazy(lambda: self._described(state, self._everywhere()))

    def step(self, actions: Any) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        running = self._running()
        actions = np.asarray(actions)
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if actions.shape != expected:
            raise InputError(f"actions: found shape {actions.shape}, expected {expected}")
        state, reward, terminated = self.task.step(running, actions)
        truncated = self._over_limit()
        ended = np.flatnonzero(terminated if self._limit is None else terminated | truncated)
        before = state
        if ended.size:
            fresh = self.task.begin(self._draw(self.np_random, ended.size, None), self.np_random)
            state = _replaced(state, ended, fresh)
            self._steps[ended] = 0
        self.state = state

        def info() -> dict[str, Any]:
            return self._described(state, self._everywhere()) | self._final(before, ended)

        return self.task.observe(state), reward, terminated, truncated, self._lazy(info)

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        if not self.render_mode:
            return None
        return tuple(self.task.render(self._running(), episode) for episode in range(self.num_envs))

    def _over_limit(self) -> np.ndarray:
        """bool [num_envs], whose episodes are as long as they may be, this step counted."""
        if self._limit is None:
            return np.zeros(self.num_envs, bool)
        self._steps += 1
        return np.greater_equal(self._steps, self._limit)

    def _everywhere(self) -> np.ndarray:
        """The mask of what every row has; all its keys share it."""
        mask = np.ones(self.num_envs, bool)
        mask.flags.writeable = False
        return mask

    @staticmethod
    def _lazy(fill: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return cast("dict[str, Any]", LazyInfo(fill))

    def _described(self, state: State, mask: np.ndarray) -> dict[str, Any]:
        """Gymnasium's form of vector infos: each entry with a mask of the rows that have it."""
        described = self.task.describe(state)
        return described | {f"_{key}": mask for key in described}

    def _final(self, state: State, ended: np.ndarray) -> dict[str, Any]:
        """What the infos hold of the episodes that ended."""
        if not ended.size:
            return {}
        here = np.zeros(self.num_envs, bool)
        here[ended] = True
        last = self.task.observe(_rows(state, ended))
        observations = np.full(self.num_envs, None, object)
        for row, values in zip(ended, zip(*last.values(), strict=True), strict=True):
            observations[row] = dict(zip(last, values, strict=True))
        return {
            "final_obs": observations,
            "final_info": self._described(state, here),
            "_final_obs": here,
            "_final_info": here,
        }


class LazyInfo(UserDict[str, Any]):
    """A dict that is made when it is first looked into: most steps' infos are never looked at, and they
    would cost more than the steps.

    It is no subclass of dict, whose entries code in C (``json``, ``orjson``) reads without asking, and would
    find none: such code refuses it, as ``json.dumps`` does, or asks what to do (``default=``). Where Python
    asks it is a dict, as Gymnasium's wrappers require. Copies and pickles are plain dicts.
    """

    def __init__(self, fill: Callable[[], dict[str, Any]]) -> None:
        self._fill = fill

    @cached_property
    def data(self) -> dict[str, Any]:  # type: ignore[override]  # what UserDict keeps everything in
        fill, self._fill = self._fill, dict
        return fill()

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        return dict

    def copy(self) -> dict[str, Any]:  # type: ignore[override]
        return self.data.copy()

    __copy__ = copy  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.data,)


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
