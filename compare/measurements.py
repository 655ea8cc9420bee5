"""Measurements that claims are judged by: what is compared, the figure with its interval, and its verdict.

A measurement that cannot be made says what is missing. One between methods that are trained knows their
trainings, and gives no verdict that a longer training could turn:

- of accuracies and savings, the side that lost must have converged; a longer training of the side that won
  could only add to it;
- of speeds and times, both must have.

A training has converged if it ended since it no longer improved on the validation split, or if it has left
chance and its last quarter gained no more than a point (``trainings.TrainingRecord.why_open``). One that both
sides share, as a network with and without early exit do, favours neither, and need not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from compare.trainings import SHARES, TrainingRecord
from video_env.evaluation.differences import (
    Curve,
    Estimate,
    difference_at_equal_cost,
    difference_to_dearer,
    paired_curves,
)
from video_env.evaluation.labels import method_labels, setting_label
from video_env.evaluation.results import Setting, at_setting, point_columns

Verdict = Literal["reproduced", "not reproduced", "undecided", "not measured"]
Unit = Literal["accuracy", "share", "ratio"]

DECIDING_SHARE = 0.95
"""The time to this share of the better one's best validation accuracy decides which of two methods trains
faster. The last points are luck: of 300 validation videos one point is three videos. The whole training has
the patience in it, the time until a training is given up. And 90% favours a method that begins fast."""

ENOUGH_SEEDS = 5
"""With fewer, an undecided measurement names them as the next step."""


@dataclass(frozen=True)
class Side:
    """The trainings of one side of a measurement.

    Attributes:
        title: of the method.
        records: a training for each seed and setting; None where it was trained, and no record says how.
        guess: the accuracy of always naming the most frequent class.
    """

    title: str
    records: tuple[TrainingRecord | None, ...]
    guess: float

    def why_open(self) -> str:
        """Which trainings had not converged, and why; empty if all had."""
        unknown = "it is not recorded how its training ended"
        reasons = Counter(record.why_open(self.guess) if record else unknown for record in self.records)
        reasons.pop("", None)
        total = len(self.records)
        found = [f"{why} ({count} of {total} trainings)" for why, count in reasons.items()]
        return f"{self.title}: {', '.join(found)}" if found else ""

    def __str__(self) -> str:
        """How they ended, and their best validation accuracy."""
        ended = Counter(
            record.ended if record and record.ended else "not recorded" for record in self.records
        )
        words = ", ".join(f"{name} {count} of {len(self.records)}" for name, count in ended.items())
        best = [record.best_validation for record in self.records if record and record.history]
        if not best:
            return f"{self.title}: ended by {words}"
        least, most = f"{min(best):.3f}", f"{max(best):.3f}"
        return (
            f"{self.title}: ended by {words}; best validation "
            f"{least if least == most else f'{least} to {most}'}"
        )


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Attributes:
        what: the quantity, in words.
        setting: the methods' settings, in words.
        unit: of the estimate; ``accuracy`` and ``share`` above 0 support the claim, a ``ratio`` above 1.
        estimate: None where it could not be measured.
        decides: whether the verdict depends on it, or it is there for comparison only.
        missing: what it lacks where it could not be measured.
        seeds: how many it was measured with.
        sides: the trainings of the side that the claim favours, and of the other one; empty where neither
            side is trained.
        remark: what else is to be said of the trainings, or against the speeds.
    """

    what: str
    setting: str
    unit: Unit
    estimate: Estimate | None
    decides: bool = True
    missing: str = ""
    seeds: int = 0
    sides: tuple[Side, ...] = ()
    remark: str = ""

    @property
    def verdict(self) -> Verdict:
        return "undecided" if self._open_sides else self._by_interval

    @property
    def reason(self) -> str:
        """Why it is not measured or undecided; otherwise empty."""
        if self.estimate is None:
            return self.missing
        if self.verdict != "undecided":
            return ""
        if self._open_sides:
            return "; ".join(self._open_sides)
        more = f" (--seeds {ENOUGH_SEEDS})" if self.seeds < ENOUGH_SEEDS else ""
        few = "one seed gives no interval: " if np.isnan(self.estimate.low) else ""
        return f"{few}more seeds could decide{more}"

    @property
    def trainings(self) -> str:
        """Of both sides how the trainings ended, in words; and the remark."""
        sides = dict.fromkeys(str(side) for side in self.sides if side.records)
        return ". ".join((*sides, *filter(None, [self.remark])))

    @property
    def _by_interval(self) -> Verdict:
        if self.estimate is None:
            return "not measured"
        nothing = 1.0 if self.unit == "ratio" else 0.0
        # A ratio of one seed has no interval (NaN): then neither comparison holds.
        if self.estimate.low > nothing:
            return "reproduced"
        return "not reproduced" if self.estimate.high <= nothing else "undecided"

    @cached_property
    def _open_sides(self) -> list[str]:
        """Of the sides whose longer training could turn the verdict, which had not converged."""
        if not self.sides or self.estimate is None:
            return []
        shared = set(map(id, self.sides[0].records)) & set(map(id, self.sides[1].records)) - {id(None)}
        own = [
            Side(side.title, tuple(one for one in side.records if id(one) not in shared), side.guess)
            for side in self.sides
        ]
        if self.unit != "ratio" and self._by_interval != "undecided":
            own = [own[1] if self._by_interval == "reproduced" else own[0]]
        return [why for side in own if (why := side.why_open())]


class Evidence:
    """What claims are held against.

    Args:
        results: a result table; join several first.
        trainings: the trainings behind it.
    """

    def __init__(self, results: pd.DataFrame, trainings: Sequence[TrainingRecord] = ()) -> None:
        self.results = results
        self._titles = method_labels(results)
        # The seconds are the same number in both: also where methods share a training.
        self._trainings = {(record.seed, record.seconds): record for record in reversed(trainings)}
        self._points = results.drop_duplicates([*point_columns(results), "seed"])
        videos = results.drop_duplicates("video")
        self._guess = float(videos["label"].value_counts(normalize=True).max())

    def title(self, method: str) -> str:
        """As people read it; the id of a method that is not in the table."""
        return self._titles.get(method, method)

    def seeds(self, *methods: str) -> list[int]:
        """Those that all of these methods have."""
        of = [set(self.results.loc[self.results["method"] == method, "seed"]) for method in methods]
        return sorted(set.intersection(*of))

    def why_missing(self, *methods: str) -> str:
        """What these methods lack to be compared; empty if nothing does."""
        there = set(self.results["method"])
        if absent := [method for method in methods if method not in there]:
            return f"{', '.join(absent)} missing"
        if not self.seeds(*methods):
            return f"{' and '.join(methods)} have no seed in common"
        if paired_curves(self.results, *methods) is None:
            return f"{' and '.join(methods)}: no setting was tested with all seeds that they have in common"
        return ""

    def side(self, method: str, settings: Iterable[Setting], seeds: Sequence[int]) -> Side:
        """The trainings of a method at some settings."""
        own = self._points[(self._points["method"] == method) & self._points["seed"].isin(seeds)]
        rows = pd.concat([own[at_setting(own, **setting)] for setting in settings])
        keys = rows.loc[rows["training_seconds"] > 0, ["seed", "training_seconds"]].drop_duplicates()
        records = [self._trainings.get((int(seed), float(seconds))) for seed, seconds in keys.to_numpy()]
        return Side(self.title(method), tuple(records), self._guess)

    def sides(
        self, favoured: str, own: Iterable[Setting], other: str, base: Iterable[Setting]
    ) -> tuple[Side, Side]:
        """Both sides of a measurement, on the seeds that both methods have."""
        seeds = self.seeds(favoured, other)
        return self.side(favoured, own, seeds), self.side(other, base, seeds)

    def at(self, method: str, setting: Setting) -> pd.DataFrame:
        """The rows of a method at a setting."""
        return self.results[(self.results["method"] == method) & at_setting(self.results, **setting)]


def chosen_setting(curve: Curve, default: Setting) -> Setting:
    """The default setting; the middle one where the curve does not have it."""
    return default if default in curve.settings else curve.settings[len(curve.settings) // 2]


def gains(evidence: Evidence, method: str, base: str, default: Setting) -> Iterator[Measure]:
    """A method's accuracy minus that of another one that costs as much or a little more; and, for
    comparison, at equal GFLOPs."""
    what = f"top-1 of {evidence.title(method)} minus that of {evidence.title(base)}"
    curves = paired_curves(evidence.results, method, base)
    if curves is None:
        lacks = evidence.why_missing(method, base)
        yield Measure(what, setting_label(default), "accuracy", None, missing=lacks)
        return
    point, seeds = curves[0].only(chosen_setting(curves[0], default)), len(curves[0].correct)
    own = point.settings[0]
    setting = setting_label(own)
    lacks = f"{base} has no setting that costs as much as {method} at {setting}"
    found = difference_to_dearer(point, curves[1])
    if found is None:
        yield Measure(what, setting, "accuracy", None, missing=lacks)
    else:
        beside, gain = found
        sides = evidence.sides(method, [own], base, [beside])
        at = f"{setting} beside {setting_label(beside)}"
        yield Measure(what, at, "accuracy", gain, seeds=seeds, sides=sides)
    equal = difference_at_equal_cost(point, curves[1])
    sides = evidence.sides(method, [own], base, curves[1].settings)
    yield Measure(
        f"{what} at equal GFLOPs", setting, "accuracy", equal, decides=False,
        missing="" if equal else lacks, seeds=seeds, sides=sides,
    )  # fmt: skip


def ratio_of(
    evidence: Evidence,
    column: str,
    what: str,
    over: tuple[str, Setting],
    under: tuple[str, Setting],
    at: str,
    *,
    decides: bool = True,
) -> Measure:
    """A column's ratio between two points, paired by seed and machine. ``over`` is what the claim favours if
    more of it is better."""
    rows = [evidence.at(*point) for point in (over, under)]
    values = [part.groupby(["seed", "machine"])[column].mean() for part in rows]
    ratios = (values[0] / values[1]).dropna().to_numpy()
    lacks = "" if len(ratios) else f"{over[0]} and {under[0]} were not tested with one seed on one machine"
    remark = ""
    if column == "videos_per_second" and "speed_note" in evidence.results:
        notes = pd.concat([part["speed_note"] for part in rows]).dropna().unique()
        remark = ", ".join(dict.fromkeys(word for note in notes for word in note.split(", ") if word))
    return Measure(
        what, at, "ratio", mean_ratio(ratios), decides, lacks, len(ratios),
        evidence.sides(over[0], [over[1]], under[0], [under[1]]), remark and f"speeds: {remark}",
    )  # fmt: skip


def mean_ratio(ratios: np.ndarray) -> Estimate | None:
    """The geometric mean of positive ratios, one for each seed, and Student's t interval of its logarithm;
    NaN for the interval of one seed, None where there is none."""
    if not len(ratios):
        return None
    logarithms = np.log(ratios)
    value = float(np.exp(logarithms.mean()))
    if len(ratios) == 1:
        return Estimate(value, np.nan, np.nan)
    # A bootstrap over a few seeds would be no wider than the two that differ most.
    factor = float(np.exp(stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(logarithms)))
    return Estimate(value, value / factor, value * factor)


def training_times(evidence: Evidence, new: str, old: str, default: Setting) -> Iterator[Measure]:
    """How many times longer the old method's training takes than the new one's, to shares of the better
    one's best validation accuracy, and on the whole. Both histories begin with their methods' trainings.

    A method that never reaches the accuracy is slower. Its time then counts as the longer one of both whole
    trainings: the ratio is at least as far on the other one's side.
    """
    pair = f"{evidence.title(old)} over {evidence.title(new)}"
    curves = paired_curves(evidence.results, new, old)
    setting = default if curves is None else chosen_setting(curves[0], default)
    at, lacks = setting_label(setting), evidence.why_missing(new, old)
    if curves is not None and setting not in curves[1].settings:
        lacks = f"{old} at {at} missing"
    if not lacks:
        # Both directions of the pair are needed: of times, both sides must have converged.
        sides = evidence.sides(new, [setting], old, [setting])
        by_seed = _trainings_on_one_machine(evidence, new, old, setting)
        if not by_seed:
            lacks = f"{new} and {old} have no validation accuracy over time with one seed on one machine"
    for share in SHARES:
        what = f"training time to {share:.0%} of the better one's best validation accuracy, {pair}"
        decides = share == DECIDING_SHARE
        if lacks:
            yield Measure(what, at, "ratio", None, decides, lacks)
            continue
        ratios, never = _time_ratios(by_seed, share)
        remark = ". ".join(
            f"{evidence.title(name)} never reached it with {count} of {len(ratios)} seeds"
            for name, count in zip((new, old), never, strict=True)
            if count
        )
        estimate = mean_ratio(ratios)
        yield Measure(what, at, "ratio", estimate, decides, "", len(ratios), sides, remark)
    what = f"training time on the whole, {pair}"
    if curves is None or setting not in curves[1].settings:
        yield Measure(what, at, "ratio", None, decides=False, missing=lacks)
    else:
        yield ratio_of(evidence, "training_seconds", what, (old, setting), (new, setting), at, decides=False)


Pair = tuple[TrainingRecord, TrainingRecord]


def _trainings_on_one_machine(evidence: Evidence, new: str, old: str, setting: Setting) -> list[Pair]:
    """Of each seed the trainings of both methods, where both have a history and were tested on one
    machine."""
    pairs: list[Pair] = []
    for seed in evidence.seeds(new, old):
        rows = [evidence.at(method, setting) for method in (new, old)]
        machines = [set(part.loc[part["seed"] == seed, "machine"]) for part in rows]
        records = [evidence.side(method, [setting], [seed]).records for method in (new, old)]
        known = [record for side in records for record in side if record is not None and record.history]
        if machines[0] & machines[1] and len(known) == 2:
            pairs.append((known[0], known[1]))
    return pairs


def _time_ratios(pairs: Sequence[Pair], share: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Of each seed, the old training's seconds over the new one's to a share of the better one's best; and
    how often the new one, and the old one, never got there."""
    ratios, never = [], [0, 0]
    for pair in pairs:
        accuracy = share * max(record.best_validation for record in pair)
        times = [record.seconds_to(accuracy) for record in pair]
        whole = max(record.seconds for record in pair)
        for place, seconds in enumerate(times):
            never[place] += seconds is None
        first, second = (whole if seconds is None else seconds for seconds in times)
        ratios.append(second / first)
    return np.array(ratios), (never[0], never[1])
