"""The lists that other projects publish, each read by one function into the same rows.

A list names a video by an id or by a path; where its file is, ``video_env.data.reading`` finds out.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_env.data.frames_folder import is_image
from video_env.errors import InputError

_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm")
_CLASS_FILES = ("classInd.txt", "classes.txt", "category.txt", "labels.json")


@dataclass(frozen=True)
class Row:
    """A video in a list.

    Attributes:
        where: its place in the file, for messages.
        names: what its file or folder of frames may be called: a path, or a name without an ending; the first
            is its id.
        labels: class names or numbers.
        split: as the list calls it; empty where the list does not say.
        frames: how many its folder should hold; 0 where the list does not say.
    """

    where: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    split: str = ""
    frames: int = 0


@dataclass(frozen=True)
class Listed:
    """What a list says.

    Attributes:
        rows: its videos, those without a label too.
        classes: the file of the classes' names that lies beside it, if there is one.
    """

    rows: list[Row] = field(default_factory=list)
    classes: Path | None = None


def activitynet(file: Path) -> Listed:
    """ActivityNet's JSON, version 1.3: ``database``, by id ``subset`` and ``annotations`` with a ``label``
    each; a video has the labels of all its segments. Files are named by the id, with ``v_`` before it or not.
    """
    content = _json(file)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise InputError(f"annotation file {file}: found no 'database', expected ActivityNet's JSON")
    rows = []
    for name, entry in database.items():
        try:
            labels = dict.fromkeys(str(segment["label"]) for segment in entry.get("annotations", ()))
            rows.append(Row(f"entry {name}", (name, f"v_{name}"), tuple(labels), str(entry["subset"])))
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"annotation file {file}, entry {name}: expected 'subset', and 'annotations' with a 'label' "
                "each"
            ) from error
    return Listed(rows)


def kinetics(file: Path) -> Listed:
    """Kinetics' CSV: ``label, youtube_id, time_start, time_end, split``. Files are named by the id, with the
    seconds behind it (``ID_000010_000020``) or not.
    """
    rows = []
    reader = csv.DictReader(_text(file).splitlines())
    if not {"youtube_id", "time_start", "time_end"} <= set(reader.fieldnames or ()):
        raise InputError(
            f"annotation file {file}: found the columns {', '.join(reader.fieldnames or ())}, expected "
            "label, youtube_id, time_start, time_end, split"
        )
    for entry in reader:
        where = f"line {reader.line_num}"
        try:
            start, end = (round(float(entry[name])) for name in ("time_start", "time_end"))
        except (TypeError, ValueError) as error:
            raise InputError(f"annotation file {file}, {where}: expected seconds ({error})") from error
        name = entry["youtube_id"].strip()
        label = (entry.get("label") or "").strip()
        clip = f"{name}_{start:06d}_{end:06d}"
        rows.append(Row(where, (clip, name), (label,) if label else (), (entry.get("split") or "").strip()))
    return Listed(rows)


def released(file: Path) -> Listed:
    """The lists of AR-Net, OCSampler and AdaFocus, and mmaction2's of frames: ``path num_frames label
    [label …]``, separated by spaces, commas or semicolons.
    """
    rows = []
    for where, line in _lines(file):
        path, numbers = _path_and_numbers(line)
        if len(numbers) < 2:
            raise InputError(
                f"annotation file {file}, {where}: found {line!r}, expected a path, the number of frames, "
                "and one or more class numbers"
            )
        count, *labels = numbers
        rows.append(Row(where, (path,), tuple(dict.fromkeys(labels)), frames=int(count)))
    return Listed(rows, _class_file(file))


def mmaction(file: Path) -> Listed:
    """mmaction2's list of video files: ``path label [label …]``."""
    rows = []
    for where, line in _lines(file):
        path, numbers = _path_and_numbers(line)
        if not numbers:
            raise InputError(
                f"annotation file {file}, {where}: found {line!r}, expected a path and class numbers"
            )
        rows.append(Row(where, (path,), tuple(dict.fromkeys(numbers))))
    return Listed(rows, _class_file(file))


def something(file: Path) -> Listed:
    """Something-Something V1's and Jester's CSV (``id;label``; a test list has ids alone), and
    Something-Something V2's JSON, whose label is its ``template`` without the brackets.
    """
    if file.suffix.lower() == ".json":
        entries = _json(file)
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and "id" in entry for entry in entries
        ):
            raise InputError(f"annotation file {file}: expected a list of objects with 'id' and 'template'")
        rows = []
        for number, entry in enumerate(entries, start=1):
            template = re.sub(r"[\[\]]", "", entry.get("template", ""))
            rows.append(Row(f"entry {number}", (str(entry["id"]),), (template,) if template else ()))
    else:
        rows = []
        for where, line in _lines(file):
            name, _, label = line.partition(";")
            rows.append(Row(where, (name.strip(),), (label.strip(),) if label.strip() else ()))
    return Listed(rows)


def ucf101(file: Path) -> Listed:
    """UCF101's split files: ``Class/v_Class_g01_c01.avi 1``, and in test lists the path alone. The class is
    the folder's name.
    """
    rows = []
    for where, line in _lines(file):
        path = re.sub(r"\s+\d+$", "", line)
        folder, _, name = path.partition("/")
        if not name:
            raise InputError(f"annotation file {file}, {where}: found {line!r}, expected CLASS/FILE")
        rows.append(Row(where, (path,), (folder,)))
    return Listed(rows, _class_file(file))


def hmdb51(file: Path) -> Listed:
    """HMDB51's split files, ``CLASS_test_split1.txt`` with ``FILE 1`` (training), ``FILE 2`` (test) or
    ``FILE 0`` (neither): all of the folder that have the same split's number. Given is one of them, or their
    folder for split 1.
    """
    number = (re.findall(r"_test_split(\d)\.txt$", file.name) or ["1"])[0]
    folder, ending = (file if file.is_dir() else file.parent), f"_test_split{number}.txt"
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise InputError(f"annotation folder {folder}: no files CLASS{ending}")
    rows = []
    for one in files:
        label = one.name.removesuffix(ending)
        for where, line in _lines(one):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not name:
                raise InputError(f"annotation file {one}, {where}: found {line!r}, expected FILE 0, 1 or 2")
            if use != "0":
                path = f"{label}/{name.strip()}"
                rows.append(Row(f"{one.name}, {where}", (path,), (label,), "train" if use == "1" else "test"))
    return Listed(rows)


def folders(file: Path) -> Listed:
    """A folder of folders: a class's videos, or folders of frames, in its own; with folders of splits above
    them or not.
    """
    if not file.is_dir():
        raise InputError(f"annotations {file}: expected a folder, with a folder for each class")
    above = _folders_in(file)
    splits = {"train", "training", "val", "valid", "validation", "test", "testing"}
    with_splits = bool(above) and all(folder.name.lower() in splits for folder in above)
    rows = []
    for top in above if with_splits else [file]:
        for of_class in _folders_in(top):
            for video in sorted(of_class.iterdir()):
                if not video.name.startswith("."):
                    split = top.name if with_splits else ""
                    rows.append(Row(f"{video}", (str(video.absolute()),), (of_class.name,), split))
    return Listed(rows)


LISTS: dict[str, Callable[[Path], Listed]] = {
    "activitynet": activitynet, "kinetics": kinetics, "released": released, "mmaction": mmaction,
    "something": something, "ucf101": ucf101, "hmdb51": hmdb51, "folders": folders,
}  # fmt: skip
"""By name of the format."""


def guess(file: Path) -> str | None:
    """The format that a file, or folder, looks like: one of ``LISTS``, ``csv``, or None."""
    if file.is_dir():
        return "hmdb51" if any(file.glob("*_test_split*.txt")) else "folders" if _folders_in(file) else None
    if not file.is_file():
        return None
    if re.search(r"_test_split\d\.txt$", file.name):
        return "hmdb51"
    if file.suffix.lower() == ".json":
        content = _json(file)
        if isinstance(content, dict) and "database" in content:
            return "activitynet"
        return "something" if isinstance(content, list) else None
    first = next((line for _, line in _lines(file)), "")
    columns = {name.strip() for name in first.split(",")}
    if {"video", "path"} & columns:
        return "csv"
    if "youtube_id" in columns:
        return "kinetics"
    if re.fullmatch(r"(train|test)list\d+\.txt", file.name):
        return "ucf101"
    if re.fullmatch(r"\d+(;[^;]*)?", first) and not re.fullmatch(r"\d+;\d+(;\d+)*", first):
        return "something"
    # A file needs no count of frames, so what stands behind it are labels.
    of_files = _path_and_numbers(first)[0].lower().endswith(_VIDEOS)
    for name in ("mmaction",) if of_files else ("released", "mmaction"):
        try:
            LISTS[name](file)
        except InputError:
            continue
        return name
    return None


def _path_and_numbers(line: str) -> tuple[str, list[str]]:
    """A line's path, and the numbers at its end, by that of semicolon, comma and space that leaves some."""
    for separator in (";", ",", None):
        fields = [field.strip() for field in line.split(separator)]
        count = 0
        while count < len(fields) - 1 and fields[-1 - count].isdecimal():
            count += 1
        if count:
            return (separator or " ").join(fields[:-count]), fields[-count:]
    return line, []


def _class_file(file: Path) -> Path | None:
    return next((file.parent / name for name in _CLASS_FILES if (file.parent / name).is_file()), None)


def _folders_in(folder: Path) -> list[Path]:
    inner = (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith("."))
    # A folder of frames is a video.
    return [entry for entry in inner if not any(is_image(file.name) for file in entry.iterdir())]


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"annotation file {file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"annotation file {file}: no text in UTF-8 ({error})") from error


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Its lines that are not empty, with their place."""
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if line.strip():
            yield f"line {number}", line.strip()


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file))
    except ValueError as error:
        raise InputError(f"annotation file {file}: no JSON ({error})") from error
