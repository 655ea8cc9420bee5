"""Labels of methods and settings, made where something is drawn or printed; nothing reads them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from video_env.evaluation.results import points_of, setting_columns, setting_of

FORMS = {
    "patch_size": "{:g}²",
    "num_frames": "N = {:g}",
    "mean_frames": "{:g} frames",
    "cost_per_gflop": "λ = {:g}",
    "cost_of_all_frames": "all frames cost {:g}",
    "gflops_budget": "{:.3g} GFLOPs",
}
"""By column, how people read a part of a setting; other parts are read as ``name value``."""


def setting_label(setting: Mapping[str, Any]) -> str:
    """A setting as people read it, such as ``36², λ = 4``; empty for a method that has none."""
    known = [name for name in FORMS if isinstance(setting.get(name), int | float)]
    others = [f"{name.replace('_', ' ')} {_text(setting[name])}" for name in setting if name not in known]
    return ", ".join([*(FORMS[name].format(setting[name]) for name in known), *others])


def setting_labels(table: pd.DataFrame) -> pd.Series:
    """Of each row, the label of its setting, str [rows]."""
    columns, points = setting_columns(table), points_of(table)
    first = table.groupby(points, sort=False).head(1)
    labels = [setting_label(setting_of(row, columns)) for row in first.to_dict("records")]
    return points.map(dict(zip(points[first.index], labels, strict=True)))


def method_labels(table: pd.DataFrame) -> dict[str, str]:
    """By id, the title of each method in a table; where two methods have the same title, the id stands
    behind it."""
    titles = {
        str(method): str(title)
        for method, title in table.drop_duplicates("method")[["method", "title"]].to_numpy()
    }
    count = Counter(titles.values())
    return {method: f"{title} ({method})" if count[title] > 1 else title for method, title in titles.items()}


def point_label(title: str, setting: Mapping[str, Any]) -> str:
    """A method at a setting, such as ``OCSampler, N = 2``."""
    return ", ".join(filter(None, (title, setting_label(setting))))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
