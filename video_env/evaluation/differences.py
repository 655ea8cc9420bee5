"""How much better one method is than another at the same budget, on the same videos, with an interval.

Everything here is paired: each bootstrap resample draws seeds and videos once, for both methods. A hard video
or a weak recognizer then affects both alike, and does not widen the interval of their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from video_env.evaluation.metrics import resampled_means
from video_env.evaluation.results import Setting, by_point, points_of


class Estimate(NamedTuple):
    """A number with its 95% bootstrap interval over seeds and videos."""

    value: float
    low: float
    high: float


EQUAL_COST = 0.05
"""Of a cost: on the same frames or patches the costs of two methods differ by what their selectors take."""


@dataclass(frozen=True)
class Curve:
    """A method's points, cheapest first.

    Attributes:
        settings: K settings, such as ``{"num_frames": 2}``.
        correct: float [S, V, K], 1 where the prediction is right.
        cost: float [S, V, K], GFLOPs, or what else counts the cost.
    """

    settings: tuple[Setting, ...]
    correct: np.ndarray
    cost: np.ndarray

    def only(self, *settings: Setting) -> Curve:
        """The points of these settings, cheapest first."""
        return self.at(*(place for place, setting in enumerate(self.settings) if setting in settings))

    def at(self, *places: int) -> Curve:
        """The points at these places among the settings."""
        kept = list(places)
        return Curve(
            tuple(self.settings[place] for place in kept), self.correct[..., kept], self.cost[..., kept]
        )


def paired_curves(
    results: pd.DataFrame, *methods: str | Sequence[str], cost: str = "gflops"
) -> list[Curve] | None:
    """The curves of methods on the seeds that all of them have, and on the same videos.

    Args:
        results: a result table; join several first.
        methods: ids. Several in a tuple are joined to one curve, such as ``("uniform", "all-frames")``.
        cost: the column that counts the cost.

    Returns:
        A curve for each argument, in their order; None where a method is missing, or the methods have no
        seed in common.
    """
    results = results.reset_index(drop=True)
    joined = [{method} if isinstance(method, str) else set(method) for method in methods]
    parts = [results[results["method"].isin(ids)] for ids in joined]
    if any(part.empty for part in parts):
        return None
    # A setting needs the seeds that all methods have; that another setting has more of them costs nothing.
    seeds = set.intersection(*(set(part["seed"]) for part in parts))
    if not seeds:
        return None
    curves = []
    for part in parts:
        part = part[part["seed"].isin(seeds)]
        settings = [point.setting for point, _ in by_point(part)]
        part = part.assign(point=points_of(part))
        order, tables = part.groupby("point")[cost].mean().sort_values(kind="stable").index, []
        for column in ("correct", cost):
            table = part.pivot(index=["seed", "video"], columns="point", values=column)[order]
            tables.append(table.to_numpy(float).reshape(len(seeds), -1, len(order)))
        whole = ~np.isnan(tables[0]).any(axis=(0, 1))
        kept = tuple(settings[point] for point, there in zip(order, whole, strict=True) if there)
        curves.append(Curve(kept, tables[0][..., whole], tables[1][..., whole]))
    return curves if all(curve.settings for curve in curves) else None


def difference_at_equal_cost(point: Curve, base: Curve) -> Estimate | None:
    """Accuracy of a point minus the accuracy of the base curve at the point's mean cost.

    Between two points the base is a straight line: a mixture of both settings would reach it. Left of its
    cheapest point the base is as accurate as there, although it then costs more than the point.

    Args:
        point: a curve of one setting.
        base: a curve on the same seeds and videos.

    Returns:
        None where the point costs more than every point of the base: the base is never extended to the right.
    """
    if point.cost.mean() > base.cost.mean(axis=(0, 1)).max() * 1.001:  # counts of the same frames may differ
        return None
    return estimate((point, base), lambda mine, other: mine.correct[0] - _height(other, mine.cost[0]))


def difference_to_dearer(point: Curve, base: Curve) -> tuple[Setting, Estimate] | None:
    """Accuracy of a point minus the accuracy of the base's cheapest setting that costs at least as much.

    This is stricter than ``difference_at_equal_cost``. An accuracy curve bends: a setting between two others
    lies above the straight line through them, so that even a method compared with itself could win there.
    Costs count as equal within ``EQUAL_COST``.

    Args:
        point: a curve of one setting.
        base: a curve on the same seeds and videos.

    Returns:
        The base's setting, and the difference; None where all settings of the base cost less.
    """
    enough = base.cost.mean(axis=(0, 1)) >= (1 - EQUAL_COST) * point.cost.mean()
    if not enough.any():
        return None
    dearer = base.at(int(enough.argmax()))
    return dearer.settings[0], estimate(
        (point, dearer), lambda mine, other: mine.correct[0] - other.correct[0]
    )


def saving_at_equal_accuracy(
    curve: Curve, reference: Curve, at: Setting | None = None, *, within: float = 0.01
) -> Estimate:
    """Share of the cost that a curve saves at the accuracy of one setting of the reference.

    The target is that setting's accuracy minus ``within``. The result is 1 − (least cost at which the curve
    reaches the target) / (least cost at which the reference does). It is 0 where the curve never reaches the
    target, or not for less.

    The reference may aim at the lower target too, so that the tolerance itself saves nothing: its curve is
    the straight line through its points, and through no answer at 0 cost. Every resample has its own target.

    Args:
        curve: the method that saves.
        reference: a curve on the same seeds and videos.
        at: the reference's setting; by default the most accurate one of each resample.
        within: the difference up to which two accuracies count as equal.
    """
    place = None if at is None else reference.settings.index(at)

    def saved(mine: Means, other: Means) -> float:
        wanted = other.correct[int(other.correct.argmax()) if place is None else place] - within
        mixed = Means(np.append(other.correct, 0.0), np.append(other.cost, 0.0))
        least = _cheapest(mixed, wanted)
        if not least:  # giving no answer is accurate enough
            return 0.0
        return 1 - min(_cheapest(mine, wanted), least) / least

    return estimate((curve, reference), saved)


class Means(NamedTuple):
    """A curve's mean accuracy and cost at each setting, [K]."""

    correct: np.ndarray
    cost: np.ndarray


def estimate(curves: tuple[Curve, ...], statistic: Callable[..., float]) -> Estimate:
    """A statistic of the curves' means. Every resample draws the same seeds and videos for all of them."""
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
    """The least cost at which the curve, straight between its points, has this accuracy; infinity where it
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
