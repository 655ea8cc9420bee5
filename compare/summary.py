"""From result tables to what a person looks at: the printed table, summary.csv and curve.png."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baselines.sb3 import ALGORITHMS
from compare.published_figures import reported_figures
from video_env.evaluation.budget import METRICS, Metric, area_under_curve, summarise
from video_env.evaluation.plots import plot_curve
from video_env.evaluation.results import selects_patches
from video_env.evaluation.tables import read_table
from video_env.files import write_bytes

# Tables and legends go from the simplest method to the bound; others stand before the bound, by name.
ORDER = (
    "uniform", "random", "centre", "motion", "single-frame confidence", "early exit", "random patch",
    "centre patch", "most-moving patch", "", "patch oracle", "oracle", "all frames",
)  # fmt: skip


def in_order(results: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table in the order of their methods."""
    return results.sort_values("method", key=lambda names: names.map(_place), kind="stable")


def _place(method: str) -> str:
    return f"{ORDER.index(method if method in ORDER else ''):02d}{method}"


def write_summary(
    results: pd.DataFrame,
    out: Path,
    *,
    metric: Metric = "top1",
    title: str = "",
    overlay: str | None = None,
) -> pd.DataFrame:
    """Save ``summary.csv``, ``areas.csv`` and the curves under ``out``, and print the table.

    Args:
        results: result tables joined.
        out: folder.
        metric: what the curves, their intervals and the areas are of.
        title: stands above the curves.
        overlay: a data set whose published figures ``curve.png`` shows too.

    Raises:
        InputError: there are no such figures, or they are of another metric.
    """
    reported = None if overlay is None else reported_figures(overlay, metric)
    summary = summarise(in_order(results), metric)
    write_bytes(out / "summary.csv", summary.to_csv(index=False).encode())
    # Frames and patches are chosen over different ranges of budgets: each kind has its own shared range.
    of_patches_names = results["method"][selects_patches(results)].unique()
    of_patches = summary["method"].isin(of_patches_names)
    areas = pd.concat(
        _areas(summary[of_patches == kind], metric, base)
        for kind, base in ((False, "uniform"), (True, "random patch"))
    )
    write_bytes(out / "areas.csv", areas.to_csv(index=False).encode())
    # Drawn from what was saved, so that the picture can be drawn again from the file alone.
    saved = read_table(out / "summary.csv")
    for name, methods in _curves(list(saved["method"].unique()), set(of_patches_names)).items():
        plot_curve(
            saved[saved["method"].isin(methods)], out / name, metric=metric, title=title,
            reported=reported if name == "curve.png" else None,
        )  # fmt: skip
    print(format_summary(summary))
    for (low, high), group in areas.groupby(["gflops_low", "gflops_high"], sort=False):
        print(f"\narea under the curve, mean {METRICS[metric]} from {low:.4g} to {high:.4g} GFLOPs:")
        ranked = group.set_index("method")["area"].sort_values(ascending=False)
        print(ranked.to_string(float_format="%.3f"))
    return summary


def _curves(methods: list[str], of_patches: set[str]) -> dict[str, list[str]]:
    """Picture by picture, which methods it shows: frames, patches, and the algorithms of Stable-Baselines3,
    for one picture would have too many lines."""
    of_frames = [method for method in methods if method not in of_patches]
    algorithms = [name for name in of_frames if name.split(",")[0] in _SB3_TITLES]
    pictures = {"curve.png": methods}
    if of_frames and of_patches:
        bounds = {"all frames"}
        pictures = {
            "curve.png": [name for name in methods if name in {*of_frames, *_BESIDE_FRAMES}],
            "patch-curve.png": [name for name in methods if name in {*of_patches, *bounds}],
        }
    if len(algorithms) > len(_FAMILIAR):
        others = set(algorithms) - set(_FAMILIAR)
        pictures["curve.png"] = [name for name in pictures["curve.png"] if name not in others]
        beside = {*algorithms, "uniform", "OCSampler", "oracle"}
        pictures["sb3-curve.png"] = [name for name in methods if name in beside]
    return pictures


_SB3_TITLES = {algorithm.title for algorithm in ALGORITHMS.values()}
_FAMILIAR = ("PPO", "MaskablePPO")
_BESIDE_FRAMES = ("AdaFocus", "AdaFocusV2", "patch oracle")


def _areas(summary: pd.DataFrame, metric: Metric, base: str) -> pd.DataFrame:
    """Columns method, area, gflops_low, gflops_high: the range that all of them share."""
    areas, (low, high) = area_under_curve(summary, metric, base=base)
    table = areas.rename_axis("method").rename("area").reset_index()
    return table.assign(gflops_low=low, gflops_high=high)


def format_summary(summary: pd.DataFrame) -> str:
    """The summary as text: method, setting, top-1 with its interval, mAP, cost, gain and speed."""
    table = pd.DataFrame(
        {
            "method": summary["method"],
            "setting": summary["setting"],
            "top-1": summary["top1"].map("{:.3f}".format),
            **_interval(summary, "top1"),
            "mAP": summary["mean_average_precision"].map("{:.3f}".format),
            **_interval(summary, "mean_average_precision"),
            "frames": summary["frames"].map("{:.2f}".format),
            "GFLOPs/video": summary["gflops"].map("{:.4g}".format),
            "to uniform": [
                "" if pd.isna(value) else f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
                for value, low, high in zip(
                    *(summary[f"difference_to_uniform{end}"] for end in ("", "_low", "_high")), strict=True
                )
            ],
            "oracle gain": summary["share_of_oracle_gain"].map(
                lambda share: "" if pd.isna(share) else f"{share:.0%}"
            ),
            "videos/s": summary["videos_per_second"].map("{:.0f}".format),
        }
    )
    return table.to_string(index=False)


def _interval(summary: pd.DataFrame, metric: str) -> dict[str, list[str]]:
    """A column for the interval of the metric that has one."""
    if f"{metric}_low" not in summary:
        return {}
    ends = zip(summary[f"{metric}_low"], summary[f"{metric}_high"], strict=True)
    return {"95% interval": [f"{low:.3f}-{high:.3f}" for low, high in ends]}
