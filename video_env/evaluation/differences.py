"""How much better one method is than another at the same budget, on the same videos, with an interval.

Everything here is paired: seeds and videos are drawn once for both methods, so what makes a video hard, or a
seed's recognizer weak, does not blur their difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from video_env.evaluation.metrics import resampled_means


class Estimate(NamedTuple):
    """A figure with its 95% bootstrap interval over seeds and videos."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A method's points, cheapest first.

    Attributes:
        settings: K names.
        correct: float [S, V, K], 1 where the prediction is right.
        cost: float [S, V, K], GFLOPs or whatever the budget is counted in.
    """

    settings: tuple[str, ...]
    correct: np.ndarray
    cost: np.ndarray

    def only(self, *settings: str) -> Curve:
        """The points of these settings, cheapest first."""
        at = [place for place, setting in enumerate(self.settings) if setting in settings]
        return Curve(tuple(self.settings[place] for place in at), self.correct[..., at], self.cost[..., at])


def paired_curves(results: pd.DataFrame, *methods: str, cost: str = "gflops") -> list[Curve] | None:
    """The curves of methods on the seeds that all of them have, and on the same videos.

    Args:
        results: result tables joined.
        methods: names in tables; one that joins several, such as uniform and all frames, is written
            "uniform+all frames".
        cost: the column that the budget is counted in.

    Returns:
        None where a method is not there, or the methods have no seed in common.
    """
    results = results.reset_index(drop=True)
    parts = [results[results["method"].isin(method.split("+"))] for method in methods]
    if any(part.empty for part in parts):
        return None
    # A setting counts where it has all the seeds in common: one more seed of another is no loss.
    seeds = set.intersection(*(set(part["seed"]) for part in parts))
    if not seeds:
        return None
    curves = []
    for part in parts:
        part = part[part["seed"].isin(seeds)].assign(name=part["method"] + "\n" + part["setting"])
        order, tables = part.groupby("name")[cost].mean().sort_values(kind="stable").index, []
        for column in ("correct", cost):
            table = part.pivot(index=["seed", "video"], columns="name", values=column)[order]
            tables.append(table.to_numpy(float).reshape(len(seeds), -1, len(order)))
        whole = ~np.isnan(tables[0]).any(axis=(0, 1))
        names = tuple(name.split("\n")[1] for name, kept in zip(order, whole, strict=True) if kept)
        curves.append(Curve(names, tables[0][..., whole], tables[1][..., whole]))
    return curves if all(curve.settings for curve in curves) else None


def difference_at_equal_cost(point: Curve, base: Curve) -> Estimate | None:
    """Accuracy of a point minus that of the base curve at the point's mean cost.

    Between two of its points the base is what a mixture of both would reach; below its cheapest point it is
    that point, which may cost more than the method.

    Args:
        point: one setting.
        base: on the same seeds and videos.

    Returns:
        None where the point costs more than all of the base's, which would then be compared at less.
    """
    if point.cost.mean() > base.cost.mean(axis=(0, 1)).max() * 1.001:  # counts of the same frames may differ
        return None
    return estimate((point, base), lambda mine, other: mine.correct[0] - _height(other, mine.cost[0]))


def difference_to_dearer(point: Curve, base: Curve) -> tuple[str, Estimate] | None:
    """Accuracy of a point minus that of the base's cheapest setting that costs at least as much.

    Harder on the point than ``difference_at_equal_cost``: between two settings far apart a mixture of both
    may be worse than a setting between them would be, and a curve that bends would beat itself.

    Args:
        point: one setting.
        base: on the same seeds and videos.

    Returns:
        That setting, and the difference; None where all of the base's are cheaper.
    """
    enough = base.cost.mean(axis=(0, 1)) * 1.001 >= point.cost.mean()  # counts of the same frames may differ
    if not enough.any():
        return None
    setting = base.settings[int(enough.argmax())]
    dearer = base.only(setting)
    return setting, estimate((point, dearer), lambda mine, other: mine.correct[0] - other.correct[0])


def saving_at_equal_accuracy(
    curve: Curve, reference: Curve, at: str | None = None, *, within: float = 0.01
) -> Estimate:
    """Share of the cost that a curve saves where it is as accurate as a setting of the reference.

    1 − (least cost of the curve) / (least cost of the reference), both where they come within so much of that
    setting's accuracy, found anew in every resample. Giving way by so much saves the reference something too,
    which is no merit of the curve: a mixture of its settings, or of its cheapest one and no answer at all for
    nothing, comes there. 0 where the curve does not come there, or not for less.

    Args:
        curve: of the method that saves.
        reference: on the same seeds and videos.
        at: the setting; by default the most accurate one of each resample.
        within: what counts as equally accurate.
    """
    place = None if at is None else reference.settings.index(at)

    def saved(mine: Means, other: Means) -> float:
        wanted = other.correct[int(other.correct.argmax()) if place is None else place] - within
        mixed = Means(np.append(other.correct, 0.0), np.append(other.cost, 0.0))
        least = _cheapest(mixed, wanted)
        if not least:  # no answer at all is as good
            return 0.0
        return 1 - min(_cheapest(mine, wanted), least) / least

    return estimate((curve, reference), saved)


class Means(NamedTuple):
    """A curve's mean accuracy and cost at each setting, [K]."""

    correct: np.ndarray
    cost: np.ndarray


def estimate(curves: tuple[Curve, ...], statistic: Callable[..., float]) -> Estimate:
    """A statistic of the curves' means, with its interval over seeds and videos drawn for all alike."""
    widths = [len(curve.settings) for curve in curves]
    edges = np.cumsum([0, *(2 * width for width in widths)])
    values = np.concatenate([part for curve in curves for part in (curve.correct, curve.cost)], axis=2)

    def of(means: np.ndarray) -> float:
        parts = [means[start : start + 2 * width] for start, width in zip(edges, widths, strict=False)]
        return float(statistic(*(Means(*np.split(part, 2)) for part in parts)))

    drawn = [of(means) for means in resampled_means(values)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(of(values.mean(axis=(0, 1))), float(low), float(high))


def _height(curve: Means, cost: float) -> float:
    order = np.argsort(curve.cost, kind="stable")
    return float(np.interp(cost, curve.cost[order], curve.correct[order]))


def _cheapest(curve: Means, accuracy: float) -> float:
    """The least cost at which the curve, straight between its points, has this accuracy; infinite where it
    never has."""
    order = np.argsort(curve.cost, kind="stable")
    cost, correct = curve.cost[order], curve.correct[order]
    if correct.max() < accuracy:
        return float("inf")
    first = int(np.argmax(correct >= accuracy))
    if first == 0:
        return float(cost[0])
    share = (accuracy - correct[first - 1]) / (correct[first] - correct[first - 1])
    return float(cost[first - 1] + share * (cost[first] - cost[first - 1]))
