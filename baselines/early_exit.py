"""Early exit on uniform frames: the recognizer reads frames from coarse to fine and stops once it is sure.

The idea is FrameExit's (Ghodrati et al. 2021, arXiv 2104.13400): a fixed order of frames, and a decision
after each whether the consensus so far will do. Its gates are trained; here one threshold on the consensus's
entropy decides, solved on the training videos for a budget, so nothing needs a training.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from video_env.cache.store import Cache
from video_env.data.sampling import coarse_to_fine
from video_env.errors import InputError
from video_env.evaluation.protocols import LooksAt
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule, confidences, thresholds_for
from video_env.models.verdicts import Verdicts

TOGETHER = 256  # videos whose features are in memory at once


class EarlyExit:
    """A policy that acts in FrameSelect-v0 with ``observation="index"``.

    Args:
        cache: whose recognizer decides.
        split: of the videos that it will act on.
        mean_frames: budget, frames per training video on average, 1 to T.
        rule: when a video is left; its scores are here the logarithms of the class probabilities.

    Attributes:
        thresholds: float32 [T], after each number of frames.
        gflops: of one decision: the recognizer's last layer, on the consensus so far. It is counted for every
            decision, also for the first frame, which needs none: a little too much.

    Raises:
        InputError: the budget is out of its range, or the cache has no training videos.
    """

    looks_at: LooksAt = "nothing"

    def __init__(self, cache: Cache, split: str, mean_frames: float, rule: ExitRule = DEFAULT_EXIT) -> None:
        if not 1 <= mean_frames <= cache.num_candidates:
            raise InputError(
                f"mean_frames: found {mean_frames:g}, expected 1 to {cache.num_candidates}, the candidate "
                f"frames of cache {cache.path}"
            )
        self.rule = rule
        self.order = coarse_to_fine(cache.num_candidates)
        self.gflops = cache.gflops["output"]
        training = Verdicts(cache, cache.rows("train"))
        self.thresholds = thresholds_for(
            self._confidence_curve(training), mean_frames, rule.schedule, rule.every
        )
        self._verdicts = Verdicts(cache, cache.rows(split))

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Actions int64 [B]: the next frame of the order, or T, stop."""
        chosen = np.asarray(observation["selected"], bool)
        looked, last = chosen.sum(axis=1), len(self.order)
        video = np.searchsorted(self._verdicts.rows, np.asarray(observation["video"])[:, 0])
        sure = np.zeros(len(chosen), bool)
        asked = np.flatnonzero(looked > 0)
        if asked.size:
            confidence = self._confidence(self._verdicts, video[asked], chosen[asked])
            sure[asked] = confidence >= self.thresholds[looked[asked] - 1]
        return np.where(sure, last, self.order[np.minimum(looked, last - 1)]), state

    def _confidence_curve(self, verdicts: Verdicts) -> np.ndarray:
        """float32 [V, T], after every number of frames."""
        count, num_frames = len(verdicts.rows), len(self.order)
        curve = np.empty((count, num_frames), np.float32)
        for video in np.array_split(np.arange(count), -(-count // TOGETHER)):
            chosen = np.zeros((len(video), num_frames), bool)
            for looked, frame in enumerate(self.order):
                chosen[:, frame] = True
                curve[video, looked] = self._confidence(verdicts, video, chosen)
        return curve

    def _confidence(self, verdicts: Verdicts, video: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        # Logarithms of probabilities are scores whose softmax they are.
        scores = np.log(np.maximum(verdicts.probabilities(video, chosen), 1e-30))
        return confidences(scores, self.rule.criterion)
