"""An annotation format of one's own: lines of split, path and label."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from video_env.data.annotations import SPLITS, Annotations
from video_env.errors import InputError


def read_lines(file: Path, videos: Path) -> Annotations:
    """Read lines such as ``train jumping/3.mp4 0``: split, path inside ``videos`` and the class's number.

    Raises:
        InputError: the file is missing or empty, or a line is another one.
    """
    if not file.is_file():
        raise InputError(f"annotation file {file}: no such file")
    rows = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        split, path, label = parts if len(parts := line.split()) == 3 else ("", "", "")
        inside = not Path(path).is_absolute() and ".." not in Path(path).parts
        if split not in SPLITS or not inside or not label.isdecimal():
            raise InputError(
                f"annotation file {file}, line {number}: found {line!r}, expected one of "
                f"{', '.join(SPLITS)}, a path inside {videos} and a number"
            )
        rows.append({"video": path, "path": path, "label": int(label), "split": split})
    if not rows:
        raise InputError(f"annotation file {file}: no lines, expected at least one")
    table = pd.DataFrame(rows)
    return Annotations(table, tuple(str(label) for label in range(table["label"].max() + 1)), videos)
