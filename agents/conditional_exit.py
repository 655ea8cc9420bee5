"""Conditional exit: leave a video as soon as the classifier is sure enough (Huang et al. 2018, MSDNet,
section 3; Wang et al. 2022, AdaFocus V2, section 4.3).

After every frame but the last there is a threshold. All of them are solved on the training videos: a share of
those that is proportional to q^k exits after frame k, so one number q sweeps from early to late. Everything
here is a pure function of how confident the classifier was after every frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from video_env.errors import InputError

Criterion = Literal["confidence", "entropy"]
CRITERIA: tuple[Criterion, ...] = ("confidence", "entropy")
NEVER = np.float32(1e8)
"""A threshold that no confidence reaches, as released; its negative is reached by all."""


def confidences(logits: np.ndarray, criterion: Criterion) -> np.ndarray:
    """How sure the classifier is, [..., C] scores to float32 [...].

    Args:
        logits: before the softmax.
        criterion: ``confidence``, the largest score, or ``entropy``, the negative entropy of the softmax,
            both as released.

    Raises:
        InputError: there is no such criterion.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion {criterion!r}: expected one of {', '.join(CRITERIA)}")
    scores = np.asarray(logits, np.float32)
    if criterion == "confidence":
        return scores.max(axis=-1)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return (np.exp(log_shares) * log_shares).sum(axis=-1)


def exit_shares(ratio: float, num_frames: int) -> np.ndarray:
    """float64 [T]: the shares of videos that shall exit after each frame, proportional to ratio^k."""
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


def thresholds_for(confidence: np.ndarray, mean_frames: float) -> np.ndarray:
    """The thresholds with which these videos take at most so many frames each on average, and no fewer than
    the sweep over q allows.

    Args:
        confidence: float [V, T] of the training videos.
        mean_frames: 1 to T.
    """
    low, high = -12.0, 12.0  # of log2 q: from all after the first frame to all after the last

    def thresholds(power: float) -> np.ndarray:
        return solve_thresholds(confidence, exit_shares(2.0**power, confidence.shape[1]))

    def taken(power: float) -> float:
        return float(exit_after(confidence, thresholds(power)).mean())

    if taken(high) <= mean_frames:
        return thresholds(high)
    if taken(low) > mean_frames:
        return np.full(confidence.shape[1], -NEVER, np.float32)
    for _ in range(40):  # the mean grows with q, in steps as small as one video
        middle = (low + high) / 2
        if taken(middle) <= mean_frames:
            low = middle
        else:
            high = middle
    return thresholds(low)
