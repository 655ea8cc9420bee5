"""Labels of methods and settings, made where something is drawn or printed; nothing reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from video_env.evaluation.results import point_columns, setting_columns, setting_of

FORMS = {
    "patch_size": "{:g}²",
    "num_frames": "N = {:g}",
    "mean_frames": "{:g} frames",
    "cost_per_gflop": "λ = {:g}",
    "gflops_budget": "{:.3g} GFLOPs",
}
"""By column, how people read a part of a setting; other parts are read as ``name value``."""


def setting_label(setting: Mapping[str, Any]) -> str:
    """A setting as people read it, such as ``36², λ = 4``; empty for a method that has none."""
    known = [form.format(setting[name]) for name, form in FORMS.items() if name in setting]
    return ", ".join(
        [
            *known,
            *(f"{name.replace('_', ' ')} {_text(setting[name])}" for name in setting if name not in FORMS),
        ]
    )


def setting_labels(table: pd.DataFrame) -> pd.Series:
    """Of each row, the label of its setting, str [rows]."""
    columns = setting_columns(table)
    of_point = {
        key: setting_label(setting_of(group.iloc[0], columns))
        for key, group in table.groupby(_points(table), sort=False)
    }
    return _points(table).map(of_point)


def method_labels(table: pd.DataFrame) -> dict[str, str]:
    """By id, the title of each method in a table; where two methods have the same title, the id stands
    behind it."""
    titles = table.drop_duplicates("method").set_index("method")["title"]
    shared = titles.duplicated(keep=False)
    return {
        str(method): f"{title} ({method})" if shared[method] else str(title)
        for method, title in titles.items()
    }


def point_label(title: str, setting: Mapping[str, Any]) -> str:
    """A method at a setting, such as ``OCSampler, N = 2``."""
    return ", ".join(filter(None, (title, setting_label(setting))))


def _points(table: pd.DataFrame) -> pd.Series:
    return table.groupby(point_columns(table), sort=False, dropna=False).ngroup()


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
