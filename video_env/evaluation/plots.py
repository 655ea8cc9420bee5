"""Pictures of saved numbers. Nothing is computed here."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator

from video_env.evaluation.budget import LARGE_GAP, METRICS, Metric
from video_env.evaluation.labels import method_labels, point_label
from video_env.evaluation.results import by_point
from video_env.files import writing

BOUND = "bound"
"""Family of methods that show what could be reached, such as the oracle. Their lines are dashed."""

# Each method has a marker of its own, so that lines differ without colour too.
_MARKERS = "osD^vP*X<>ph"
_COLOURS = matplotlib.color_sequences["tab20"][::2] + matplotlib.color_sequences["tab20"][1::2]


def plot_curve(
    summary: pd.DataFrame,
    file: Path,
    *,
    metric: Metric = "top1",
    title: str = "",
    reported: pd.DataFrame | None = None,
) -> Figure:
    """Accuracy against mean GFLOPs per video: a line per method, with 95% intervals, and a ring around points
    that are much better on training videos.

    Args:
        summary: by ``budget.summarise``.
        metric: the accuracy; the summary must hold its interval.
        file: where the picture goes.
        title: text above the picture.
        reported: numbers from papers to show too: columns ``method``, ``accuracy`` in [0, 1], ``gflops``.
    """
    figure = Figure(figsize=(8.5, 5.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    low, high = f"{metric}_low", f"{metric}_high"
    labels = method_labels(summary)
    for number, (method, group) in enumerate(summary.groupby("method", sort=False)):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        group = group.sort_values("gflops")
        below, above = group[metric] - group[low], group[high] - group[metric]
        axes.errorbar(
            group["gflops"], group[metric], yerr=np.clip([below, above], 0, None), label=labels[str(method)],
            color=colour, marker=marker, markersize=5, linewidth=1.5, elinewidth=0.9, capsize=2.5,
            linestyle="--" if (group["family"] == BOUND).all() else "-",
        )  # fmt: skip
    if (large := summary[summary["train_test_gap"] > LARGE_GAP]).size:
        axes.scatter(
            large["gflops"], large[metric], s=95, facecolors="none", edgecolors="0.35", linewidths=0.9,
            zorder=3, label=f"over {100 * LARGE_GAP:.0f} points better\non training videos",
        )  # fmt: skip
    costs, lowest, highest = summary["gflops"], summary[low].min(), summary[high].max()
    if reported is not None:
        axes.scatter(
            reported["gflops"], reported["accuracy"], color="0.55", marker="x", s=22, linewidths=1,
            label="published figures",
        )  # fmt: skip
        for point in reported.to_dict("records"):
            axes.annotate(
                point["method"], (point["gflops"], point["accuracy"]), fontsize=6, color="0.4",
                xytext=(3, 2), textcoords="offset points",
            )  # fmt: skip
        costs = pd.concat([costs, reported["gflops"]])
        lowest = min(lowest, reported["accuracy"].min())
        highest = max(highest, reported["accuracy"].max())
    fewest, seeds = int(summary["seeds"].min()), int(summary["seeds"].max())
    axes.set_xlabel("GFLOPs per video (multiply-adds, everything counted)")
    axes.set_ylabel(METRICS[metric])
    axes.set_ylim(max(0.0, lowest - 0.03), min(1.02, highest + 0.03))
    axes.grid(alpha=0.25)
    # A method that processes every frame costs ten times as much as the others, where the curves differ.
    if costs.max() > 4 * costs.median() or costs.max() > 20 * costs.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(
        (title + "\n" if title else "")
        + (f"mean of {seeds if fewest == seeds else f'{fewest} to {seeds}'} seeds" if seeds > 1 else "1 seed")
        + ", bars: 95% bootstrap interval",
        fontsize=10,
    )
    handles, names = axes.get_legend_handles_labels()
    lines_first = sorted(range(len(names)), key=lambda number: isinstance(handles[number], PathCollection))
    axes.legend(
        [handles[number] for number in lines_first], [names[number] for number in lines_first],
        fontsize=8, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False,
    )  # fmt: skip
    _save(figure, file)
    return figure


def plot_learning(learning: pd.DataFrame, file: Path) -> Figure:
    """Validation accuracy over training time: a line per training.

    Args:
        learning: columns ``method``, ``title``, ``family``, the setting's, ``seed``, ``seconds`` and
            ``validation``.
        file: where the picture goes.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    labels = method_labels(learning)
    for number, (point, trainings) in enumerate(by_point(learning)):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        for which, (_, curve) in enumerate(trainings.groupby("seed")):
            label = point_label(labels[point.method], point.setting) if which == 0 else None
            axes.plot(
                curve["seconds"], curve["validation"], color=colour, marker=marker, markersize=4,
                linewidth=1.2, label=label,
            )  # fmt: skip
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("top-1 accuracy, validation")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    _save(figure, file)
    return figure


def plot_selections(
    videos: list[tuple[str, np.ndarray, list[tuple[str, np.ndarray, bool | None]]]], file: Path
) -> Figure:
    """Filmstrips: each video's candidate frames, and under them the frames that each method chose.

    Args:
        videos: for each video a heading, its frames uint8 [T, H, W, 3], and rows of (label, bool [T] of the
            frames to mark, whether the prediction was right, or None where there is none).
        file: where the picture goes.
    """
    columns = max(len(frames) for _, frames, _ in videos)
    figure = Figure(dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-3.4, columns + 0.6)
    top = 0.0
    for heading, frames, methods in videos:
        axes.text(-3.3, top + 0.25, heading, fontsize=9, fontweight="bold", va="center")
        top += 0.45
        for index, frame in enumerate(frames):
            axes.imshow(frame, extent=(index + 0.04, index + 0.96, top + 0.92, top), aspect="auto")
        top += 0.96
        for name, marked, right in methods:
            colour = {True: "#26a65b", False: "#c0392b", None: "#7f8c8d"}[right]
            verdict = {True: " ✓", False: " ✗", None: ""}[right]
            axes.text(-0.1, top + 0.13, name + verdict, fontsize=8, ha="right", va="center", color=colour)
            for index in np.flatnonzero(marked).tolist():
                axes.add_patch(Rectangle((index + 0.04, top + 0.03), 0.92, 0.2, color=colour))
            top += 0.27
        top += 0.25
    axes.set_ylim(top, 0)
    figure.set_size_inches(2.6 + columns * 0.75, top * 0.8)
    _save(figure, file)
    return figure


def plot_patches(
    videos: list[tuple[str, np.ndarray, list[tuple[str, np.ndarray, bool]]]],
    file: Path,
    *,
    patch_share: float,
) -> Figure:
    """Where each method looked: a row of frames per method, with a patch in each frame.

    Args:
        videos: for each video a heading, its frames uint8 [T, H, W, 3], and rows of (label, (row, column) in
            [0, 1] of the patches in its first frames [n, 2], whether the prediction was right).
        file: where the picture goes.
        patch_share: side of a patch divided by the side of a frame.
    """
    columns = max(len(frames) for _, frames, _ in videos)
    rows = sum(0.45 + 1.04 * len(methods) for _, _, methods in videos)
    figure = Figure(figsize=(2.6 + columns * 0.75, rows * 0.75), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 0.0
    for heading, frames, methods in videos:
        axes.text(-3.3, top + 0.25, heading, fontsize=9, fontweight="bold", va="center")
        top += 0.45
        for name, points, right in methods:
            colour = "#26a65b" if right else "#c0392b"
            axes.text(-0.1, top + 0.5, name + (" ✓" if right else " ✗"), fontsize=8, ha="right", va="center",
                      color=colour)  # fmt: skip
            for index, frame in enumerate(frames):
                extent = (index + 0.02, index + 0.98, top + 0.98, top + 0.02)
                axes.imshow(frame, extent=extent, aspect="auto", alpha=1.0 if index < len(points) else 0.25)
            for index, (row, column) in enumerate(points):
                room = 0.96 * (1 - patch_share)
                corner = (index + 0.02 + column * room, top + 0.02 + row * room)
                side = 0.96 * patch_share
                axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.6))
            top += 1.04
    axes.set_xlim(-3.4, columns + 0.2)
    axes.set_ylim(top + 0.1, 0)
    _save(figure, file)
    return figure


def _save(figure: Figure, file: Path) -> None:
    """Save in the format of the file's suffix. All text stays as it is."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # "$" begins no formula
    with writing(file) as picture:
        figure.savefig(picture, format=file.suffix[1:] or "png")
