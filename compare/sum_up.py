"""Everything that is made of a run's result tables: joined table, trainings, summary, claims, pictures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from compare.claims import measure_claims
from compare.claims_page import write_claims
from compare.pictures import draw_pictures
from compare.run_folder import Run
from compare.speeds import with_those_apart
from compare.summary import write_summary
from compare.trainings import learning_table, read_trainings, training_table
from video_env.errors import InputError
from video_env.evaluation.budget import Metric
from video_env.evaluation.plots import plot_learning
from video_env.evaluation.results import join_results, read_results, write_results
from video_env.evaluation.tables import read_table
from video_env.files import write_bytes


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
        trainings = read_trainings(files)
        trained, learning = training_table(trainings), learning_table(trainings)
        write_bytes(folder / "training.csv", trained.to_csv(index=False).encode())
        write_bytes(folder / "learning.csv", learning.to_csv(index=False).encode())
        if len(learning):
            plot_learning(read_table(folder / "learning.csv"), folder / "learning.png")
        write_summary(
            results, folder, metric=metric, title=run.title, overlay=overlay, all_lines=all_lines,
            training=trained, learning=learning,
        )  # fmt: skip
        write_claims(measure_claims(results, trainings), folder)
        draw_pictures(Run(folder))
        return Run(folder)


def _read(file: Path) -> pd.DataFrame:
    try:
        return read_results(file)
    except InputError as error:
        raise InputError(f"{error}; compare {file.stem} again, and it is made anew") from error
