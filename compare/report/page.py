"""The report: one self-contained HTML page of a comparison, which opens without a network.

The page is the template ``page.html`` with the style sheet and the scripts beside it. Tables,
claims and commands are written into it as HTML; the curve's points and the videos are data in ``<script
type="application/json">`` blocks, which ``curve.js`` and ``gallery.js`` draw from (see
``compare.report.gallery`` for the videos). A content security policy in the page forbids every request and
every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from compare.report.gallery import gallery_blocks
from compare.run_folder import REPORT, Run
from video_env.errors import InputError
from video_env.evaluation.budget import METRICS
from video_env.evaluation.plots import BOUNDS
from video_env.evaluation.results import selects_patches
from video_env.files import write_bytes

MOST_VIDEOS = 2000
"""Shown by default; more make a large page."""

SCRIPTS = ("page.js", "curve.js", "gallery.js")
VERDICTS = {"reproduced": "good", "not reproduced": "bad", "undecided": "open"}


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and what its column is sorted by (a number, a name, or None for nothing)."""

    text: str
    sort: float | str | None


def write_report(run: Run, file: Path | None = None, *, videos: int | None = None) -> Path:
    """Write a comparison as one HTML page.

    Args:
        run: the comparison; tables that it does not have are left out.
        file: where the page goes; by default ``report.html`` in the run's folder.
        videos: how many of the split, from its first, the page shows; by default all, up to 2,000.

    Returns:
        The file.

    Raises:
        InputError: ``videos`` is negative, the run has no results, or these lack a video of the split.
    """
    if videos is not None and videos < 0:
        raise InputError(f"videos: found {videos}, expected 0 or more")
    file = file or run.folder / REPORT
    with run.alone(file):
        run = Run(run.folder)  # as it is now that nobody writes to it
        write_bytes(file, render(run, MOST_VIDEOS if videos is None else videos).encode(errors="replace"))
    return file


def render(run: Run, videos: int) -> str:
    """The page's text; see ``write_report``."""
    if not (run.folder / "results.parquet").is_file():
        raise InputError(f"{run.folder}: holds no results yet; run the command that began it again")
    results, summary = run.results, run.table("summary")
    kinds = method_kinds(results)
    order = list(dict.fromkeys((results if summary is None else summary)["method"]))
    gallery = gallery_blocks(run, [(name, kinds[name]) for name in order], videos) if videos else {}
    blocks = {**({} if summary is None else {"curve": curve_data(summary, kinds)}), **gallery}
    style, script = source("page.css"), "\n".join(source(name) for name in SCRIPTS)
    return _template().render(
        run=run,
        facts=_facts(run, results, summary),
        metrics=[] if summary is None else [name for name in METRICS if name in summary],
        summary=None if summary is None else summary_table(summary),
        areas=_plain_table(run.table("areas"), titles={
            "method": "method", "area": "area, mean accuracy", "gflops_low": "from GFLOPs",
            "gflops_high": "to GFLOPs",
        }),
        training=_plain_table(run.table("training")),
        claims=_claims(run.table("claims")),
        has_videos=bool(gallery),
        settings_text=lambda settings: json.dumps(settings, indent=1, ensure_ascii=False),
        blocks=[(name, json_text(value)) for name, value in blocks.items()],
        style=Markup(style), style_hash=_hash(style),
        script=Markup(script), script_hash=_hash(script),
    )  # fmt: skip


def method_kinds(results: pd.DataFrame) -> dict[str, str]:
    """By method, whether it chooses ``frames`` or ``patches``."""
    methods = results["method"].unique()
    of_patches = set(results["method"][selects_patches(results)])
    return {method: "patches" if method in of_patches else "frames" for method in methods}


def curve_data(summary: pd.DataFrame, kinds: dict[str, str]) -> dict[str, Any]:
    """What ``curve.js`` draws: the metrics by title, and each method with its points, ordered by GFLOPs.

    A point's ``values`` are, by metric, the value and its interval's ends (None where it has none).
    """
    metrics = {name: title for name, title in METRICS.items() if name in summary}

    def point(row: dict[Any, Any]) -> dict[str, Any]:
        values = {
            name: [_number(row.get(key)) for key in (name, f"{name}_low", f"{name}_high")] for name in metrics
        }
        numbers = {name: _number(row.get(name)) for name in ("gflops", "frames", "videos_per_second")}
        return {"setting": str(row["setting"]), "values": values, **numbers}

    methods = [
        {
            "name": method,
            "kind": kinds.get(str(method), "frames"),
            "bound": method in BOUNDS,
            "points": [point(row) for row in group.sort_values("gflops").to_dict("records")],
        }
        for method, group in summary.groupby("method", sort=False)
    ]
    return {"metrics": metrics, "methods": methods}


def summary_table(summary: pd.DataFrame) -> dict[str, Any]:
    """The summary's columns and rows, as far as it has them."""
    columns: dict[str, list[Cell]] = {
        "method": [Cell(str(name), str(name)) for name in summary["method"]],
        "setting": [Cell(str(name), _setting_key(str(name))) for name in summary["setting"]],
    }
    for name, title in METRICS.items():
        if name in summary:
            columns[title] = _cells(summary[name], "{:.3f}")
        if f"{name}_low" in summary:
            columns[f"{title}, 95% interval"] = _intervals(summary, name, "{:.3f}")
    if "difference_to_uniform" in summary:
        columns["to uniform"] = _cells(summary["difference_to_uniform"], "{:+.3f}")
        if "difference_to_uniform_low" in summary:
            columns["to uniform, 95% interval"] = _intervals(summary, "difference_to_uniform", "{:+.3f}")
    for name, title, form in (
        ("share_of_oracle_gain", "share of the oracle's gain", "{:.0%}"),
        ("frames", "frames", "{:.2f}"),
        ("gflops", "GFLOPs a video", "{:.4g}"),
        ("videos_per_second", "videos/s", "{:,.0f}"),
        ("training_seconds", "training, s", "{:,.0f}"),
        ("seeds", "seeds", "{:.0f}"),
    ):
        if name in summary:
            columns[title] = _cells(summary[name], form)
    return {"columns": list(columns), "rows": list(zip(*columns.values(), strict=True))}


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

    settings = len(results[["method", "setting"]].drop_duplicates())
    return [
        f"{run.split} split",
        count(results["video"].nunique(), "video"),
        count(results["method"].nunique(), "method"),
        count(settings, "setting"),
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
    }


def _setting_key(setting: str) -> str:
    """Sorts settings by the first number in them."""
    number = re.search(r"\d+(\.\d+)?", setting)
    return f"{float(number[0]):020.9f} {setting}" if number else setting


def _plain_table(table: pd.DataFrame | None, titles: dict[str, str] | None = None) -> dict[str, Any] | None:
    """Any table: names as they are, numbers in four digits."""
    if table is None or table.empty:
        return None
    names = [name for name in titles or table.columns if name in table]
    columns = {
        (titles or {}).get(name, str(name).replace("_", " ")): _cells(table[name], "{:,.4g}")
        if pd.api.types.is_numeric_dtype(table[name])
        else [Cell(_text(value), _text(value)) for value in table[name]]
        for name in names
    }
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
