"""The frames that methods chose, in files for programs that process only those.

| format | what it holds |
| --- | --- |
| `jsonl` | our own: an object per choice, one on each line; see ``write_selections`` |
| `csv` | the same as a table; lists are numbers between spaces |
| `frame-idx` | a JSON list: frame numbers of each video of the split, in the annotation file's order |
| `doc-id` | lines `{"doc_id", "index"}`: the video's number in that order, from 0, and its frames' |
| `frame-timestamps` | a JSON list of `{"id", "frame_timestamps"}`: the video's id, and seconds |

The last three are what programs of others read: AKS and TSPO, VideoITG, and KFS-Bench. They hold one choice
for each video.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from video_env.cache.store import Cache
from video_env.errors import InputError, require_choice
from video_env.evaluation.results import by_point, setting_columns, setting_of
from video_env.files import write_bytes

Format = Literal["jsonl", "csv", "frame-idx", "doc-id", "frame-timestamps"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write_selections(cache: Cache, results: pd.DataFrame, file: Path, format: Format = "jsonl") -> None:
    """Write the choices in a result table.

    ====================== ================================================================================
    ``video``              its id
    ``method``, ``title``  the method's id, and its name for people
    ``setting``            an object, such as ``{"num_frames": 2}``; empty for a method that has no setting
    ``seed``               the seed of the training
    ``frame_indices``      the chosen frames' numbers in the video file, from 0
    ``timestamps_seconds`` when each of them is shown
    ``frames_per_second``  mean rate of the file; null where the cache does not know it
    ``patches``            of patch selection: (row, column) in [0, 1] of the patch in each of these frames
    ====================== ================================================================================

    Args:
        cache: the cache that the table was made on.
        results: a result table; join several first.
        file: where they go, written in one step.
        format: see above.

    Raises:
        InputError: there is no such format; the table is about other videos than the cache's, or about more
            candidates; or it has several choices for a video, and the format has room for one.
    """
    require_choice("format", format, FORMATS)
    records = _records(cache, results)
    if format not in ("jsonl", "csv"):
        records = _one_each(cache, results, records, format)
    write_bytes(file.expanduser(), _WRITERS[format](records).encode())


def _records(cache: Cache, results: pd.DataFrame) -> list[dict[str, Any]]:
    own = cache.meta["build"]["annotations"]
    for data in results["data"].unique():
        if data != own:
            raise InputError(
                f"results: found videos {data}, but cache {cache.path} has {own}; expected the cache that "
                "the tables were made on"
            )
    rates = cache.index.get("frames_per_second")
    indices, seconds = cache["frame_index"][:], cache["timestamp_seconds"][:]
    columns, records = setting_columns(results), []
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
        record["frames_per_second"] = None if rates is None else round(float(rates.iloc[row]), 6)
        if isinstance(choice.get("patches"), (list, np.ndarray)):
            record["patches"] = np.reshape(choice["patches"], (-1, 2)).round(4).tolist()
        records.append(record)
    return records


def _one_each(
    cache: Cache, results: pd.DataFrame, records: list[dict[str, Any]], format: str
) -> list[dict[str, Any]]:
    """The only choice for each video of the split, in the annotation file's order, with its number there."""
    choices = sum(len(rows["seed"].unique()) for _, rows in by_point(results))
    if choices != 1:
        raise InputError(
            f"format {format}: found {choices} choices for each video (methods, settings and seeds), "
            "expected one; jsonl and csv take several"
        )
    if any("patches" in record for record in records):
        raise InputError(
            f"format {format}: found patches, expected chosen frames; jsonl and csv take patches"
        )
    found = {record["video"]: record for record in records}
    videos = cache.index["video"].to_numpy(object)[cache.rows(str(results["split"].iloc[0]))]
    if missing := [video for video in videos if video not in found]:
        raise InputError(f"format {format}: the results lack {named(missing)} of the split")
    return [{**found[video], "number": number} for number, video in enumerate(videos)]


def named(videos: list[str]) -> str:
    """Some videos for an error's message: how many, and the first of them."""
    first = ", ".join(map(str, videos[:3])) + (", ..." if len(videos) > 3 else "")
    return f"{len(videos)} video{'s' if len(videos) > 1 else ''} ({first})"


def _lines(objects: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def _csv(records: list[dict[str, Any]]) -> str:
    table = pd.DataFrame(records)
    table["setting"] = table["setting"].map(json.dumps)
    for name in ("frame_indices", "timestamps_seconds", "patches"):
        if name in table:
            table[name] = table[name].map(
                lambda values: (
                    " ".join(map(str, np.ravel(values).tolist())) if isinstance(values, list) else ""
                )
            )
    return table.to_csv(index=False)


_WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "jsonl": _lines,
    "csv": _csv,
    "frame-idx": lambda records: json.dumps([one["frame_indices"] for one in records]) + "\n",
    "doc-id": lambda records: _lines(
        [{"doc_id": one["number"], "index": one["frame_indices"]} for one in records]
    ),
    "frame-timestamps": lambda records: (
        json.dumps([{"id": one["video"], "frame_timestamps": one["timestamps_seconds"]} for one in records])
        + "\n"
    ),
}
