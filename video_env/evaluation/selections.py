"""The frames chosen, for programs that want to process just those."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.files import write_bytes


def write_selections(cache: Cache, results: pd.DataFrame, file: Path) -> None:
    """Write one JSON object per line and row of a result table: ``video, method, setting, seed``,
    ``frame_indices`` (positions in the video file, from 0) and ``timestamps_seconds``; of patch selection
    also ``patches``, the (row, column) in [0, 1] of the patch in each of these frames.

    Args:
        cache: the one that the table was made on.
        results: result tables joined.
        file: written in one step.

    Raises:
        InputError: the table is of other videos than the cache's, or of more candidates.
    """
    own = cache.meta["build"]["annotations"]
    for data in results["data"].unique():
        if data != own:
            raise InputError(
                f"results: are of videos {data}, cache {cache.path} has {own}; expected the cache that the "
                "tables were made on"
            )
    indices, seconds = cache["frame_index"][:], cache["timestamp_seconds"][:]
    lines = []
    for choice in results.to_dict("records"):
        row, frames = cache.row(choice["video"]), np.asarray(choice["selected"], dtype=int)
        if frames.size and frames.max() >= cache.num_candidates:
            raise InputError(
                f"results: {choice['method']} chose candidate {frames.max()} of {choice['video']}, cache "
                f"{cache.path} has {cache.num_candidates}; expected the cache that the tables were made on"
            )
        record = {name: choice[name] for name in ("video", "method", "setting", "seed")}
        record["frame_indices"] = indices[row, frames].tolist()
        record["timestamps_seconds"] = [round(float(value), 3) for value in seconds[row, frames]]
        if isinstance(choice.get("patches"), (list, np.ndarray)):
            record["patches"] = np.reshape(choice["patches"], (-1, 2)).round(4).tolist()
        lines.append(json.dumps(record))
    write_bytes(file, ("\n".join(lines) + "\n").encode())
