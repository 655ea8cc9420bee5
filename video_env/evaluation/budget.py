"""Accuracy against budget: curves, areas and gains, computed from result tables."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from video_env.evaluation.differences import difference_at_equal_cost, paired_curves
from video_env.evaluation.metrics import bootstrap_interval, mean_average_precision
from video_env.evaluation.results import selects_patches

Metric = Literal["top1", "mean_average_precision"]
METRICS = {"top1": "top-1", "mean_average_precision": "mAP"}
UNIFORM = "uniform+all frames"
"""All candidates are the last point of the curve of uniform frames."""


def summarise(results: pd.DataFrame, metric: Metric = "top1") -> pd.DataFrame:
    """One row per method and setting, ordered by method and GFLOPs.

    Args:
        results: result tables joined.
        metric: what the intervals are of (mAP's take a while).

    Returns:
        Columns ``method, setting, seeds, top1, mean_average_precision, gflops, frames,
        videos_per_second, training_seconds``, all means over videos and seeds,
        ``share_of_oracle_gain`` (see ``oracle_gain``), the metric's name with ``_low`` and ``_high``: its
        95% bootstrap interval over seeds and videos, and ``difference_to_uniform``, likewise with its
        interval: top-1 minus that of uniform frames (and of all frames) at equal GFLOPs, on the same seeds
        and videos (see ``differences``); missing where there are no such.
    """
    rows, of_patches = [], []
    for (method, setting), group in results.groupby(["method", "setting"], sort=False):
        of_patches.append(bool(selects_patches(group).any()))
        correct = group.pivot(index="seed", columns="video", values="correct").to_numpy(float)
        seeds = [of_seed.sort_values("video") for _, of_seed in group.groupby("seed")]
        if metric == "top1":
            low, high = bootstrap_interval(correct)
        else:
            low, high = _average_precision_interval(seeds)
        rows.append(
            {
                "method": method,
                "setting": setting,
                "seeds": len(correct),
                "top1": correct.mean(),
                "mean_average_precision": float(np.mean([_average_precision(table) for table in seeds])),
                f"{metric}_low": low,
                f"{metric}_high": high,
                "gflops": group["gflops"].mean(),
                "frames": group["frames"].mean(),
                "videos_per_second": group["videos_per_second"].mean(),
                "training_seconds": group.groupby("seed")["training_seconds"].first().mean(),
            }
        )
    summary = pd.DataFrame(rows)
    gain = oracle_gain(summary).mask(np.array(of_patches))  # of a frame with a patch not all is seen
    summary.insert(list(summary.columns).index("frames") + 1, "share_of_oracle_gain", gain)
    summary = summary.join(_differences_to_uniform(results, summary))
    order = {method: number for number, method in enumerate(summary["method"].unique())}
    return summary.sort_values(
        ["method", "gflops"], key=lambda column: column.map(order) if column.name == "method" else column
    ).reset_index(drop=True)


def _differences_to_uniform(results: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    names = ["difference_to_uniform", "difference_to_uniform_low", "difference_to_uniform_high"]
    found = pd.DataFrame(np.nan, index=summary.index, columns=names)
    for method, group in summary.groupby("method"):
        curves = None if method in UNIFORM.split("+") else paired_curves(results, str(method), UNIFORM)
        for row, setting in group["setting"].items():
            if curves is not None and setting in curves[0].settings:
                estimate = difference_at_equal_cost(curves[0].only(setting), curves[1])
                found.loc[row, names] = [np.nan] * 3 if estimate is None else list(estimate)
    return found


def oracle_gain(summary: pd.DataFrame, *, base: str = "uniform", best: str = "oracle") -> pd.Series:
    """Share of the oracle's gain over uniform that each row recovers, at the row's mean number of frames.

    (top-1 − uniform) / (oracle − uniform), where uniform and oracle are interpolated between their
    numbers of frames; missing where either is not in the table or the number is outside its range.
    """
    known = {name: summary[summary["method"] == name].sort_values("frames") for name in (base, best)}
    if any(curve.empty for curve in known.values()):
        return pd.Series(np.nan, summary.index)
    at = {
        name: np.interp(summary["frames"], curve["frames"], curve["top1"], left=np.nan, right=np.nan)
        for name, curve in known.items()
    }
    room = pd.Series(at[best] - at[base], summary.index)
    return (summary["top1"] - at[base]) / room.where(room > 0)


def area_under_curve(
    summary: pd.DataFrame, metric: Metric = "top1", *, base: str = "uniform"
) -> tuple[pd.Series, tuple[float, float]]:
    """Mean height of each method's accuracy curve over a budget range that all of them cover.

    Methods with fewer than two settings, or whose range does not overlap that of ``base``, are left out; and
    where the others have no range in common, those that overlap the fewest of them, until they have one.

    Returns:
        The area by method, divided by the width of the range, and the range in GFLOPs.
    """
    curves = {
        str(method): group.sort_values("gflops")
        for method, group in summary.groupby("method", sort=False)
        if len(group) > 1
    }
    if base in curves:
        first, last = curves[base]["gflops"].iloc[[0, -1]]
        curves = {
            method: curve
            for method, curve in curves.items()
            if curve["gflops"].iloc[0] < last and curve["gflops"].iloc[-1] > first
        }
    ranges = {method: (curve["gflops"].iloc[0], curve["gflops"].iloc[-1]) for method, curve in curves.items()}
    while ranges and not _shared(ranges)[0] < _shared(ranges)[1]:
        overlaps = {
            method: sum(start < last and end > first for start, end in ranges.values())
            for method, (first, last) in ranges.items()
            if method != base or len(ranges) == 1
        }
        del ranges[min(overlaps, key=lambda method: overlaps[method])]
    if not ranges:
        return pd.Series(dtype=float), (np.nan, np.nan)
    curves = {method: curves[method] for method in ranges}
    low, high = _shared(ranges)
    areas = {}
    for method, curve in curves.items():
        inside = curve["gflops"][(curve["gflops"] > low) & (curve["gflops"] < high)]
        budget = np.array([low, *inside, high])
        height = np.interp(budget, curve["gflops"], curve[metric])
        areas[method] = float(trapezoid(height, budget) / (high - low))
    return pd.Series(areas), (low, high)


def _shared(ranges: dict[str, tuple[float, float]]) -> tuple[float, float]:
    return max(first for first, _ in ranges.values()), min(last for _, last in ranges.values())


def _average_precision_interval(seeds: list[pd.DataFrame]) -> tuple[float, float]:
    scores = np.stack([np.stack(table["scores"].to_list()) for table in seeds])
    labels = np.broadcast_to(_label_matrix(seeds[0], scores.shape[2]), scores.shape)

    def statistic(values: np.ndarray) -> float:
        half = values.shape[2] // 2
        return float(np.mean([mean_average_precision(of[:, :half] > 0, of[:, half:]) for of in values]))

    return bootstrap_interval(np.concatenate([labels, scores], axis=2), statistic=statistic, resamples=200)


def _average_precision(table: pd.DataFrame) -> float:
    scores = np.stack(table["scores"].to_list())
    return mean_average_precision(_label_matrix(table, scores.shape[1]), scores)


def _label_matrix(table: pd.DataFrame, num_classes: int) -> np.ndarray:
    """bool [V, C]."""
    labels = np.zeros((len(table), num_classes), bool)
    for row, of_video in enumerate(table["labels"]):
        labels[row, list(of_video)] = True
    return labels
