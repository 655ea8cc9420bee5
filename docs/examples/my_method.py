"""A method of one's own: every second candidate frame, from the first one on.

video-env compare CACHE --methods uniform every-second oracle --out RUN --modules my_method
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from video_env.errors import InputError
from video_env.evaluation.protocols import Entry, LooksAt
from video_env.evaluation.registry import Job, method


@dataclass(frozen=True)
class EverySecondSettings:
    """What can be set, here and on the command line.

    Attributes:
        num_frames: numbers of frames, one point on the curve each.
    """

    num_frames: tuple[int, ...] = (1, 2, 4)


class EverySecond:
    """A policy for FrameSelectOneStep-v0: looks at nothing, and costs nothing.

    Args:
        num_frames: N.
    """

    gflops = 0.0
    looks_at: LooksAt = "nothing"

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Scores float32 [B, T]; the environment takes the N highest."""
        scores = np.full(observation["selected"].shape, -1, np.float32)
        scores[:, : 2 * self.num_frames : 2] = 1
        return scores, state


@method("every-second", about="every second candidate", settings=EverySecondSettings())
def every_second(job: Job, settings: EverySecondSettings) -> list[Entry]:
    """One entry for each number of frames."""
    most = (job.cache.num_candidates + 1) // 2
    if not all(1 <= count <= most for count in settings.num_frames):
        raise InputError(f"every-second: num_frames: found {settings.num_frames}, expected 1 to {most}")
    return [
        job.entry(
            {"num_frames": count},
            "FrameSelectOneStep-v0",
            EverySecond(count),
            options={"num_frames": count, "observation": "index"},
        )
        for count in settings.num_frames
    ]
