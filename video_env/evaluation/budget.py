"""Accuracy against budget: curves, areas and gains from result tables."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from video_env.evaluation.differences import difference_at_equal_cost, paired_curves
from video_env.evaluation.metrics import area_under_curve, bootstrap_interval, mean_average_precision
from video_env.evaluation.results import by_point, selects_patches, setting_columns, setting_of

Metric = Literal["top1", "mean_average_precision"]
METRICS = {"top1": "top-1", "mean_average_precision": "mAP"}
LARGE_GAP = 0.1
"""A method whose top-1 on training videos is better by more than this is marked."""
UNIFORM = ("uniform", "all-frames")
"""Ids of the curve of uniform frames: all candidates are its last point."""


def summarise(results: pd.DataFrame, metric: Metric = "top1") -> pd.DataFrame:
    """One row per method and setting, ordered by method and GFLOPs.

    Args:
        results: a result table; join several first.
        metric: the metric that gets intervals (those of mAP take a while).

    Returns:
        A table of means over videos and seeds, with these columns:

        ``method``, ``title``, ``family``, and a column for each part of the setting;
        ``seeds``, their number;
        ``top1``, ``mean_average_precision``, and the metric's name with ``_low`` and ``_high``, its 95%
        bootstrap interval over seeds and videos;
        ``gflops``, ``frames``, ``videos_per_second``, ``training_seconds``;
        where speeds were measured also ``videos_per_second_low``, ``videos_per_second_high``,
        ``speed_over_all_frames`` and ``speed_note``, all different notes of the seeds;
        ``top1_train``, a learned method's top-1 on training videos, and ``train_test_gap``, by how much that
        is more than ``top1``; missing for what is not learned; ``recognizer_gap``, the same of the recognizer
        on all frames of these videos;
        ``share_of_oracle_gain`` (see ``oracle_gain``), missing for patches;
        ``difference_to_uniform`` with ``_low`` and ``_high``: top-1 minus the top-1 of uniform frames (and of
        all frames) at equal GFLOPs, on the same seeds and videos (see ``differences``). It is missing where
        uniform was not tested with these seeds, or costs less in all of its settings.
    """
    rows, of_patches = [], []
    for point, group in by_point(results):
        of_patches.append(bool(selects_patches(group).any()))
        correct = group.pivot(index="seed", columns="video", values="correct").to_numpy(float)
        seeds = [of_seed.sort_values("video") for _, of_seed in group.groupby("seed")]
        if metric == "top1":
            low, high = bootstrap_interval(correct)
        else:
            low, high = _average_precision_interval(seeds)
        rows.append(
            {
                "method": point.method,
                "title": point.title,
                "family": point.family,
                **{name: point.setting.get(name) for name in setting_columns(results)},
                "seeds": len(correct),
                "top1": correct.mean(),
                "mean_average_precision": float(np.mean([_average_precision(table) for table in seeds])),
                f"{metric}_low": low,
                f"{metric}_high": high,
                "gflops": group["gflops"].mean(),
                "frames": group["frames"].mean(),
                "videos_per_second": group["videos_per_second"].mean(),
                **_speed(group),
                "training_seconds": group.groupby("seed")["training_seconds"].first().mean(),
                "top1_train": (trained := group.groupby("seed")["top1_train"].first().mean()),
                "train_test_gap": trained - correct.mean(),
                "recognizer_gap": group.groupby("seed")["recognizer_gap"].first().mean(),
            }
        )
    summary = pd.DataFrame(rows)
    # A patch shows less than its frame: the gain over whole frames is nothing to measure it by.
    gain = oracle_gain(summary).mask(np.array(of_patches))
    summary.insert(list(summary.columns).index("frames") + 1, "share_of_oracle_gain", gain)
    summary = summary.join(_differences_to_uniform(results, summary))
    order = {method: number for number, method in enumerate(summary["method"].unique())}
    return summary.sort_values(
        ["method", "gflops"], key=lambda column: column.map(order) if column.name == "method" else column
    ).reset_index(drop=True)


def _speed(group: pd.DataFrame) -> dict[str, Any]:
    """What is said of a point's speed beside the speed itself, as far as it was measured."""
    if "speed_note" not in group:
        return {}
    numbers = ("videos_per_second_low", "videos_per_second_high", "speed_over_all_frames")
    notes = dict.fromkeys(
        note for of_seed in group["speed_note"].dropna().unique() for note in of_seed.split(", ") if note
    )
    return {**{name: group[name].mean() for name in numbers}, "speed_note": ", ".join(notes)}


def _differences_to_uniform(results: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    names = ["difference_to_uniform", "difference_to_uniform_low", "difference_to_uniform_high"]
    found = pd.DataFrame(np.nan, index=summary.index, columns=names)
    columns = setting_columns(summary)
    for method, group in summary.groupby("method"):
        curves = None if method in UNIFORM else paired_curves(results, str(method), UNIFORM)
        if curves is None:
            continue
        mine, uniform = curves
        for row, of_point in zip(group.index, group.to_dict("records"), strict=True):
            point = mine.only(setting_of(of_point, columns))
            estimate = difference_at_equal_cost(point, uniform) if point.settings else None
            found.loc[row, names] = [np.nan] * 3 if estimate is None else list(estimate)
    return found


def oracle_gain(summary: pd.DataFrame, *, base: str = "uniform", best: str = "oracle") -> pd.Series:
    """Share of the oracle's gain over uniform frames that each row reaches, at its mean number of frames.

    (top-1 − uniform) / (oracle − uniform). Uniform and oracle are interpolated between their numbers of
    frames. The share is missing where one of them is not in the table, or was not tested so far.

    Args:
        summary: by ``summarise``.
        base, best: ids of the methods where the share is 0 and 1.
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


def areas(results: pd.DataFrame, summary: pd.DataFrame, metric: Metric = "top1") -> pd.DataFrame:
    """The area under every method's curve, over one range of costs that the data set fixes: from the
    recognizer's cost of one candidate frame to that of all of them (see ``metrics.area_under_curve``).

    Args:
        results: the result table that the summary is of.
        summary: by ``summarise``.
        metric: the height.

    Returns:
        Columns ``method``, ``title``, ``family``, ``area``, ``gflops_low``, ``gflops_high``, a row for each
        method. None where the costs of frames are not known, or all candidates are one.
    """
    costs = results.groupby("seed")[["one_frame_gflops", "all_frames_gflops"]].first().mean()
    low, high = map(float, costs)
    chance, columns = guess(results, metric), ["method", "title", "family", "area"]
    rows = [
        (
            *group[columns[:3]].iloc[0],
            area_under_curve(
                group["gflops"].to_numpy(), group[metric].to_numpy(), ends=(low, high), guess=chance
            ),
        )
        for _, group in (summary.groupby("method", sort=False) if 0 < low < high else ())
    ]
    return pd.DataFrame(rows, columns=columns).assign(gflops_low=low, gflops_high=high)


def guess(results: pd.DataFrame, metric: Metric = "top1") -> float:
    """What a guess without looking gives on the videos of a result table: of top-1 the share of the most
    frequent (first) label; of mAP, where all videos have the same scores, the mean share of the classes."""
    videos = results.drop_duplicates("video")
    if metric == "top1":
        return float(videos["labels"].map(lambda of_video: of_video[0]).value_counts(normalize=True).iloc[0])
    shares = _label_matrix(videos, len(videos["scores"].iloc[0])).mean(axis=0)
    return float(shares[shares > 0].mean())


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
