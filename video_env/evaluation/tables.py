"""Our CSV tables read back as they were written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TEXT = (
    "video", "path", "reason", "method", "title", "family", "setting", "claim", "measure", "unit",
    "speed_note", "ended", "part", "trainings", "claim_note",
)  # fmt: skip
"""Columns of text, whatever the text looks like: a video may be called 00001 or NA, a method nan."""


def read_table(file: Path) -> pd.DataFrame:
    """A table that ``DataFrame.to_csv`` wrote. An empty field is a missing value; other text stays itself.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return pd.read_csv(file, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])
