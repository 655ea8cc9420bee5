"""Claims for people: a Markdown table, of one comparison or of several side by side."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from video_env.evaluation.differences import Estimate
from video_env.files import write_bytes


def write_claims(claims: pd.DataFrame, folder: Path) -> None:
    """Save ``claims.csv``, and ``claims.md`` for people; print each claim's verdict."""
    write_bytes(folder / "claims.csv", claims.to_csv(index=False).encode())
    write_bytes(folder / "claims.md", claims_page({"measured here": claims}).encode())
    print("\nthe papers' claims:")
    for row in claims.drop_duplicates("claim").to_dict("records"):
        note = f" ({row['claim_note']})" if row["claim_note"] else ""
        print(f"  {row['claim']:18} {row['claim_verdict']}{note}")


def claims_page(tables: Mapping[str, pd.DataFrame]) -> str:
    """Claims as a Markdown table: a row for each claim, and below it one for each of its measurements.

    Args:
        tables: what ``measure_claims`` gave, by what stands above the column: of one comparison or several.
    """
    lines = [
        f"| claim, and what was measured (95% interval) | {' | '.join(map(_text, tables))} |",
        f"| --- |{' --- |' * len(tables)}",
    ]
    everything = pd.concat(tables.values(), ignore_index=True)
    for name, claim in everything.groupby("claim", sort=False):
        first = claim.iloc[0]
        cells = [_verdict(table[table["claim"] == name]) for table in tables.values()]
        about = f"**{first['title']}** {first['source']}: {first['published']}"
        lines.append(f"| {about} | {' | '.join(cells)} |")
        for what in dict.fromkeys(claim["measure"]):
            found = [
                table[(table["claim"] == name) & (table["measure"] == what)].to_dict("records")
                for table in tables.values()
            ]
            only = "" if any(row["decides"] for rows in found for row in rows) else " (does not decide)"
            lines.append(f"| {_text(what)}{only} | {' | '.join(map(_measured, found))} |")
    return "\n".join(lines) + "\n"


def _verdict(rows: pd.DataFrame) -> str:
    """A claim's verdict in one table, with its note."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    note = _given(first.get("claim_note"))
    return f"**{first['claim_verdict']}**{f' ({note})' if note else ''}"


def _measured(rows: list[dict[Any, Any]]) -> str:
    """What came of a measurement in one table."""
    return "<br>".join(": ".join(filter(None, [_given(row["setting"]), _found(row)])) for row in rows)


def _found(row: Mapping[Any, Any]) -> str:
    estimate = format_estimate(Estimate(row["value"], row["low"], row["high"]), row["unit"])
    seeds = int(row["seeds"]) if _given(row.get("seeds")) else 0
    of = [f"{seeds} seed{'s' if seeds > 1 else ''}"] if seeds else []
    told = [_given(row.get(name)) for name in ("reason", "trainings")]
    return estimate + "".join(f"; {text}" for text in filter(None, [*of, *told]))


def _given(value: Any) -> str:
    """Text for a cell; empty for one that is missing, as in the tables of earlier versions."""
    return "" if value is None or value != value else _text(value)


def _text(value: object) -> str:
    """Text for a cell of a Markdown table, without a meaning for Markdown."""
    return re.sub(r"([\\|`*_\[\]#])", r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def format_estimate(estimate: Estimate, unit: str) -> str:
    """The number with its interval, in points, percent or times."""
    if np.isnan(estimate.value):
        return "not measured"
    if np.isnan(estimate.low):
        return f"{estimate.value:.2f} times (from one seed there is no interval)"
    if unit == "ratio":
        value, low, high = (f"{number:.2f}" for number in estimate)
        return f"{value} ({low} to {high}) times"
    value, low, high = (f"{100 * number:+.1f}" for number in estimate)
    return f"{value} ({low} to {high}) {'points' if unit == 'accuracy' else '%'}"
