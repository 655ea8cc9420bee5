"""Accuracy against budget: curves, areas and gains, computed from result tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from video_env.evaluation.metrics import bootstrap_interval, mean_average_precision


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """One row per method and setting, ordered by method and GFLOPs.

    Args:
        results: result tables joined.

    Returns:
        Columns ``method, setting, seeds, top1, top1_low, top1_high`` (95% bootstrap interval over
        seeds and videos), ``mean_average_precision, gflops, frames, share_of_oracle_gain`` (see
        ``oracle_gain``), ``videos_per_second, training_seconds``, all means over videos and seeds.
    """
    rows = []
    for (method, setting), group in results.groupby(["method", "setting"], sort=False):
        correct = group.pivot(index="seed", columns="video", values="correct").to_numpy(float)
        low, high = bootstrap_interval(correct)
        precisions = [_average_precision(of_seed) for _, of_seed in group.groupby("seed")]
        rows.append(
            {
                "method": method,
                "setting": setting,
                "seeds": len(correct),
                "top1": correct.mean(),
                "top1_low": low,
                "top1_high": high,
                "mean_average_precision": float(np.mean(precisions)),
                "gflops": group["gflops"].mean(),
                "frames": group["frames"].mean(),
                "videos_per_second": group["videos_per_second"].mean(),
                "training_seconds": group.groupby("seed")["training_seconds"].first().mean(),
            }
        )
    summary = pd.DataFrame(rows)
    summary.insert(9, "share_of_oracle_gain", oracle_gain(summary))
    order = {method: number for number, method in enumerate(summary["method"].unique())}
    return summary.sort_values(
        ["method", "gflops"], key=lambda column: column.map(order) if column.name == "method" else column
    ).reset_index(drop=True)


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
    summary: pd.DataFrame, *, base: str = "uniform"
) -> tuple[pd.Series, tuple[float, float]]:
    """Mean height of each method's accuracy curve over the budget range that all of them cover.

    Methods with fewer than two settings, or whose range does not overlap that of ``base``, are left out.

    Returns:
        The area by method, divided by the width of the range, and the range in GFLOPs.
    """
    curves = {
        method: group.sort_values("gflops")
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
    if not curves:
        return pd.Series(dtype=float), (np.nan, np.nan)
    low = max(curve["gflops"].iloc[0] for curve in curves.values())
    high = min(curve["gflops"].iloc[-1] for curve in curves.values())
    if not low < high:
        return pd.Series(np.nan, list(curves)), (low, high)
    areas = {}
    for method, curve in curves.items():
        inside = curve["gflops"][(curve["gflops"] > low) & (curve["gflops"] < high)]
        budget = np.array([low, *inside, high])
        height = np.interp(budget, curve["gflops"], curve["top1"])
        areas[method] = float(trapezoid(height, budget) / (high - low))
    return pd.Series(areas), (low, high)


def _average_precision(table: pd.DataFrame) -> float:
    scores = np.stack(table["scores"].to_list())
    labels = np.zeros(scores.shape, bool)
    for row, of_video in enumerate(table["labels"]):
        labels[row, list(of_video)] = True
    return mean_average_precision(labels, scores)
