"""Conditional exit: leave a video as soon as the classifier is sure enough (Huang et al. 2018, MSDNet,
section 3; Wang et al. 2022, AdaFocus V2, section 4.3).

After every frame but the last there is a threshold, and all of them are solved on the training videos for a
budget. As published, a share of those videos that is proportional to q^k exits after frame k, so one number q
sweeps from early to late; but then some exit after the first frame however unsure they are. One threshold for
all frames lets only sure ones exit. Everything here is a pure function of how sure the classifier was.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import numpy as np

from video_env.errors import require_choice, require_positive

Criterion = Literal["confidence", "entropy"]
Schedule = Literal["constant", "geometric"]
CRITERIA: tuple[Criterion, ...] = ("confidence", "entropy")
SCHEDULES: tuple[Schedule, ...] = ("constant", "geometric")
NEVER = np.float32(1e8)
"""A threshold that no confidence reaches, as released; its negative is reached by all."""


@dataclass(frozen=True)
class ExitRule:
    """When a video is left.

    Attributes:
        criterion: what tells how sure the classifier is: ``confidence``, its largest score, or ``entropy``,
            the negative entropy of the softmax; both as released.
        schedule: ``constant``, one threshold for all frames, or ``geometric``, exit shares proportional to
            q^k, as released.
        every: look at so many frames before each decision; at small batches that is faster than one by one,
            because the networks' weights are read once for all of them.
    """

    criterion: Criterion = "entropy"
    schedule: Schedule = "constant"
    every: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "every")
        require_choice("criterion", self.criterion, CRITERIA)
        require_choice("schedule", self.schedule, SCHEDULES)


DEFAULT_EXIT = ExitRule()


def confidences(logits: np.ndarray, criterion: Criterion) -> np.ndarray:
    """How sure the classifier is, [..., C] scores to float32 [...].

    Args:
        logits: before the softmax.
        criterion: see ``ExitRule``.
    """
    scores = np.asarray(logits, np.float32)
    if criterion == "confidence":
        return scores.max(axis=-1)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return (np.exp(log_shares) * log_shares).sum(axis=-1)


def exit_shares(ratio: float, num_frames: int) -> np.ndarray:
    """float64 [T]: the shares of videos that are to exit after each frame, proportional to ratio^k."""
    # Against the largest power, so that none overflows.
    powers = np.arange(1, num_frames + 1) * np.log(ratio)
    shares = np.exp(powers - powers.max())
    return shares / shares.sum()


def solve_thresholds(confidence: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The thresholds with which given shares of these videos exit after each frame.

    Frame by frame, of the videos that are still there the surest floor(V · share) exit; as many as are as
    sure as the last of them exit too. Where that is none, or more than are there, none does.

    Args:
        confidence: float [V, T], after every frame.
        shares: float [T].

    Returns:
        float32 [T]; the last one lets all exit.
    """
    count, num_frames = confidence.shape
    thresholds = np.full(num_frames, NEVER, np.float32)
    there = np.ones(count, bool)
    for frame in range(num_frames - 1):
        wanted = int(np.floor(count * shares[frame]))
        if 0 < wanted <= there.sum():
            thresholds[frame] = np.sort(confidence[there, frame])[-wanted]
        there &= confidence[:, frame] < thresholds[frame]
    thresholds[-1] = -NEVER
    return thresholds


def exit_after(confidence: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """int64 [V], the number of frames (1 to T) after which each video exits, from confidences [V, T]."""
    return (confidence >= thresholds).argmax(axis=1) + 1


def thresholds_for(
    confidence: np.ndarray, mean_frames: float, schedule: Schedule = "constant", every: int = 1
) -> np.ndarray:
    """The latest thresholds of a sweep with which these videos take at most so many frames each on average.

    Videos that are equally sure exit together, so where many are a budget may not be used up.

    Args:
        confidence: float [V, T] of the training videos.
        mean_frames: 1 to T.
        schedule: see ``ExitRule``.
        every: see ``ExitRule``; at least so many frames are taken.

    Returns:
        float32 [T].
    """
    num_frames = confidence.shape[1]
    decides = np.append(np.arange(1, num_frames) % every == 0, True)
    if schedule == "geometric":
        # log2 q, from all after the first frame to all after the last.
        sweep = np.linspace(-12, 12, 1 << 14)

        def thresholds(position: int) -> np.ndarray:
            shares = exit_shares(2.0 ** sweep[position], num_frames) * decides
            return solve_thresholds(confidence, shares / shares.sum())
    else:
        # Between neighbours: at a video's own confidence its exit would be a matter of rounding.
        known = np.unique(confidence[:, :-1].astype(np.float32))
        sweep = np.concatenate([[-NEVER], (known[:-1] + known[1:]) / 2, [NEVER]])

        def thresholds(position: int) -> np.ndarray:
            return np.where(decides, np.append(np.full(num_frames - 1, sweep[position]), -NEVER), NEVER)

    def fits(position: int) -> bool:
        return float(exit_after(confidence, thresholds(position)).mean()) <= mean_frames

    # The mean grows along the sweep (with the published shares but for single steps): the last position that
    # fits, or all exit at once where none does.
    above = bisect_left(range(len(sweep)), True, key=lambda position: not fits(position))
    return (thresholds(above - 1) if above else np.where(decides, -NEVER, NEVER)).astype(np.float32)
