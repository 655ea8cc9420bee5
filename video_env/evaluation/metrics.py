"""Numbers from result tables: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of non-interpolated average precision; classes without a video are left out.

    Args:
        labels: bool [V, C], which classes each video has.
        scores: float [V, C].

    Returns:
        mAP in [0, 1].
    """
    present = labels.any(axis=0)
    return float(np.mean(average_precision_score(labels[:, present], scores[:, present], average=None)))


def resampled_means(values: np.ndarray, *, resamples: int = 1000) -> np.ndarray:
    """Means over seeds and videos of bootstrap resamples; both are drawn, independently of each other.

    How often each is drawn is multinomial, so that a resample's mean is a weighted one: a product of matrices
    where drawing entry by entry would take minutes for a table of methods.

    Args:
        values: float [S, V, D].
        resamples: R.

    Returns:
        float64 [R, D]; with one seed only videos are drawn.
    """
    generator = np.random.default_rng(0)
    shares = [
        generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        for count in values.shape[:2]
    ]
    return np.einsum("rs,rsd->rd", shares[0], np.einsum("rv,svd->rsd", shares[1], values, optimize=True))


def bootstrap_interval(
    values: np.ndarray,
    *,
    statistic: Callable[[np.ndarray], float] = lambda values: float(values.mean()),
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval over seeds and videos, drawn independently of each other.

    Args:
        values: [S, V, ...], one entry per seed and video.
        statistic: of such an array; the mean by default.
        resamples, level: number of resamples, and the interval's probability.

    Returns:
        Low and high ends; with one seed only videos are drawn.
    """
    seeds, videos = values.shape[:2]
    if videos == 1:
        return statistic(values), statistic(values)  # nothing to draw from
    if seeds == 1:
        result = bootstrap(
            (np.arange(videos),), lambda video: statistic(values[:, video]), vectorized=False,
            n_resamples=resamples, confidence_level=level, method="percentile", rng=np.random.default_rng(0),
        )  # fmt: skip
    else:
        result = bootstrap(
            (np.arange(seeds), np.arange(videos)),
            lambda seed, video: statistic(values[seed][:, video]), vectorized=False,
            n_resamples=resamples, confidence_level=level, method="percentile", rng=np.random.default_rng(0),
        )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
