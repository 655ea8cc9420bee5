"""What is known of videos before any is opened, in one table; and the CSV file that says it in our columns.

Lists that other projects publish are read by ``video_env.data.lists``; ``video_env.data.reading`` chooses.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from video_env.data.labels import class_list, number_labels
from video_env.errors import InputError

RESERVED = ("labels", "num_frames", "frames_per_second", "damaged")
SPLITS = ("train", "validation", "test")
SPLIT_SYNONYMS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


@dataclass(frozen=True)
class Annotations:
    """What is known of the videos before any is opened.

    Attributes:
        table: one row per video with the columns ``video`` (unique id), ``path`` (relative to
            ``videos``), ``label`` (int, an index into ``classes``) and ``split``; ``labels`` (a list of
            int, the first of them being ``label``) where the set is multi-label; ``start`` and
            ``end`` in seconds where only a part of the file counts; and the file's other columns.
        classes: the classes' names.
        videos: the folder that holds the video files.
        notes: what reading has left out or taken for granted, a line each.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    videos: Path
    notes: tuple[str, ...] = ()

    @property
    def videos_per_split(self) -> dict[str, int]:
        """How many videos each split has, of those that it has."""
        counts = self.table["split"].value_counts()
        return {split: int(counts[split]) for split in SPLITS if split in counts}

    @property
    def classes_without_training(self) -> tuple[str, ...]:
        """The names of the classes that no training video is of."""
        training = self.table[self.table["split"] == "train"]
        labels = training["labels"].explode() if "labels" in training else training["label"]
        seen = set(labels)
        return tuple(name for number, name in enumerate(self.classes) if number not in seen)

    @property
    def files_in_several_splits(self) -> dict[str, tuple[str, ...]]:
        """The files that stand in more than one split, under different ids, with these splits."""
        pairs = self.table[["path", "split"]].drop_duplicates()
        several = pairs[pairs["path"].duplicated(keep=False)]
        return {str(path): tuple(splits) for path, splits in several.groupby("path", sort=False)["split"]}

    def summary(self) -> list[str]:
        """What reading has found, and what may be a mistake, a line each."""
        counts = ", ".join(f"{count} {split}" for split, count in self.videos_per_split.items())
        classes = f"classes: {len(self.classes)}"
        if not all(map(str.isdecimal, self.classes)):
            classes += f" ({first_few([f'{number} {name}' for number, name in enumerate(self.classes)])})"
        lines = [*self.notes, f"videos: {counts}; {classes}"]
        if "train" not in self.videos_per_split:
            lines.append("no training video")
        elif without := self.classes_without_training:
            lines.append(f"classes without a training video: {len(without)} ({first_few(without)})")
        if several := self.files_in_several_splits:
            named = [f"{path} in {' and '.join(splits)}" for path, splits in several.items()]
            lines.append(f"files in more than one split: {len(several)} ({first_few(named)})")
        return lines


def read_csv(
    file: str | Path,
    videos: str | Path,
    classes: str | Path | Sequence[str] | None = None,
    *,
    taken_below: int = 0,
) -> Annotations:
    """Read a CSV file with the columns ``video, path, label, split`` and any others.

    A label is a class's name or number; several, separated by semicolons, make the set multi-label.
    Whole numbers are kept as they are (the classes are 0 to the largest); names are numbered in
    alphabetical order; a mixture needs a list of the classes. ``start`` and ``end`` are optional seconds.
    Ids and names stay the text that they are. Columns that mean nothing to this package stay in the table and
    in the cache's index.

    Args:
        file: the CSV file.
        videos: the folder of the video files.
        classes: the classes' names, or a file with one per line: labels are names in it, or numbers into it.
        taken_below: numbers below this are taken however few labels there are, without such a list.

    Raises:
        InputError: the file is missing, empty or lacks a column, or a row is at fault; the message
            names the file, the row (the header being row 1) and what was expected.
    """
    file, videos = Path(file).expanduser(), Path(videos).expanduser()
    if not file.is_file():
        raise InputError(f"annotation file {file}: no such file")
    if not videos.is_dir():
        raise InputError(f"videos folder {videos}: no such folder")
    try:
        with warnings.catch_warnings():
            # pandas would drop the fields beyond the header's and go on.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                file, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
            )
    except (
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        UnicodeDecodeError,
    ) as error:
        raise InputError(f"annotation file {file}: not a readable CSV file ({error})") from error
    missing = [column for column in ("video", "path", "label", "split") if column not in table]
    if missing:
        raise InputError(
            f"annotation file {file}: no column {', '.join(missing)}; found {', '.join(table.columns)}, "
            "expected video, path, label, split"
        )
    reserved = [column for column in RESERVED if column in table]
    if reserved:
        raise InputError(
            f"annotation file {file}: column {', '.join(reserved)} has a meaning of its own in the cache's "
            "index; rename it"
        )
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"annotation file {file}: no rows below the header, expected at least one")
    _require(file, table["video"] != "", table["video"], "column video", "a name")
    duplicated = table["video"].duplicated()
    _require(file, ~duplicated, table["video"], "column video", "a name that no other row has")
    table["split"] = table["split"].str.strip().str.lower().replace(SPLIT_SYNONYMS)
    _require(file, table["split"].isin(SPLITS), table["split"], "column split", ", ".join(SPLITS))
    inside = pd.Series([inside_folder(path) for path in table["path"]], table.index)
    _require(file, inside != "", table["path"], "column path", f"a path inside {videos}")
    table["path"] = inside
    if "sha256" in table:
        good = table["sha256"].str.fullmatch("([0-9a-fA-F]{64})?")
        _require(file, good, table["sha256"], "column sha256", "64 hexadecimal digits, or nothing")
    for column in {"start", "end"} & set(table.columns):
        seconds = pd.to_numeric(table[column].replace("", None), errors="coerce")
        good = (table[column] == "") | ((seconds >= 0) & (seconds < float("inf")))
        _require(file, good, table[column], f"column {column}", "seconds, or nothing")
        table[column] = seconds
    if {"start", "end"} <= set(table.columns):
        good = ~(table["start"] >= table["end"])
        _require(file, good, table["start"], "column start", "less than column end")
    listed = None if classes is None else class_list(classes)
    labels, names = _labels(file, table["label"], listed, taken_below)
    table["label"] = [first for first, *_ in labels]
    if any(len(of_video) > 1 for of_video in labels):
        table["labels"] = labels
    return Annotations(table.reset_index(drop=True), names, videos)


def _labels(
    file: Path, column: pd.Series, classes: tuple[str, ...] | None, taken_below: int
) -> tuple[list[list[int]], tuple[str, ...]]:
    """The label numbers of every row, and the classes' names."""
    names = [list(dict.fromkeys(filter(None, map(str.strip, cell.split(";"))))) for cell in column]
    named = pd.Series([bool(of_video) for of_video in names], column.index)
    _require(file, named, column, "column label", "a class's name or number")

    def where(position: int) -> str:
        return f"annotation file {file}, row {int(column.index[position]) + 2}, column label"

    return number_labels(names, where, classes, taken_below=taken_below)


def first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def inside_folder(path: str) -> str:
    """The path relative to the videos folder, or nothing where it leaves the folder.

    Links inside the folder may lead elsewhere: whoever made them chose to.
    """
    normal = os.path.normpath(path.strip()) if path.strip() and "\0" not in path else ".."
    return "" if Path(normal).parts[0] in ("..", "/") or normal == "." else normal


def _require(file: Path, good: pd.Series, values: pd.Series, where: str, expected: str) -> None:
    if good.all():
        return
    position = int((~good.to_numpy()).argmax())
    raise InputError(
        f"annotation file {file}, row {int(good.index[position]) + 2}, {where}: "
        f"found {str(values.iloc[position])!r}, expected {expected}"
        + (f" ({(~good).sum()} rows like this)" if (~good).sum() > 1 else "")
    )
