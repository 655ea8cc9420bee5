"""The frames that methods chose, for programs that process only those."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.results import setting_columns, setting_of
from video_env.files import write_bytes


def write_selections(cache: Cache, results: pd.DataFrame, file: Path) -> None:
    """Write a JSON object per row of a result table, one on each line.

    ====================== ================================================================================
    ``video``              its id
    ``method``, ``title``  the method's id, and its name for people
    ``setting``            an object, such as ``{"num_frames": 2}``; empty for a method that has no setting
    ``seed``               the seed of the training
    ``frame_indices``      the chosen frames' numbers in the video file, from 0
    ``timestamps_seconds`` when each of them is shown
    ``patches``            of patch selection: (row, column) in [0, 1] of the patch in each of these frames
    ====================== ================================================================================

    Args:
        cache: the cache that the table was made on.
        results: a result table; join several first.
        file: where the lines go, written in one step.

    Raises:
        InputError: the table is about other videos than the cache's, or about more candidates.
    """
    own = cache.meta["build"]["annotations"]
    for data in results["data"].unique():
        if data != own:
            raise InputError(
                f"results: found videos {data}, but cache {cache.path} has {own}; expected the cache that "
                "the tables were made on"
            )
    indices, seconds = cache["frame_index"][:], cache["timestamp_seconds"][:]
    columns, lines = setting_columns(results), []
    for choice in results.to_dict("records"):
        row, frames = cache.row(choice["video"]), np.asarray(choice["selected"], dtype=int)
        if frames.size and frames.max() >= cache.num_candidates:
            raise InputError(
                f"results: {choice['method']} chose candidate {frames.max()} of {choice['video']}, cache "
                f"{cache.path} has {cache.num_candidates}; expected the cache that the tables were made on"
            )
        record = {name: choice[name] for name in ("video", "method", "title")}
        record |= {"setting": setting_of(choice, columns), "seed": choice["seed"]}
        record["frame_indices"] = indices[row, frames].tolist()
        record["timestamps_seconds"] = [round(float(value), 3) for value in seconds[row, frames]]
        if isinstance(choice.get("patches"), (list, np.ndarray)):
            record["patches"] = np.reshape(choice["patches"], (-1, 2)).round(4).tolist()
        lines.append(json.dumps(record))
    write_bytes(file.expanduser(), ("\n".join(lines) + "\n").encode())
