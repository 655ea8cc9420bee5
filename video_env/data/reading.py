"""Annotation files of any known format to one table: which format it is, and where the videos are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from video_env.data.annotations import SPLIT_SYNONYMS, SPLITS, Annotations, first_few, read_csv
from video_env.data.labels import class_list, number_labels
from video_env.data.listed_files import ListedFiles
from video_env.data.lists import LISTS, Row, guess
from video_env.errors import InputError

FORMATS = ("auto", "csv", *LISTS)


def read_annotations(
    annotations: str | Path | Mapping[str, str | Path],
    videos: str | Path,
    classes: str | Path | Sequence[str] | None = None,
    *,
    format: str = "auto",
    taken_below: int = 0,
) -> Annotations:
    """Read what is known of videos from the lists that people have.

    Args:
        annotations: the file (of some formats a folder); or, where a list does not say the split of its
            videos, the file of each split.
        videos: the folder of the video files, or of folders of frames.
        classes: the classes' names, or a file with them (see ``class_list``): labels are names in it, or
            numbers into it. By default the file that some formats have beside their lists.
        format: one of ``FORMATS``; ``auto`` guesses, and says so in the notes.
        taken_below: see ``read_csv``.

    Raises:
        InputError: a list is not of its format (and which one it looks like), says no split, no video is
            there, a label is no class, or two files number the classes differently.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    given = annotations if isinstance(annotations, Mapping) else {"": annotations}
    files = {split: Path(file).expanduser() for split, file in given.items()}
    known = _format_of(files, format)
    try:
        if known == "csv":
            found = _of_csv(files, videos, classes, taken_below)
        else:
            found = _of_lists(known, files, Path(videos).expanduser(), classes, taken_below)
    except InputError as error:
        looks = next(iter({guess(file) for file in files.values()} - {None, known}), None)
        if looks is None or not str(error).startswith(("annotation", "videos folder")):
            raise
        raise InputError(f"{error}; it looks like the format {looks}, not {known}") from error
    notes = (f"format: {known}, as it looks",) if format == "auto" and known != "csv" else ()
    return replace(found, notes=notes + found.notes)


def _format_of(files: Mapping[str, Path], format: str) -> str:
    for file in files.values():
        if not file.exists():
            raise InputError(f"annotation file {file}: no such file")
    if format != "auto":
        return format
    found = {guess(file) or "csv" for file in files.values()}
    if len(found) > 1:
        raise InputError(f"annotations: found lists that look like {' and '.join(sorted(found))}; say which")
    return found.pop()


def _of_csv(
    files: Mapping[str, Path], videos: str | Path, classes: str | Path | Sequence[str] | None, below: int
) -> Annotations:
    if set(files) != {""}:
        raise InputError("annotations: a CSV file has a column split; expected one file, without a split")
    return read_csv(files[""], videos, classes, taken_below=below)


def _of_lists(
    format: str,
    files: Mapping[str, Path],
    videos: Path,
    classes: str | Path | Sequence[str] | None,
    below: int,
) -> Annotations:
    rows: list[tuple[Path, str, Row]] = []
    beside: Path | None = None
    unlabelled = 0
    for split, file in files.items():
        listed = LISTS[format](file)
        beside = beside or listed.classes
        unlabelled += sum(not row.labels for row in listed.rows)
        rows += [(file, _split(file, split, row), row) for row in listed.rows if row.labels]
    named = ", ".join(map(str, files.values()))
    if not rows:
        raise InputError(f"annotation file {named}: found no video with a label, expected at least one")

    def where(position: int) -> str:
        file, _, row = rows[position]
        return f"annotation file {file}, {row.where}"

    ids: dict[str, int] = {}
    for number, (_, _, row) in enumerate(rows):
        if (first := ids.setdefault(row.names[0], number)) != number:
            raise InputError(f"{where(number)}: found {row.names[0]!r}, which is in {where(first)} already")
    source = beside if classes is None else classes
    if classes is not None and beside is not None:
        _require_same_numbers(class_list(classes), class_list(beside), rows, beside)
    # Over all videos of the lists, so that numbers do not depend on which files are there.
    numbers, names = number_labels(
        [row.labels for *_, row in rows], where, None if source is None else class_list(source),
        taken_below=below,
    )  # fmt: skip
    there = ListedFiles(videos)
    table = pd.DataFrame(
        {
            "video": list(ids), "path": [there.find(row.names) for *_, row in rows],
            "label": [first for first, *_ in numbers], "split": [split for _, split, _ in rows],
        }
    )  # fmt: skip
    if any(len(of_video) > 1 for of_video in numbers):
        table["labels"] = numbers
    if any(row.frames for *_, row in rows):
        table["listed_frames"] = [row.frames for *_, row in rows]
    missing = table["video"][table["path"] == ""]
    if len(missing) == len(table):
        raise InputError(
            f"videos folder {videos}: found none of the {len(table)} videos of {named}, such as {missing[0]}"
        )
    table = table[table["path"] != ""].reset_index(drop=True)
    notes = []
    if unlabelled:
        notes.append(f"videos without a label, left out: {unlabelled}")
    if len(missing):
        notes.append(f"videos without a file, left out: {len(missing)} ({first_few(list(missing))})")
    if source is beside is not None:
        notes.append(f"classes of {beside}")
    if frames := sum((videos / path).is_dir() for path in table["path"]):
        notes.append(f"folders of frames: {frames}; their rate is not known but by frames_rate")
    return Annotations(table, names, videos, tuple(notes))


def _require_same_numbers(
    given: tuple[str, ...], beside: tuple[str, ...], rows: list[tuple[Path, str, Row]], file: Path
) -> None:
    """Refuse two numberings of the classes where labels are numbers.

    Raises:
        InputError: they differ; the message names the first class that does.
    """
    if given == beside or not all(label.isdecimal() for *_, row in rows for label in row.labels):
        return
    pairs = zip_longest(given, beside, fillvalue="no class")
    number, (own, other) = next((number, pair) for number, pair in enumerate(pairs) if pair[0] != pair[1])
    raise InputError(
        f"classes: class {number} is {own!r}, but {other!r} in {file}, which lies beside the list; labels "
        "are numbers, so expected one numbering: move the file away if it is not of this list"
    )


def _split(file: Path, given: str, row: Row) -> str:
    """One of ``SPLITS``.

    Raises:
        InputError: neither the list nor the caller says it, both do, or it is unknown.
    """
    if bool(given) == bool(row.split):
        raise InputError(
            f"annotation file {file}, {row.where}: "
            + (f"found the split {row.split!r}, and {given} for the whole file; expected one of them" if given
               else "says no split; expected a file for each split, such as train=FILE validation=FILE")
        )  # fmt: skip
    name = (given or row.split).strip().lower()
    split = SPLIT_SYNONYMS.get(name, name)
    if split not in SPLITS:
        raise InputError(
            f"annotation file {file}, {row.where}: found the split {name!r}, expected {', '.join(SPLITS)}"
        )
    return split
