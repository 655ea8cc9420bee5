"""Everything that is made of a run's result tables: joined table, trainings, summary, claims, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from compare.claims import measure_claims, write_claims
from compare.pictures import draw_pictures
from compare.run_folder import Run
from compare.speeds import with_those_apart
from compare.summary import write_summary
from video_env.errors import InputError
from video_env.evaluation.budget import Metric
from video_env.evaluation.plots import plot_learning
from video_env.evaluation.results import COLUMNS, join_results, read_results, write_results
from video_env.evaluation.tables import read_table
from video_env.files import write_bytes

ACCURACIES = (0.7, 0.8, 0.9)
"""On the validation split, whose training time ``training.csv`` states."""


def sum_up(run: Run, *, metric: Metric = "top1", overlay: str | None = None, all_lines: bool = False) -> Run:
    """Write all that a run's result tables say.

    Args:
        run: the comparison.
        metric: of curves and intervals.
        overlay: a data set whose published figures the curve shows too.
        all_lines: draw every method's line, not only those that are looked for first.

    Returns:
        The run as it is now.

    Raises:
        InputError: a result table cannot be read.
    """
    with run.alone():
        folder = run.folder
        files = [
            file
            for seed in run.seeds
            for name in run.methods
            if (file := folder / f"seed-{seed}" / "results" / f"{name}.parquet").is_file()
        ]
        results = with_those_apart(join_results([_read(file) for file in files], list(map(str, files))))
        write_results(results, folder / "results.parquet")
        trainings, learning = _trainings(files)
        write_bytes(folder / "training.csv", trainings.to_csv(index=False).encode())
        write_bytes(folder / "learning.csv", learning.to_csv(index=False).encode())
        if len(learning):
            plot_learning(read_table(folder / "learning.csv"), folder / "learning.png")
        write_summary(results, folder, metric=metric, title=run.title, overlay=overlay, all_lines=all_lines)
        write_claims(measure_claims(results), folder)
        draw_pictures(Run(folder))
        return Run(folder)


def _read(file: Path) -> pd.DataFrame:
    try:
        return read_results(file)
    except InputError as error:
        raise InputError(f"{error}; compare {file.stem} again, and it is made anew") from error


def _trainings(files: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each training beside these result tables, and a row for each time that one was validated."""
    rows: list[dict[str, Any]] = []
    learning: list[dict[str, Any]] = []
    for file in files:
        for training in _read_trainings(file.with_suffix(".json")):
            history = training.pop("history")
            reached = {
                f"seconds_to_{accuracy:g}": min(
                    (row["seconds"] for row in history if row["validation"] >= accuracy), default=None
                )
                for accuracy in ACCURACIES
            }
            of = {name: value for name, value in training.items() if name not in _OF_TRAINING}
            rows.append(
                {
                    **of, "stages": training["stages"], "num_settings": training["num_settings"],
                    "training_seconds": training["seconds"], **reached,
                }
            )  # fmt: skip
            learning += [{**of, **row} for row in history]
    return _table(rows, _LAST), _table(learning, ["seconds", "validation"])


def _read_trainings(file: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: cannot be read ({error}); compare {file.stem} again, and it is made anew"
        ) from error


_FIRST = ["method", "title", "family"]
_OF_TRAINING = ("seconds", "stages", "num_settings")
_LAST = [
    "stages", "num_settings", "training_seconds", *(f"seconds_to_{accuracy:g}" for accuracy in ACCURACIES)
]  # fmt: skip


def _table(rows: list[dict[str, Any]], last: list[str]) -> pd.DataFrame:
    """Method, setting, seed and then what was measured."""
    names = dict.fromkeys(name for row in rows for name in row)
    settings = [name for name in names if name not in COLUMNS and name not in last]
    return pd.DataFrame(rows, columns=[*_FIRST, *settings, "seed", *last])
