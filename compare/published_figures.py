"""Numbers that papers report, to draw beside your own curve on the same data set.

``published_figures.csv`` holds accuracy in percent (mAP on ActivityNet and FCVID, top-1 on Mini-Kinetics) and
GFLOPs (multiply-adds) per video, from the tables of AdaFocusV2, Uni-AdaFocus and FrameExit. A stronger
recognizer raises every number, so only methods with the same recognizer can be compared.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from video_env.errors import InputError, require_choice
from video_env.evaluation.budget import METRICS, Metric

FILE = Path(__file__).with_name("published_figures.csv")


def reported_figures(data: str, metric: Metric) -> pd.DataFrame:
    """The numbers of one data set: columns ``method``, ``accuracy`` in [0, 1] and ``gflops``.

    Args:
        data: a data set of ``published_figures.csv``, such as ``activitynet``.
        metric: the accuracy that they must be of.

    Raises:
        InputError: there are no numbers for the data set, or they are of another metric.
    """
    table = pd.read_csv(FILE)
    require_choice("overlay", data, tuple(table["data"].unique()))
    table = table[table["data"] == data]
    known = table["metric"].iloc[0]
    if metric != known:
        raise InputError(f"overlay: the figures on {data} are in {METRICS[known]}; add --metric {known}")
    return table.assign(accuracy=table["accuracy"] / 100)[["method", "accuracy", "gflops"]]
