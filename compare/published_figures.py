"""Figures that papers report, to lay under a curve of one's own on the same data set.

They stand in ``published_figures.csv``: accuracy in percent (mAP on ActivityNet and FCVID, top-1 on
Mini-Kinetics) and GFLOPs (multiply-adds) per video, from the papers' tables as reprinted with AdaFocusV2,
Uni-AdaFocus and FrameExit. A stronger recognizer moves every row: only methods over one recognizer can be
compared.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from video_env.errors import InputError, require_choice
from video_env.evaluation.budget import METRICS, Metric

FILE = Path(__file__).with_name("published_figures.csv")


def reported_figures(data: str, metric: Metric) -> pd.DataFrame:
    """Columns ``method``, ``accuracy`` in [0, 1] and ``gflops`` of one data set.

    Raises:
        InputError: no figures are known for that data set, or they are of another metric.
    """
    table = pd.read_csv(FILE)
    require_choice("overlay", data, tuple(table["data"].unique()))
    table = table[table["data"] == data]
    known = table["metric"].iloc[0]
    if metric != known:
        raise InputError(f"overlay: the figures on {data} are in {METRICS[known]}; add --metric {known}")
    return table.assign(accuracy=table["accuracy"] / 100)[["method", "accuracy", "gflops"]]
