"""From result tables to what a person looks at: the printed table, summary.csv and curve.png."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from video_env.evaluation.budget import METRICS, Metric, area_under_curve, summarise
from video_env.evaluation.plots import plot_curve

# Tables and legends go from the simplest method to the bound; others stand before the bound, by name.
ORDER = ("uniform", "random", "centre", "motion", "single-frame confidence", "", "oracle", "all frames")


def _place(method: str) -> str:
    return f"{ORDER.index(method if method in ORDER else '')}{method}"


def write_summary(
    results: pd.DataFrame, out: Path, *, metric: Metric = "top1", title: str = ""
) -> pd.DataFrame:
    """Save ``summary.csv``, ``areas.csv`` and ``curve.png`` under ``out``, and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    summary = summarise(
        results.sort_values("method", key=lambda names: names.map(_place), kind="stable"), metric
    )
    summary.to_csv(out / "summary.csv", index=False)
    areas, (low, high) = area_under_curve(summary, metric)
    areas.rename_axis("method").rename("area").reset_index().assign(gflops_low=low, gflops_high=high).to_csv(
        out / "areas.csv", index=False
    )
    # Drawn from what was saved, so that the picture can be drawn again from the file alone.
    plot_curve(pd.read_csv(out / "summary.csv"), out / "curve.png", metric=metric, title=title)
    print(format_summary(summary))
    if len(areas):
        print(f"\narea under the curve, mean {METRICS[metric]} from {low:.4g} to {high:.4g} GFLOPs:")
        print(areas.sort_values(ascending=False).to_string(float_format="%.3f"))
    return summary


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
