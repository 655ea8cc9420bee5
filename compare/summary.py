"""From result tables to what people look at: the printed table, ``summary.csv``, ``areas.csv``, the curves.

Tables and pictures know methods by id and family. Which methods a picture shows is decided here alone, by
``methods_shown``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from compare.published_figures import reported_figures
from compare.remarks import remarks
from video_env.evaluation.budget import LARGE_GAP, METRICS, UNIFORM, Metric, areas, guess, summarise
from video_env.evaluation.labels import method_labels, setting_labels
from video_env.evaluation.plots import BOUND, plot_curve
from video_env.evaluation.results import selects_patches
from video_env.evaluation.tables import read_table
from video_env.files import write_bytes

FIRST = (
    "uniform", "random", "centre", "motion", "single-frame-confidence", "early-exit", "random-patch",
    "centre-patch", "most-moving-patch",
)  # fmt: skip
LAST = ("patch-oracle", "oracle", "all-frames")
"""Tables and legends begin and end with these ids. Between them stand all others, by family and id."""

LINES = 8
"""A picture with more lines than these is hard to read."""

HEADLINE = (
    "uniform", "ocsampler", "adafocus-v2", "oracle", "all-frames", "adafocus", "ocsampler-budget",
    "adafocus-v2-exit", "patch-oracle", "random-patch",
)  # fmt: skip
"""What a reader of the papers looks for first, the most wanted before the others."""

FILLING = ("maskable-ppo", "random", "most-moving-patch", "patch-ppo")
"""The first to be shown where the headline leaves lines free."""

MARK = " !"
"""Behind a gap between training and test that is too large."""

SB3, HEURISTIC = "stable-baselines3", "heuristic"
OWN_FAMILIES = {HEURISTIC, BOUND, SB3, "ocsampler", "adafocus", "adafocus-v2"}
"""Families of this package's methods."""

# Of a comparison with frames and patches: what the picture of one kind shows of the other kind.
BESIDE_FRAMES = ("adafocus", "adafocus-v2", "adafocus-v2-exit", "patch-oracle")
BESIDE_PATCHES = ("all-frames",)
BESIDE_SB3 = ("uniform", "ocsampler", "oracle")


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table ordered by method: the simplest first, bounds last."""
    places = [_place(*pair) for pair in zip(table["method"], table["family"], strict=True)]
    return table.iloc[sorted(range(len(table)), key=places.__getitem__)]


def _place(method: str, family: str) -> tuple[int, str, str]:
    for part, ids in ((0, FIRST), (3, LAST)):
        if method in ids:
            return part, f"{ids.index(method):02d}", ""
    if family in (HEURISTIC, BOUND):
        return (0 if family == HEURISTIC else 2), "99", method
    return 1, family, method


def methods_shown(table: pd.DataFrame, *, lines: int = LINES) -> list[str]:
    """Ids of the methods that a picture shows where not all lines are asked for, in the table's order.

    Where a table has more methods than lines, they are taken in this order: uniform frames; methods that
    are not of this package, because whoever adds one wants to see it; ``HEADLINE``; ``FILLING``; the others.

    Args:
        table: a result table, or a summary.
        lines: how many at most.
    """
    families = _families(table)
    added = [method for method, family in families.items() if family not in OWN_FAMILIES]
    wanted = dict.fromkeys([HEADLINE[0], *added, *HEADLINE, *FILLING, *families])
    taken = [method for method in wanted if method in families][:lines]
    return [method for method in families if method in taken]


def write_summary(
    results: pd.DataFrame,
    out: Path,
    *,
    metric: Metric = "top1",
    title: str = "",
    overlay: str | None = None,
    all_lines: bool = False,
    training: pd.DataFrame | None = None,
    learning: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Save ``summary.csv``, ``areas.csv`` and the curves in a folder, and print the table.

    Args:
        results: a result table; join several first.
        out: the folder.
        metric: the accuracy of curves, intervals and areas.
        title: text above the curves.
        overlay: a data set whose published figures ``curve.png`` shows too.
        all_lines: draw every method, not only ``methods_shown``.
        training, learning: of these methods, where they are known; see ``remarks``.

    Raises:
        InputError: there are no such figures, or they are of another metric.
    """
    reported = None if overlay is None else reported_figures(overlay, metric)
    summary = summarise(in_order(results), metric)
    write_bytes(out / "summary.csv", summary.to_csv(index=False).encode())
    found = areas(results, summary, metric)
    write_bytes(out / "areas.csv", found.to_csv(index=False).encode())
    patch_methods = set(results["method"][selects_patches(results)])
    # Drawn from the saved file, so that the file alone is enough to draw the picture again.
    saved = read_table(out / "summary.csv")
    for name, methods in curves(saved, patch_methods, all_lines=all_lines).items():
        plot_curve(
            saved[saved["method"].isin(methods)], out / name, metric=metric, title=title,
            reported=reported if name == "curve.png" else None,
        )  # fmt: skip
    print(format_summary(summary))
    if why := why_no_difference(summary):
        print(why)
    for line in remarks(results, training, learning):
        print(line)
    print("\n" + format_areas(found, metric, guess(results, metric)))
    return summary


def curves(table: pd.DataFrame, of_patches: set[str], *, all_lines: bool = False) -> dict[str, list[str]]:
    """By picture, the ids of the methods that it shows.

    ``curve.png`` shows methods that choose frames, ``patch-curve.png`` those that choose patches; each shows
    a few of the other kind for comparison. Where only one kind is there, all is in ``curve.png``.
    ``sb3-curve.png`` has all algorithms of Stable-Baselines3 that choose frames, where these are more than
    two.

    Args:
        table: a result table, or a summary.
        of_patches: ids of the methods that choose patches.
        all_lines: show every method, not only ``methods_shown``.
    """
    families = _families(table)
    frames, patches = (
        [method for method in families if (method in of_patches) == kind] for kind in (False, True)
    )
    pictures = {"curve.png": list(families)}
    if frames and patches:
        pictures = {
            "curve.png": [method for method in families if method in {*frames, *BESIDE_FRAMES}],
            "patch-curve.png": [method for method in families if method in {*patches, *BESIDE_PATCHES}],
        }
    if not all_lines:
        pictures = {
            name: methods_shown(table[table["method"].isin(methods)]) for name, methods in pictures.items()
        }
    algorithms = [method for method in frames if families[method] == SB3]
    if len(algorithms) > 2:
        pictures["sb3-curve.png"] = [method for method in families if method in {*algorithms, *BESIDE_SB3}]
    return pictures


def _families(table: pd.DataFrame) -> dict[str, str]:
    """By method's id its family, in the table's order."""
    first = table.drop_duplicates("method")
    return dict(zip(map(str, first["method"]), map(str, first["family"]), strict=True))


def format_areas(found: pd.DataFrame, metric: Metric, chance: float) -> str:
    """The areas as text, best first."""
    if found.empty:
        return "area under the curve: none, the cost of one frame and of all is not known"
    low, high = found[["gflops_low", "gflops_high"]].iloc[0]
    ranked = found.set_index(found["method"].map(method_labels(found)))["area"].sort_values(ascending=False)
    return (
        f"area under the curve: mean {METRICS[metric]} from the cost of one frame to that of all, {low:.4g} "
        f"to {high:.4g} GFLOPs, logarithmic; a guess gives {chance:.3f}\n"
        + ranked.rename_axis(None).to_string(float_format="%.3f")
    )


def why_no_difference(summary: pd.DataFrame) -> str:
    """One line that says why rows have no difference to uniform; empty where no row misses one."""
    others = summary[~summary["method"].isin(UNIFORM)]
    missing = others[others["difference_to_uniform"].isna()]
    if missing.empty:
        return ""
    uniform = summary[summary["method"].isin(UNIFORM)]
    if uniform.empty:
        return "to uniform: empty, because uniform is not among the methods"
    dearest = uniform["gflops"].max()
    dearer = missing["gflops"] > dearest
    reasons = []
    if dearer.any():
        reasons.append(f"costs more than the {dearest:.4g} GFLOPs up to which uniform was tested")
    if not dearer.all():
        reasons.append("has no seed in common with uniform")
    return f"to uniform: empty where a method {' or '.join(reasons)}"


def format_summary(summary: pd.DataFrame) -> str:
    """The summary as text: method, setting, top-1 and mAP, the interval, cost, gains and speed."""
    table = pd.DataFrame(
        {
            "method": summary["method"].map(method_labels(summary)),
            "setting": setting_labels(summary),
            "top-1": summary["top1"].map("{:.3f}".format),
            **_interval(summary, "top1"),
            **gaps(summary),
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
            "videos/s": speeds(summary),
        }
    )
    return table.to_string(index=False)


def speeds(summary: pd.DataFrame) -> list[str]:
    """Videos per second, with the middle half of the rounds and the reason where they are to be taken with
    care; empty where they were not measured."""
    texts = []
    for row in summary.to_dict("records"):
        text = "" if pd.isna(row["videos_per_second"]) else f"{row['videos_per_second']:,.0f}"
        if not pd.isna(note := row.get("speed_note", "")) and note and text:
            ends = (row[f"videos_per_second_{end}"] for end in ("low", "high"))
            text = f"{text} ({'-'.join(f'{end:,.0f}' for end in ends)}: {note})"
        texts.append(text)
    return texts


def gaps(summary: pd.DataFrame) -> dict[str, list[str]]:
    """Of learned methods, top-1 on training videos and by how much that is more, with a mark where it is much
    more; no columns where nothing was learned."""
    if summary["top1_train"].isna().all():
        return {}
    trained = ["" if pd.isna(value) else f"{value:.3f}" for value in summary["top1_train"]]
    gap = [
        "" if pd.isna(value) else f"{value:+.3f}{MARK if value > LARGE_GAP else ''}"
        for value in summary["train_test_gap"]
    ]
    return {"training": trained, "gap": gap}


def _interval(summary: pd.DataFrame, metric: str) -> dict[str, list[str]]:
    """The interval's column, of the metric that has one."""
    if f"{metric}_low" not in summary:
        return {}
    ends = zip(summary[f"{metric}_low"], summary[f"{metric}_high"], strict=True)
    return {"95% interval": [f"{low:.3f}-{high:.3f}" for low, high in ends]}
