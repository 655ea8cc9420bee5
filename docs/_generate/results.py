"""Tables of saved results: the directives ``results`` and ``trainings``.

``{results} FILE`` shows rows of a comparison's summary. Each line names a method by its id; after a bar it
may name columns of the setting, as in ``uniform | num_frames = 2``. A line that fits no row is a warning.
``{trainings} FILE`` shows means over seeds, with the least and the largest value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _generate.tables import Cell, figure, table
from video_env.evaluation.labels import method_labels, setting_labels
from video_env.evaluation.results import setting_columns
from video_env.evaluation.tables import read_table

RESULTS = Path(__file__).parents[1] / "results"
LOGGER = logging.getLogger(__name__)
NAMES = {"title": "method", "top1": "top-1", "training_seconds": "training, s"}


class _OfFile(SphinxDirective):
    """A directive that shows a CSV file of ``docs/results``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = RESULTS / self.arguments[0]
        if not file.is_file():
            return self.warn(f"no file docs/results/{file.name}")
        self.env.note_dependency(str(file))
        return self.shown(read_table(file))

    def shown(self, frame: pd.DataFrame) -> list[nodes.Node]:
        raise NotImplementedError

    def warn(self, message: str) -> list[nodes.Node]:
        LOGGER.warning("%s %s: %s", self.name, self.arguments[0], message, location=self.get_location())
        return []

    def lacks(self, frame: pd.DataFrame, *columns: str) -> bool:
        """Warn of columns that are missing, and say whether there are such."""
        missing = [column for column in columns if column not in frame]
        if missing:
            self.warn(f"no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
        return bool(missing)

    def caption(self, text: str) -> list[Cell]:
        name = f"docs/results/{self.arguments[0]}"
        return [nodes.literal(name, name), f": {text}"]


class Results(_OfFile):
    """Rows of a ``summary.csv``: accuracy with its interval, cost, and what the training took."""

    has_content = True

    def shown(self, frame: pd.DataFrame) -> list[nodes.Node]:
        if self.lacks(frame, "method", "title", "seeds", "top1", "top1_low", "top1_high", "gflops", "frames"):
            return []
        parts = []
        for line in filter(None, map(str.strip, self.content)):
            method, _, setting = (part.strip() for part in line.partition("|"))
            fits = (frame["method"] == method) & _has_setting(frame, setting)
            if not fits.any():
                self.warn(f"no row of {line!r}; methods: {', '.join(frame['method'].unique())}")
            parts.append(frame[fits])
        rows = pd.concat(parts) if parts else frame
        rows = rows[~rows.index.duplicated()]
        if rows.empty:
            return []
        columns: dict[str, pd.Series] = {
            "method": rows["method"].map(method_labels(frame)),
            "setting": setting_labels(rows),
            "top-1 (95% interval)": rows.apply(
                lambda row: f"{row['top1']:.3f} ({row['top1_low']:.3f}–{row['top1_high']:.3f})", axis=1
            ),
            "GFLOPs per video": rows["gflops"].map(figure),
            "frames": rows["frames"].map(figure),
        }
        if "difference_to_uniform" in rows and rows["difference_to_uniform"].notna().any():
            columns["to uniform at equal GFLOPs"] = rows.apply(_difference, axis=1)
        for name, title, form in (
            ("share_of_oracle_gain", "of the oracle’s gain", lambda share: f"{share:.0%}".replace("-", "−")),
            ("training_seconds", "training, s", lambda seconds: f"{seconds:.0f}" if seconds else ""),
        ):
            if name in rows and rows[name].fillna(0).any():
                columns[title] = rows[name].map(form, na_action="ignore").fillna("")
        seeds = sorted(set(rows["seeds"]))
        text = f"test split, mean of {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}"
        cells = list(zip(*columns.values(), strict=True))
        return [table(list(columns), cells, texts=2, caption=self.caption(text))]


class Trainings(_OfFile):
    """Means of a file's columns by method, or by another column, with the least and the largest value.

    ``:by:`` is the column whose values become rows; ``:show:`` the columns to show, separated by semicolons.
    """

    option_spec: ClassVar[dict[str, Any]] = {
        "by": directives.unchanged_required,
        "show": directives.unchanged_required,
    }

    def shown(self, frame: pd.DataFrame) -> list[nodes.Node]:
        by = self.options["by"]
        columns = [column.strip() for column in self.options["show"].split(";")]
        if self.lacks(frame, by, "seed", *columns):
            return []
        rows = [
            [str(name), *(_spread(group[column]) for column in columns)]
            for name, group in frame.groupby(by, sort=False)
        ]
        header = [NAMES.get(by, by), *(NAMES.get(column, column.replace("_", " ")) for column in columns)]
        text = f"mean of {frame['seed'].nunique()} seeds (least–largest)"
        return [table(header, rows, caption=self.caption(text))]


def _has_setting(frame: pd.DataFrame, words: str) -> pd.Series:
    """Which rows have the values in ``num_frames = 2, patch_size = 36``; bool [rows]."""
    fits = pd.Series(True, frame.index)
    for part in filter(None, map(str.strip, words.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in setting_columns(frame):
            return pd.Series(False, frame.index)
        fits &= frame[name].astype(str).isin({value, f"{value}.0"})  # as pandas reads a column with gaps
    return fits


def _difference(row: pd.Series) -> str:
    """Signed, with its interval; empty where there is none."""
    if pd.isna(row["difference_to_uniform"]):
        return ""
    value, low, high = (row[f"difference_to_uniform{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−")


def _spread(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "never"
    text = figure(known.mean())
    if known.nunique() > 1:
        text += f" ({figure(known.min())}–{figure(known.max())})"
    return text if len(known) == len(values) else f"{text}, {len(known)} of {len(values)}"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("results", Results)
    app.add_directive("trainings", Trainings)
    return {"parallel_read_safe": True}
