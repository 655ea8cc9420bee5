"""Result tables: what a row says, and how tables are written, read and joined.

A result table has one row per video:

| column | meaning |
| --- | --- |
| `method` | the method's id, such as `ocsampler-budget` |
| `title` | the name that people read, such as `OCSampler, budget` |
| `family` | the group it belongs to, such as `ocsampler`; `bound` for references: oracles and all frames |
| `num_frames`, `cost_per_gflop`, `patch_size`, ... | the setting, its point on the curve: a column each |
| `seed` | the seed of the training |
| `split`, `data` | the videos: their split, and a fingerprint of the annotations |
| `video`, `label`, `prediction`, `correct`, `confidence` | the verdict on the frames or patches chosen |
| `labels` | all labels; with several, the columns above are about the first one, and mAP is about all |
| `gflops` | 10^9 multiply-adds of everything that ran for this video, the selector included |
| `frames`, `selected` | how many frames were processed (one that is chosen twice counts twice), and which |
| `patches` | of patch selection: (row, column) in [0, 1] of the patch in each processed frame, in a row |
| `exit_after` | of patch selection: the number of frames after which the video was left |
| `scores` | class probabilities, for mAP |
| `videos_per_second` | of the whole method, from decoded frames: the median of rounds; see `throughput` |
| `videos_per_second_low`, `videos_per_second_high` | the middle half of the rounds |
| `speed_note` | why the speed is to be taken with care: `rounds disagree`, `busy machine`, `timed apart` |
| `speed_over_all_frames` | over that of the recognizer's network on all candidates, in the same rounds |
| `training_seconds` | time of the method's own training |
| `top1_train` | a learned method's top-1 on training videos (at most 400), the same in all rows of a point |
| `recognizer_gap` | likewise, by how much the recognizer is better on these training videos, on all frames |
| `recognizer` | fingerprint of the comparison's recognizer, which all tables of one seed must share |
| `one_frame_gflops`, `all_frames_gflops` | the recognizer's cost of one candidate, and of all of them |
| `machine` | where it was tested; speeds of different machines are not compared |

All other columns belong to the setting, except those that summaries add (``COLUMNS`` lists them). They are
empty for methods that have no such setting. A method and its setting are a *point*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from video_env.errors import InputError
from video_env.files import write_bytes

Setting = Mapping[str, int | float | str | bool]
"""A point on a method's curve: the setting's columns by name."""

COLUMNS = frozenset({
    "method", "title", "family", "seed", "split", "data", "video", "label", "prediction", "correct",
    "confidence", "labels", "gflops", "frames", "selected", "patches", "exit_after", "scores",
    "videos_per_second", "videos_per_second_low", "videos_per_second_high", "speed_note",
    "speed_over_all_frames", "training_seconds", "machine", "source", "top1_train", "recognizer",
    "recognizer_gap", "one_frame_gflops", "all_frames_gflops",
    # Of what is made of result tables: summary, areas, trainings, learning.
    "seeds", "top1", "top1_low", "top1_high", "mean_average_precision", "mean_average_precision_low",
    "mean_average_precision_high", "share_of_oracle_gain", "difference_to_uniform",
    "difference_to_uniform_low", "difference_to_uniform_high", "area", "gflops_low", "gflops_high", "stages",
    "num_settings", "seconds", "validation", "history", "train_test_gap", "ended", "score", "updates",
    "steps", "best_validation",
    # Text in the tables beside them.
    "path", "reason", "setting", "claim", "measure", "unit",
})  # fmt: skip
"""Names that no setting may have."""

NEEDED = (
    "method", "title", "family", "seed", "split", "data", "video", "labels", "correct", "gflops", "frames",
    "scores", "videos_per_second", "training_seconds", "top1_train", "recognizer_gap",
    "recognizer", "one_frame_gflops", "all_frames_gflops",
)  # fmt: skip


def is_setting_name(name: str) -> bool:
    """Whether a column of this name belongs to the setting."""
    return name not in COLUMNS and not name.startswith("seconds_to_")


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a table that make up the setting, in its order."""
    names = map(str, table.columns)
    return [name for name in names if name not in COLUMNS and not name.startswith("seconds_to_")]


def point_columns(table: pd.DataFrame) -> list[str]:
    """The columns that tell points apart: the method and its setting. Group by them with ``dropna=False``."""
    return ["method", *setting_columns(table)]


def setting_of(row: Mapping[Any, Any], columns: Sequence[str]) -> dict[str, Any]:
    """A row's setting: its values in these columns, without the empty ones.

    A whole number is an ``int``: joined tables hold floats in a column that some methods do not have.
    """
    return {name: _plain(row[name]) for name in columns if not pd.isna(row[name])}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Point(NamedTuple):
    """A method at a setting."""

    method: str
    title: str
    family: str
    setting: dict[str, Any]


def by_point(table: pd.DataFrame) -> Iterator[tuple[Point, pd.DataFrame]]:
    """Each point with its rows, in order of appearance."""
    columns = setting_columns(table)
    for _, rows in table.groupby(points_of(table), sort=False):
        first = rows.iloc[0].to_dict()
        method, title, family = (str(first[name]) for name in ("method", "title", "family"))
        yield Point(method, title, family, setting_of(first, columns)), rows


def points_of(table: pd.DataFrame) -> pd.Series:
    """Of each row, the number of its point in order of appearance, int [rows]."""
    return table.groupby(point_columns(table), sort=False, dropna=False).ngroup()


def at_setting(table: pd.DataFrame, **setting: Any) -> pd.Series:
    """Of each row, whether it has exactly this setting and nothing beside it, bool [rows]."""
    found = pd.Series(True, table.index)
    for name in setting_columns(table):
        found &= table[name] == setting[name] if name in setting else table[name].isna()
    return found & (set(setting) <= set(setting_columns(table)))


def selects_patches(results: pd.DataFrame) -> pd.Series:
    """Of each row of result tables, whether patches were selected in it, not whole frames; bool."""
    if "exit_after" not in results:
        return pd.Series(False, results.index)
    return results["exit_after"].notna()


def write_results(table: pd.DataFrame, file: Path) -> None:
    """Write a result table as parquet, in one step.

    Raises:
        InputError: a setting has numbers and words in one column.
    """
    try:
        data = table.to_parquet(index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"{file}: found values of different kinds in one column ({error})") from error
    write_bytes(file.expanduser(), data)


def read_results(*paths: Path) -> pd.DataFrame:
    """Join the result tables in these files and folders.

    Raises:
        InputError: there is none, one is no result table, or they do not belong together; see
            ``join_results``.
    """
    paths = tuple(path.expanduser() for path in paths)
    files = [
        file for path in paths for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])
    ]
    for path in paths:
        if not path.exists():
            raise InputError(f"results {path}: no such file or folder")
    if not files:
        raise InputError(f"no result tables (*.parquet) in {', '.join(map(str, paths))}")
    tables = []
    for file in files:
        try:
            table = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise InputError(f"result table {file}: cannot be read ({error})") from error
        if {"method", "setting"} <= set(table) and "family" not in table:
            raise InputError(
                f"result table {file}: of an earlier version, whose settings were words; evaluate again"
            )
        if missing := [name for name in NEEDED if name not in table]:
            raise InputError(
                f"result table {file}: no column {', '.join(missing)}; it is no result table, or an earlier "
                "version wrote it: then evaluate again"
            )
        if table[["method", "title", "family"]].isna().any(axis=None):
            raise InputError(f"result table {file}: a row lacks its method, title or family")
        tables.append(table)
    return join_results(tables, [str(file) for file in files])


def join_results(tables: Sequence[pd.DataFrame], sources: Sequence[str] | None = None) -> pd.DataFrame:
    """One result table from several.

    Args:
        tables: by ``evaluate``.
        sources: where each is from, for messages.

    Raises:
        InputError: they are of different data or splits, tables of one seed are of different recognizers, or
            a method, setting and seed is in two.
    """
    sources = [f"table {number}" for number in range(len(tables))] if sources is None else sources
    for name in ("data", "split"):
        found = {
            str(value): source
            for table, source in zip(tables, sources, strict=True)
            for value in table[name].unique()
        }
        if len(found) > 1:
            listed = "; ".join(f"{value} in {source}" for value, source in found.items())
            raise InputError(f"result tables of different {name} cannot be compared: {listed}")
    joined = pd.concat(
        [table.assign(source=source) for table, source in zip(tables, sources, strict=True)],
        ignore_index=True,
    )
    joined = joined[_in_order(joined)]
    _require_one_recognizer(joined)
    for name in setting_columns(joined):
        known = joined[joined[name].notna()]
        words = known[name].map(lambda value: isinstance(value, str))
        if words.any() and not words.all():
            kinds = [known[words == kind].iloc[0] for kind in (True, False)]
            raise InputError(
                f"result tables: {name} is a word for {kinds[0]['method']} in {kinds[0]['source']}, and a "
                f"number for {kinds[1]['method']} in {kinds[1]['source']}; rename one, and delete its table"
            )
    key = [*point_columns(joined), "seed", "video"]
    twice = joined[joined.duplicated(key, keep=False)]
    if len(twice):
        row = twice.iloc[0].to_dict()
        setting = ", ".join(f"{k} {v}" for k, v in setting_of(row, setting_columns(joined)).items())
        raise InputError(
            f"result tables: {', '.join(filter(None, (row['method'], setting)))}, seed {row['seed']} is in "
            f"{' and '.join(twice['source'].unique())}; give one of them another name"
        )
    return joined.drop(columns="source")


def _require_one_recognizer(joined: pd.DataFrame) -> None:
    """Seeds may have a recognizer each: a study trains one for every seed. Within one, methods are compared
    video by video, and a better recognizer would count as a better choice of frames."""
    known = joined.drop_duplicates(["seed", "recognizer"])
    for seed, found in known.groupby("seed"):
        if len(found) > 1:
            listed = "; ".join(
                f"{row.recognizer} of {row.method} in {row.source}" for row in found.itertuples()
            )
            raise InputError(
                f"result tables of seed {seed}: found different recognizers, expected one, since a better "
                f"recognizer raises whatever it judges: {listed}. Evaluate these methods on one cache"
            )


def _in_order(table: pd.DataFrame) -> list[str]:
    """Columns with the setting's after the family, wherever a joined table brought them in."""
    first = ["method", "title", "family"]
    settings = setting_columns(table)
    return [*first, *settings, *(name for name in map(str, table.columns) if name not in (*first, *settings))]
