"""What the trainings behind result tables took, how they went on the validation split, and how they ended."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from video_env.errors import InputError
from video_env.evaluation.protocols import Training
from video_env.evaluation.results import COLUMNS
from video_env.models.stopping import at_chance

SHARES = (0.9, 0.95, 0.99)
"""Of the better one's best validation accuracy: the accuracies that the time to is stated of."""

SETTLED = 0.01
"""A training whose last quarter of looks gained no more than this had stopped improving, whatever ended
it."""


@dataclass(frozen=True)
class TrainingRecord:
    """A training as a run's folder keeps it.

    Attributes:
        method: id of the first method that uses it.
        title: of that method.
        family: of that method.
        setting: of that method, its point on the curve.
        seed: of the training.
        seconds: that it took.
        stages: one after another.
        num_settings: how many numbers and names it depends on.
        ended: ``patience`` (it had stopped improving on the validation split), ``limit`` (its updates, steps
            or seconds ran out), ``fixed`` (its length was fixed); empty where nothing is recorded.
        history: a row for each look at the validation split: ``seconds`` of training so far, the top-1
            ``validation``, and what else was logged, such as the ``score`` that the training goes by.
    """

    method: str
    title: str
    family: str
    setting: dict[str, Any]
    seed: int
    seconds: float
    stages: int = 1
    num_settings: int = 0
    ended: str = ""
    history: tuple[dict[str, float], ...] = ()

    @property
    def best(self) -> dict[str, float]:
        """The look with the best score, whose networks are kept; empty without a look.

        A method that pays for frames may be most accurate before it has learned to save any, so accuracy
        alone does not say which look that is.
        """
        return max(self.history, key=lambda row: row.get("score", row["validation"]), default={})

    @property
    def best_validation(self) -> float:
        """Top-1 on the validation split at the best look; NaN without one."""
        return self.best.get("validation", math.nan)

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds of training until the first look that found this accuracy; None where none did."""
        found = (row["seconds"] for row in self.history if row["validation"] >= accuracy)
        return min(found, default=None)

    def why_open(self, guess: float) -> str:
        """Why a longer training might be better, in words; empty where it had converged.

        Args:
            guess: the accuracy of always naming the most frequent class.
        """
        if self.ended == "patience":
            return ""
        if len(self.history) < 2:
            return "it is not recorded how its training ended"
        ended = {"limit": "at its limit", "fixed": "after a fixed length"}.get(self.ended)
        if ended is None:
            return "it is not recorded why its training ended"
        if at_chance(self.best_validation, guess):
            return f"it ended {ended} without having left chance"
        scores = [row.get("score", row["validation"]) for row in self.history]
        return f"it ended {ended}, still improving" if still_improving(scores) else ""


def still_improving(scores: Sequence[float]) -> bool:
    """Whether the last quarter of the looks at the validation split, at least two, gained more than
    ``SETTLED``."""
    last = -(-len(scores) // 4)
    return max(scores) - max(scores[:-last]) > SETTLED


def read_trainings(files: Iterable[Path]) -> list[TrainingRecord]:
    """The trainings behind these result tables.

    Args:
        files: result tables; each has its records beside it, of the same name with ``.json``.

    Raises:
        InputError: one is missing or cannot be read.
    """
    return [record for file in files for record in _read(file.with_suffix(".json"))]


def _read(file: Path) -> list[TrainingRecord]:
    of_training = {field.name for field in fields(Training)}
    kept = {field.name for field in fields(TrainingRecord)}
    try:
        return [
            TrainingRecord(
                setting={name: value for name, value in row.items() if name not in kept | of_training},
                **{name: value for name, value in row.items() if name in kept - {"history"}},
                history=tuple(row["history"]),
            )
            for row in json.loads(file.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: cannot be read ({error}); compare {file.stem} again, and it is made anew"
        ) from error


def training_table(records: Sequence[TrainingRecord]) -> pd.DataFrame:
    """A row for each training.

    Returns:
        ``method, title, family``, the setting, ``seed``; then ``stages, num_settings, training_seconds,
        ended, best_validation, seconds_to_best``, and the seconds to each of ``SHARES`` of the best
        validation accuracy that a training of the same setting and seed had.
    """
    best: dict[Any, float] = defaultdict(float)
    for record in records:
        # A training without a look has NaN, which no comparison prefers.
        best[_place(record)] = max(best[_place(record)], record.best_validation)
    rows = [
        {
            **_named(record), "stages": record.stages, "num_settings": record.num_settings,
            "training_seconds": record.seconds, "ended": record.ended,
            "best_validation": record.best_validation,
            "seconds_to_best": record.best.get("seconds"),
            **{
                name: record.seconds_to(share * best[_place(record)])
                for share, name in zip(SHARES, _TO_SHARES, strict=True)
            },
        }
        for record in records
    ]  # fmt: skip
    return _table(rows, _LAST)


def learning_table(records: Sequence[TrainingRecord]) -> pd.DataFrame:
    """A row for each look of each training at the validation split."""
    rows = [{**_named(record), **row} for record in records for row in record.history]
    logged = dict.fromkeys(name for record in records for row in record.history for name in row)
    return _table(rows, list(dict.fromkeys(["seconds", "validation", *logged])))


def _place(record: TrainingRecord) -> tuple[Any, ...]:
    return record.seed, *sorted(record.setting.items())


def _named(record: TrainingRecord) -> dict[str, Any]:
    return {
        "method": record.method, "title": record.title, "family": record.family, **record.setting,
        "seed": record.seed,
    }  # fmt: skip


_FIRST = ["method", "title", "family"]
_TO_SHARES = [f"seconds_to_{share:g}_of_best" for share in SHARES]
_LAST = [
    "stages", "num_settings", "training_seconds", "ended", "best_validation", "seconds_to_best", *_TO_SHARES,
]  # fmt: skip


def _table(rows: list[dict[str, Any]], last: list[str]) -> pd.DataFrame:
    """Method, setting, seed and then what was measured."""
    names = dict.fromkeys(name for row in rows for name in row)
    settings = [name for name in names if name not in COLUMNS and name not in last]
    return pd.DataFrame(rows, columns=[*_FIRST, *settings, "seed", *last])
