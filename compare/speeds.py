"""How fast a run's points are: timed in turns when all tests are done, and written into their result tables.

What a call of ``compare`` tests is timed together. Points of earlier calls keep what was measured then; all
frames are timed in every call, so it is seen where two calls found the machine in different states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from video_env.cache.store import Cache
from video_env.evaluation.protocols import Entry
from video_env.evaluation.results import at_setting, join_results, read_results, write_results
from video_env.evaluation.rounds import APART
from video_env.evaluation.throughput import COLUMNS, Evaluated, with_speeds

TIMED_APART = "timed apart"


def is_timed(file: Path) -> bool:
    """Whether the points of a result table have been timed."""
    return set(COLUMNS) <= set(read_results(file))


def time_points(
    entries: Sequence[tuple[Path, Sequence[Entry], Cache]], split: str, device: str = "auto"
) -> None:
    """Time all points of result tables in turns, and write their speeds into the tables.

    Args:
        entries: result tables, with the points in each and the cache that they were tested on.
        split: whose videos.
        device: where networks run.
    """
    if not entries:
        return
    points: list[Evaluated] = []
    files: list[Path] = []
    for file, of_file, cache in entries:
        table = read_results(file)
        for entry in of_file:
            own = (table["method"] == entry.method) & at_setting(table, **entry.setting)
            points.append(Evaluated(entry, table[own], cache))
            files.append(file)
    tqdm.write(f"timing {len(points)} points in turns")
    timed = with_speeds(points, split, device)
    for file, _, _ in entries:
        parts = [table for table, its in zip(timed, files, strict=True) if its == file]
        write_results(join_results(parts), file)


def with_those_apart(results: pd.DataFrame) -> pd.DataFrame:
    """Results with a note at each point that was timed when the machine was in another state than for most:
    there all frames were faster, or slower, by more than a fifth."""
    if not set(COLUMNS) <= set(results):
        return results
    all_frames = results["videos_per_second"] / results["speed_over_all_frames"]
    usual = all_frames.groupby(results["machine"]).transform("median")
    notes = results["speed_note"].fillna("")
    apart = (np.abs(np.log(all_frames / usual)) > np.log(1 + APART)).to_numpy()
    noted = [
        ", ".join(filter(None, (note, TIMED_APART if far else "")))
        for note, far in zip(notes, apart, strict=True)
    ]
    return results.assign(speed_note=noted)
