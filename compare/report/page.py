"""The report: a comparison as one HTML page that opens without a network.

The template ``page.html`` takes up the style sheet and the scripts of this folder. Tables, claims and
commands become HTML. The curve's points and the videos are data, in ``<script type="application/json">``
blocks that ``curve.js`` and ``gallery.js`` draw from (``compare.report.gallery`` makes those of the videos).
The page's content security policy forbids all requests, and all scripts but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from compare.remarks import remarks
from compare.report.gallery import gallery_blocks
from compare.run_folder import REPORT, Run
from compare.summary import BESIDE_PATCHES, gaps, in_order, methods_shown, speeds, why_no_difference
from video_env.errors import InputError
from video_env.evaluation.budget import LARGE_GAP, METRICS
from video_env.evaluation.labels import method_labels, setting_label, setting_labels
from video_env.evaluation.plots import BOUND
from video_env.evaluation.results import (
    points_of,
    selects_patches,
    setting_columns,
    setting_of,
)
from video_env.files import write_bytes

MOST_VIDEOS = 2000
"""Videos on the page by default: with more it becomes large."""

SCRIPTS = ("page.js", "curve.js", "gallery.js")
VERDICTS = {"reproduced": "good", "not reproduced": "bad", "undecided": "open"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and the key that sorts its column. An empty cell has the key None."""

    text: str
    sort: float | str | None


def write_report(run: Run, file: Path | None = None, *, videos: int | None = None) -> Path:
    """Write a comparison as one HTML page.

    Args:
        run: the comparison. Tables that it does not have are left out.
        file: where the page goes; by default ``report.html`` in the run's folder.
        videos: the page shows the first so many of the split; by default all, up to 2,000.

    Returns:
        The file.

    Raises:
        InputError: ``videos`` is negative, the run has no results, or they lack a video of the split.
    """
    if videos is not None and videos < 0:
        raise InputError(f"videos: found {videos}, expected 0 or more")
    file = file or run.folder / REPORT
    with run.alone(file):
        run = Run(run.folder)  # read again: until now somebody else may have written to it
        write_bytes(file, render(run, MOST_VIDEOS if videos is None else videos).encode(errors="replace"))
    return file


def render(run: Run, videos: int) -> str:
    """The page's text; see ``write_report``."""
    if not (run.folder / "results.parquet").is_file():
        raise InputError(f"{run.folder}: holds no results yet; run the command that began it again")
    results, summary = run.results, run.table("summary")
    kinds = method_kinds(results)
    order = dict.fromkeys((results if summary is None else summary)["method"])
    gallery = gallery_blocks(run, {method: kinds[method] for method in order}, videos) if videos else {}
    blocks = {**({} if summary is None else {"curve": curve_data(summary, kinds)}), **gallery}
    style, script = source("page.css"), "\n".join(source(name) for name in SCRIPTS)
    return _template().render(
        run=run,
        facts=_facts(run, results, summary),
        metrics=[] if summary is None else [name for name in METRICS if name in summary],
        summary=None if summary is None else summary_table(summary),
        no_difference=_no_difference(summary),
        has_large_gaps=summary is not None and bool((summary["train_test_gap"] > LARGE_GAP).any()),
        remarks=remarks(in_order(results), run.table("training"), run.table("learning")),
        areas=_plain_table(run.table("areas"), headings={
            "area": "area, mean accuracy", "gflops_low": "from GFLOPs", "gflops_high": "to GFLOPs",
        }),
        training=_plain_table(run.table("training"), headings={"num_settings": "settings"}),
        claims=_claims(run.table("claims")),
        has_videos=bool(gallery),
        settings_text=lambda settings: json.dumps(settings, indent=1, ensure_ascii=False),
        blocks=[(name, json_text(value)) for name, value in blocks.items()],
        style=Markup(style), style_hash=_hash(style),
        script=Markup(script), script_hash=_hash(script),
    )  # fmt: skip


def method_kinds(results: pd.DataFrame) -> dict[str, str]:
    """By method's id ``frames`` or ``patches``: what it chooses."""
    methods = results["method"].unique()
    of_patches = set(results["method"][selects_patches(results)])
    return {method: "patches" if method in of_patches else "frames" for method in methods}


def curve_data(summary: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, Any]:
    """What ``curve.js`` draws: the metrics by title, and each method with its points, ordered by GFLOPs.

    A method's ``shows`` has, by kind of methods that the reader asks for (``all``, ``frames``, ``patches``),
    whether its line is on at first; a kind that it does not belong to is missing. ``look`` numbers its
    colour and marker. A point's ``values`` are, by metric, the value and its interval's ends (None where
    there is none).
    """
    metrics = {name: title for name, title in METRICS.items() if name in summary}
    labels, columns = method_labels(summary), setting_columns(summary)
    of_kind = {
        "all": list(labels),
        "frames": [method for method in labels if kinds.get(method) != "patches"],
        "patches": [
            method for method in labels if kinds.get(method) == "patches" or method in BESIDE_PATCHES
        ],
    }
    on = {kind: methods_shown(summary[summary["method"].isin(of_kind[kind])]) for kind in of_kind}
    # Lines that are on at first get the first looks, so that those seen together have colours of their own.
    first = [*on["all"], *on["patches"], *on["frames"]]
    looks = {method: look for look, method in enumerate(dict.fromkeys([*first, *labels]))}

    def point(row: dict[Any, Any]) -> dict[str, Any]:
        values = {
            name: [_number(row.get(key)) for key in (name, f"{name}_low", f"{name}_high")] for name in metrics
        }
        numbers = {
            name: _number(row.get(name)) for name in ("gflops", "frames", "videos_per_second", "top1_train")
        }
        return {
            "setting": setting_label(setting_of(row, columns)), "values": values, **numbers,
            "large_gap": bool(row["train_test_gap"] > LARGE_GAP),
        }  # fmt: skip

    methods = [
        {
            "id": method,
            "label": labels[method],
            "bound": bool((group["family"] == BOUND).all()),
            "look": looks[method],
            "shows": {kind: method in on[kind] for kind in of_kind if method in of_kind[kind]},
            "points": [point(row) for row in group.sort_values("gflops").to_dict("records")],
        }
        for method, group in ((str(id), group) for id, group in summary.groupby("method", sort=False))
    ]
    return {"metrics": metrics, "methods": methods}


def summary_table(summary: pd.DataFrame) -> dict[str, Any]:
    """The summary's columns and rows, as far as it has them."""
    columns: dict[str, list[Cell]] = _point_cells(summary)
    for name, title in METRICS.items():
        if name in summary:
            columns[title] = _cells(summary[name], "{:.3f}")
        if f"{name}_low" in summary:
            columns[f"{title}, 95% interval"] = _intervals(summary, name, "{:.3f}")
    for (title, texts), name in zip(gaps(summary).items(), ("top1_train", "train_test_gap"), strict=False):
        columns[f"top-1, {title} videos" if name == "top1_train" else title] = [
            Cell(text or "–", _number(value)) for text, value in zip(texts, summary[name], strict=True)
        ]
    if "difference_to_uniform" in summary:
        columns["to uniform"] = _cells(summary["difference_to_uniform"], "{:+.3f}")
        if "difference_to_uniform_low" in summary:
            columns["to uniform, 95% interval"] = _intervals(summary, "difference_to_uniform", "{:+.3f}")
    for name, title, form in (
        ("share_of_oracle_gain", "share of the oracle's gain", "{:.0%}"),
        ("frames", "frames", "{:.2f}"),
        ("gflops", "GFLOPs per video", "{:.4g}"),
        ("videos_per_second", "videos/s", "{:,.0f}"),
        ("training_seconds", "training, s", "{:,.0f}"),
        ("seeds", "seeds", "{:.0f}"),
    ):
        if name in summary:
            columns[title] = _cells(summary[name], form)
    if "videos/s" in columns:
        with_notes = zip(columns["videos/s"], speeds(summary), strict=True)
        columns["videos/s"] = [Cell(text or cell.text, cell.sort) for cell, text in with_notes]
    return {"columns": list(columns), "rows": list(zip(*columns.values(), strict=True))}


def _point_cells(table: pd.DataFrame) -> dict[str, list[Cell]]:
    """Method and, where the table has settings, setting. Settings sort by their values, column by column."""
    labels = table["method"].map(method_labels(table))
    cells = {"method": [Cell(label, label) for label in labels]}
    if columns := setting_columns(table):
        order = table.reset_index(drop=True).sort_values(columns, kind="stable").index
        place = dict(zip(order, range(len(table)), strict=True))
        cells["setting"] = [
            Cell(label, f"{place[row]:06d}" if label else None)
            for row, label in enumerate(setting_labels(table))
        ]
    return cells


def _no_difference(summary: pd.DataFrame | None) -> str:
    if summary is None or "difference_to_uniform" not in summary:
        return ""
    return why_no_difference(summary)


def json_text(value: Any) -> Markup:
    """JSON that may stand in a script block: no character of it can end the block or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def source(name: str) -> str:
    """A file beside this one."""
    return (files("compare.report") / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source("page.html"))


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(run: Run, results: pd.DataFrame, summary: pd.DataFrame | None) -> list[str]:
    """The line under the title."""

    def count(number: int, name: str) -> str:
        return f"{number:,} {name}{'' if number == 1 else 's'}"

    return [
        f"{run.split} split",
        count(results["video"].nunique(), "video"),
        count(results["method"].nunique(), "method"),
        count(points_of(results).nunique(), "setting"),
        count(results["seed"].nunique(), "seed"),
        f"video-env {run.record['version']}",
    ]


def _claims(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """The claims in their order, each with its measurements, and how many have which verdict."""
    if table is None or table.empty:
        return None
    claims: list[dict[str, Any]] = []
    for name, group in table.groupby("claim", sort=False):
        first = group.iloc[0]
        verdict = _text(first["claim_verdict"])
        claims.append(
            {
                "id": name,
                **{key: _text(first[key]) for key in ("title", "source", "published")},
                "verdict": verdict,
                "badge": VERDICTS.get(verdict, "none"),
                "note": _text(first.get("claim_note")),
                "measurements": [_measurement(row) for row in group.to_dict("records")],
            }
        )
    counts = Counter(claim["verdict"] for claim in claims)
    tally = [(verdict, VERDICTS.get(verdict, "none"), number) for verdict, number in counts.items()]
    return {"claims": claims, "tally": tally}


_UNITS = {"accuracy": "{:.3f}", "share": "{:.1%}", "ratio": "{:.2f}×"}


def _measurement(row: dict[Any, Any]) -> dict[str, str]:
    form = _UNITS.get(_text(row["unit"]), "{:.4g}")
    value, low, high = (_number(row[name]) for name in ("value", "low", "high"))
    interval = "" if low is None or high is None else f" ({form.format(low)} to {form.format(high)})"
    verdict = _text(row["verdict"])
    return {
        "measure": _text(row["measure"]),
        "setting": _text(row["setting"]),
        "value": "–" if value is None else form.format(value) + interval,
        "verdict": verdict if row["decides"] else "does not decide",
        "badge": VERDICTS.get(verdict, "none") if row["decides"] else "none",
        "seeds": "" if (seeds := _number(row.get("seeds"))) is None else f"{seeds:g}",
        "reason": _text(row.get("reason")),
        "trainings": _text(row.get("trainings")),
    }


def _plain_table(table: pd.DataFrame | None, headings: Mapping[str, str]) -> dict[str, Any] | None:
    """Any table of methods: its points in words, numbers in four digits.

    Args:
        table: the table; None gives None.
        headings: by column, where they are not its name.
    """
    if table is None or table.empty:
        return None
    columns = _point_cells(table)
    named = {"method", "title", "family", *setting_columns(table)}
    for name in (name for name in map(str, table.columns) if name not in named):
        heading = headings.get(name, name.replace("_", " "))
        columns[heading] = (
            _cells(table[name], "{:,.4g}")
            if pd.api.types.is_numeric_dtype(table[name])
            else [Cell(_text(value), _text(value)) for value in table[name]]
        )
    return {"columns": list(columns), "rows": list(zip(*columns.values(), strict=True))}


def _cells(values: pd.Series, form: str) -> list[Cell]:
    numbers = [_number(value) for value in values]
    return [Cell("–" if number is None else form.format(number), number) for number in numbers]


def _intervals(table: pd.DataFrame, name: str, form: str) -> list[Cell]:
    """Sorted by the interval's lower end."""
    ends = [
        tuple(map(_number, pair)) for pair in zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    ]
    return [
        Cell("–", None) if low is None or high is None else Cell(f"{form} to {form}".format(low, high), low)
        for low, high in ends
    ]


def _number(value: Any) -> float | None:
    """None for what is missing or not finite, which JSON cannot say."""
    return float(value) if value is not None and math.isfinite(value) else None


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
