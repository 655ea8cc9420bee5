"""Metrics and their intervals: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of the classes' non-interpolated average precision. Classes without a video are left out.

    Args:
        labels: bool [V, C], which classes each video has.
        scores: float [V, C].

    Returns:
        mAP in [0, 1].
    """
    present = labels.any(axis=0)
    return float(np.mean(average_precision_score(labels[:, present], scores[:, present], average=None)))


def area_under_curve(
    gflops: np.ndarray, accuracy: np.ndarray, *, ends: tuple[float, float], guess: float
) -> float:
    """Mean accuracy that a method gives for a cost, over a range of costs, logarithmic in cost.

    For a cost it gives the best accuracy of its settings that cost no more, a step function; for less than
    its cheapest setting, what a guess gives. So methods that share no cost can be compared, and one that
    costs more than the range's end has the guess.

    Args:
        gflops: float [S], the cost of each setting, at least 0.
        accuracy: float [S].
        ends: the range, 0 < low < high.
        guess: accuracy of a guess without looking.
    """
    order = np.argsort(gflops, kind="stable")
    edges = np.log(np.clip([ends[0], *gflops[order], ends[1]], *ends))
    heights = [guess, *np.maximum.accumulate(accuracy[order])]
    return float(np.diff(edges) @ heights / (edges[-1] - edges[0]))


def resampled_means(values: np.ndarray, *, resamples: int = 1000) -> np.ndarray:
    """Means over seeds and videos of bootstrap resamples (see ``bootstrap_interval``).

    A resample's mean is a weighted mean: the weights count how often each seed and video is drawn, and are
    multinomial. So all means are one product of matrices; drawing entry by entry would take minutes.

    Args:
        values: float [S, V, D].
        resamples: R.

    Returns:
        float64 [R, D]; with one seed only videos are drawn.
    """
    generator = np.random.default_rng(0)
    shares = [
        generator.multinomial(drawn, np.full(count, 1 / count), size=resamples) / drawn
        for count, drawn in zip(values.shape[:2], map(_drawn, values.shape[:2]), strict=True)
    ]
    means = np.einsum("rs,rsd->rd", shares[0], np.einsum("rv,svd->rsd", shares[1], values, optimize=True))
    # Weights may not sum to exactly 1: without this, a mean of ones could be more than 1.
    return means.clip(values.min(axis=(0, 1)), values.max(axis=(0, 1)))


def bootstrap_interval(
    values: np.ndarray,
    *,
    statistic: Callable[[np.ndarray], float] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval over seeds and videos, drawn independently of each other.

    Each resample draws n − 1 of n seeds, and n − 1 of n videos, with replacement. Its mean then varies as
    much as the mean itself does (McCarthy and Snowden 1985, The bootstrap and finite population sampling).
    With n draws it would have (n − 1) / n of that variance: two thirds with three seeds.

    Args:
        values: [S, V] for the mean; [S, V, ...] for another statistic, one entry per seed and video.
        statistic: function of such an array; the mean by default.
        resamples: number of resamples.
        level: share of the resamples that lie in the interval.

    Returns:
        The interval's low and high end. With one seed only videos are drawn.
    """
    if statistic is None:
        found = resampled_means(values[..., None], resamples=resamples)[:, 0].tolist()
    else:
        generator = np.random.default_rng(0)
        drawn = (
            np.ix_(*(generator.integers(count, size=_drawn(count)) for count in values.shape[:2]))
            for _ in range(resamples)
        )
        found = [statistic(values[both]) for both in drawn]
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _drawn(count: int) -> int:
    return max(1, count - 1)
