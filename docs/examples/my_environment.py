"""An environment of one's own: where does a clip of N candidate frames in a row begin?"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from video_env.envs.frame_select import FrameSelect, Selection
from video_env.envs.options import check_integer
from video_env.envs.task import TaskEnv, TaskVectorEnv


class ClipSelect(FrameSelect):
    """The dynamics of ClipSelect-v0, batch first; see ``ClipSelectEnv``."""

    def __init__(self, *args: Any, num_frames: int = 3, **options: Any) -> None:
        self.num_frames = num_frames
        super().__init__(*args, **options)

    def _action_space(self) -> gym.Space:
        check_integer("num_frames", self.num_frames, 1, self.num_candidates)
        return gym.spaces.Discrete(self.num_candidates - self.num_frames + 1)

    def step(self, state: Selection, action: np.ndarray) -> tuple[Selection, np.ndarray, np.ndarray]:
        chosen = np.zeros_like(state.chosen)
        np.put_along_axis(chosen, action[:, None] + np.arange(self.num_frames), 1, axis=1)
        processed = np.full(len(action), self.num_frames)
        after, reward = self._advance(state, chosen, chosen @ self._bits, processed)
        return after, reward, np.ones(len(action), bool)


class ClipSelectEnv(TaskEnv[Selection]):
    """Choose where a clip of N candidate frames in a row begins.

    ## Description
    As `FrameSelectOneStep-v0`, but the N frames stand one after another.

    ## Action Space
    `Discrete(T − N + 1)`: the first frame of the clip.

    ## Episode End
    Terminates after its one step.

    ## Arguments
    Those of `FrameSelect-v0` but `max_frames`, and `num_frames`, N, 3 by default.
    """

    kind = ClipSelect


class ClipSelectVectorEnv(TaskVectorEnv[Selection]):
    """ClipSelect-v0 for many videos at once; see ``ClipSelectEnv``."""

    kind = ClipSelect


gym.register(
    id="ClipSelect-v0",
    entry_point="my_environment:ClipSelectEnv",
    vector_entry_point="my_environment:ClipSelectVectorEnv",
)
