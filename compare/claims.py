"""The headline claims of the three papers, tested on a comparison's result tables.

A claim has measurements. Each is a number with a 95% interval: a bootstrap over seeds and videos, paired
where two methods are compared; for times and speeds, Student's t over seeds. A measurement decides, or it is
there for comparison only. The verdict on a claim follows from the intervals of those that decide:

- *reproduced*: all of them lie on the claim's side;
- *not reproduced*: one lies on the other side, or at no difference;
- *undecided*: one includes both sides;
- *not measured*: a method is missing, or a setting to compare with.

A method is measured at one setting, which no result has chosen: N = 2 frames, patches of 36². Where a table
does not have it, the middle one of the method's settings is taken.

A method's accuracy and speed are compared with the other method's cheapest setting that costs at least as
much. Also shown, but without a say: the difference to a mixture of the two nearest settings (at equal
GFLOPs), and the speed beside the setting with the nearest GFLOPs. Times and speeds have a ratio for each seed
that both methods were tested with on one machine; the interval is that of the ratios' logarithm.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from video_env.evaluation.differences import (
    Curve,
    Estimate,
    difference_at_equal_cost,
    difference_to_dearer,
    paired_curves,
    saving_at_equal_accuracy,
)
from video_env.evaluation.labels import method_labels, setting_label
from video_env.evaluation.results import Setting, at_setting
from video_env.files import write_bytes

Verdict = Literal["reproduced", "not reproduced", "undecided", "not measured"]
Unit = Literal["accuracy", "share", "ratio"]

FRAMES: Setting = {"num_frames": 2}
"""Two objects decide a video of the built-in data set: two frames can show both, one frame rarely does."""

PATCH: Setting = {"patch_size": 36}
"""An object of the built-in data set is 28 pixels wide: it fits into this patch, a seventh of the frame."""

EQUAL = 0.01
"""Accuracies within one point count as equal."""


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Attributes:
        what: the quantity, in words.
        setting: the methods' settings, in words.
        unit: of the estimate; ``accuracy`` and ``share`` above 0 support the claim, a ``ratio`` above 1.
        estimate: None where it could not be measured.
        decides: whether the verdict depends on it, or it is there for comparison only.
    """

    what: str
    setting: str
    unit: Unit
    estimate: Estimate | None
    decides: bool = True

    @property
    def verdict(self) -> Verdict:
        if self.estimate is None:
            return "not measured"
        nothing = 1.0 if self.unit == "ratio" else 0.0
        # A ratio of one seed has no interval (NaN): then neither comparison holds.
        if self.estimate.low > nothing:
            return "reproduced"
        return "not reproduced" if self.estimate.high <= nothing else "undecided"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: a short name.
        title: the claim in one sentence.
        source: the paper.
        published: the numbers that the paper states.
        methods: ids of the methods that one runs to measure the claim.
        measures: gives the measurements, from a result table.
    """

    name: str
    title: str
    source: str
    published: str
    methods: tuple[str, ...]
    measures: Callable[[pd.DataFrame], Iterator[Measure]]


def _one_step(results: pd.DataFrame) -> Iterator[Measure]:
    """OCSampler beside MaskablePPO, which decides again after every frame."""
    one, many = "ocsampler", "maskable-ppo"
    yield from _gains(results, one, many, FRAMES)
    curves = paired_curves(results, one, many)
    what = f"videos per second of {_title(results, one)} over {_title(results, many)}'s"
    if curves is None:
        yield Measure(what, setting_label(FRAMES), "ratio", None)
        return
    point = curves[0].only(_setting(curves[0], FRAMES))
    own = point.settings[0]
    dearer = difference_to_dearer(point, curves[1])
    costs = np.abs(curves[1].cost.mean(axis=(0, 1)) - point.cost.mean())
    nearest = curves[1].settings[int(costs.argmin())]
    for beside, decides in ((dearer[0] if dearer else None, True), (nearest, False)):
        speed, setting = None, setting_label(own)
        if beside is not None:
            speed = _ratio(results, "videos_per_second", (one, own), (many, beside))
            setting = f"{setting} beside {setting_label(beside)}"
        yield Measure(what if decides else f"{what} at the nearest GFLOPs", setting, "ratio", speed, decides)


def _frame_budget(results: pd.DataFrame) -> Iterator[Measure]:
    curves = paired_curves(results, "ocsampler-budget", "ocsampler", cost="frames")
    what = "frames saved within one point of a fixed number"
    if curves is None:
        yield Measure(what, setting_label(FRAMES), "share", None)
        return
    setting = _setting(curves[1], FRAMES)
    saving = saving_at_equal_accuracy(curves[0], curves[1], setting, within=EQUAL)
    yield Measure(what, f"all λ, {setting_label(setting)}", "share", saving)
    # The most accurate fixed number may be far beyond the one from which accuracy hardly rises.
    saving = saving_at_equal_accuracy(curves[0], curves[1], within=EQUAL)
    what = "frames saved within one point of the best fixed number"
    yield Measure(what, "all λ, all N", "share", saving, decides=False)


def _v2_accuracy(results: pd.DataFrame) -> Iterator[Measure]:
    yield from _gains(results, "adafocus-v2", "adafocus", PATCH)


def _v2_time(results: pd.DataFrame) -> Iterator[Measure]:
    new, old = "adafocus-v2", "adafocus"
    curves = paired_curves(results, new, old)
    setting = PATCH if curves is None else _setting(curves[0], PATCH)
    ratio = None
    if curves is not None and setting in curves[1].settings:
        ratio = _ratio(results, "training_seconds", (old, setting), (new, setting))
    what = f"training time of {_title(results, old)} over {_title(results, new)}'s"
    yield Measure(what, setting_label(setting), "ratio", ratio)


def _exit(results: pd.DataFrame) -> Iterator[Measure]:
    what = "GFLOPs saved within one point of all frames"
    curves = paired_curves(results, "adafocus-v2-exit", "adafocus-v2")
    if curves is None:
        yield Measure(what, setting_label(PATCH), "share", None)
        return
    sizes = [_of_patch(setting) for setting in curves[0].settings]
    size = PATCH if PATCH in sizes else sizes[0]
    if size not in curves[1].settings:
        yield Measure(what, setting_label(size), "share", None)
        return
    budgets = curves[0].at(*(place for place, own in enumerate(sizes) if own == size))
    saving = saving_at_equal_accuracy(budgets, curves[1], size, within=EQUAL)
    yield Measure(what, f"{setting_label(size)}, all budgets", "share", saving)


def _of_patch(setting: Setting) -> Setting:
    """The part of a setting that says the patch size."""
    return {name: value for name, value in setting.items() if name in PATCH}


def _learned(results: pd.DataFrame) -> Iterator[Measure]:
    for method, bases, default in (
        ("ocsampler", ("uniform", "random", "centre"), FRAMES),
        # Random and central patches are read by the classifier of stage 2; that of stage 3 has more training.
        ("adafocus-stage-2", ("random-patch", "centre-patch"), PATCH),
    ):
        for base in bases:
            yield from _gains(results, method, base, default)


CLAIMS = (
    Claim(
        "one step",
        "Choosing all frames in one step is more accurate and faster than choosing them one by one.",
        "OCSampler, arXiv 2201.04388",
        "76.9 mAP at 21.7 GFLOPs, 123.9 videos/s on a TITAN Xp; AdaFrame 71.5 at 79.0 (ActivityNet)",
        ("ocsampler", "maskable-ppo"),
        _one_step,
    ),
    Claim(
        "frame budget",
        "A frame-number budget saves frames at equal accuracy.",
        "OCSampler, arXiv 2201.04388",
        "each video gets as many frames as it needs",
        ("ocsampler", "ocsampler-budget"),
        _frame_budget,
    ),
    Claim(
        "V2 accuracy",
        "AdaFocusV2 is more accurate than AdaFocus at equal GFLOPs.",
        "AdaFocusV2, arXiv 2112.14238",
        "mAP 77.4 / 79.0 / 79.9 against 71.9 / 75.0 / 76.0 at 96² / 128² / 160² (ActivityNet)",
        ("adafocus", "adafocus-v2"),
        _v2_accuracy,
    ),
    Claim(
        "V2 training time",
        "AdaFocusV2 trains faster than AdaFocus.",
        "AdaFocusV2, arXiv 2112.14238",
        "3.4 / 3.7 / 4.3 hours in one stage against 6.4 / 7.2 / 8.6 in three, on four RTX 3090",
        ("adafocus", "adafocus-v2"),
        _v2_time,
    ),
    Claim(
        "conditional exit",
        "Conditional exit saves GFLOPs at equal accuracy.",
        "AdaFocusV2, arXiv 2112.14238",
        "74.8 mAP at 9.9 GFLOPs, AdaFocus 75.0 at 26.6 (ActivityNet)",
        ("adafocus-v2",),
        _exit,
    ),
    Claim(
        "learned selection",
        "Learned selection is more accurate than uniform, random and central selection at equal GFLOPs.",
        "OCSampler, arXiv 2201.04388; AdaFocus, arXiv 2105.03245",
        "every learned method above its fixed and random ones",
        ("ocsampler", "uniform", "random", "centre", "adafocus", "random-patch", "centre-patch"),
        _learned,
    ),
)


def measure_claims(results: pd.DataFrame) -> pd.DataFrame:
    """Every claim with its measurements.

    Args:
        results: a result table; join several first.

    Returns:
        A row per measurement: ``claim, title, source, published`` of the claim; ``measure`` and ``setting``
        in words; ``value, low, high, unit``; ``verdict`` of the measurement alone, ``decides``, and
        ``claim_verdict``.
    """
    rows = []
    for claim in CLAIMS:
        measures = list(claim.measures(results))
        verdict = _together([measure.verdict for measure in measures if measure.decides])
        for measure in measures:
            value, low, high = measure.estimate or (np.nan,) * 3
            rows.append(
                {
                    "claim": claim.name, "title": claim.title, "source": claim.source,
                    "published": claim.published, "measure": measure.what, "setting": measure.setting,
                    "value": value, "low": low, "high": high, "unit": measure.unit,
                    "verdict": measure.verdict, "decides": measure.decides, "claim_verdict": verdict,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def write_claims(claims: pd.DataFrame, folder: Path) -> None:
    """Save ``claims.csv``, and ``claims.md`` for people; print each claim's verdict."""
    write_bytes(folder / "claims.csv", claims.to_csv(index=False).encode())
    write_bytes(folder / "claims.md", claims_page(claims).encode())
    verdicts = claims.groupby("claim", sort=False)["claim_verdict"].first()
    print("\nthe papers' claims:")
    for name, verdict in verdicts.items():
        print(f"  {name:18} {verdict}{_needed(str(name), verdict)}")


def claims_page(claims: pd.DataFrame) -> str:
    """The claims as a Markdown table."""
    lines = [
        "| claim | published | measured here (95% interval) | verdict |",
        "| --- | --- | --- | --- |",
    ]
    for _, group in claims.groupby("claim", sort=False):
        first = group.iloc[0]
        measured = "<br>".join(
            f"{_text(row['measure'])}, {_text(row['setting'])}: "
            + format_estimate(Estimate(row["value"], row["low"], row["high"]), row["unit"])
            + ("" if row["decides"] else " (does not decide)")
            for row in group.to_dict("records")
        )
        lines.append(
            f"| {first['title']} ({first['source']}) | {first['published']} | {measured} | "
            f"**{first['claim_verdict']}**{_needed(first['claim'], first['claim_verdict'])} |"
        )
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    """Text for a cell of a Markdown table, without a meaning for Markdown."""
    return re.sub(r"([\\|`*_\[\]#])", r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def _needed(name: str, verdict: Verdict) -> str:
    """What it takes to measure a claim that is not measured."""
    if verdict != "not measured":
        return ""
    methods = {claim.name: claim.methods for claim in CLAIMS}[name]
    return f" (it takes comparable settings of {', '.join(methods)}, tested on one machine)"


def format_estimate(estimate: Estimate, unit: str) -> str:
    """The number with its interval, in points, percent or times."""
    if np.isnan(estimate.value):
        return "not measured"
    if np.isnan(estimate.low):
        return f"{estimate.value:.2f} times (from one seed there is no interval)"
    if unit == "ratio":
        value, low, high = (f"{number:.2f}" for number in estimate)
        return f"{value} ({low} to {high}) times"
    value, low, high = (f"{100 * number:+.1f}" for number in estimate)
    return f"{value} ({low} to {high}) {'points' if unit == 'accuracy' else '%'}"


def _together(verdicts: list[Verdict]) -> Verdict:
    for decisive in ("not measured", "not reproduced", "undecided"):
        if decisive in verdicts:
            return decisive  # type: ignore[return-value]
    return "reproduced"


def _title(results: pd.DataFrame, method: str) -> str:
    """As people read it; the id of a method that is not in the table."""
    return method_labels(results).get(method, method)


def _setting(curve: Curve, default: Setting) -> Setting:
    """The default setting; the middle one where the curve does not have it."""
    return default if default in curve.settings else curve.settings[len(curve.settings) // 2]


def _gains(results: pd.DataFrame, method: str, base: str, default: Setting) -> Iterator[Measure]:
    """A method's accuracy minus that of another one that costs as much or a little more; and, for
    comparison, at equal GFLOPs."""
    curves = paired_curves(results, method, base)
    what = f"top-1 of {_title(results, method)} minus that of {_title(results, base)}"
    if curves is None:
        yield Measure(what, setting_label(default), "accuracy", None)
        return
    point = curves[0].only(_setting(curves[0], default))
    setting = setting_label(point.settings[0])
    beside, gain = difference_to_dearer(point, curves[1]) or (None, None)
    at = setting if beside is None else f"{setting} beside {setting_label(beside)}"
    yield Measure(what, at, "accuracy", gain)
    gain = difference_at_equal_cost(point, curves[1])
    yield Measure(f"{what} at equal GFLOPs", setting, "accuracy", gain, decides=False)


def _ratio(
    results: pd.DataFrame, column: str, over: tuple[str, Setting], under: tuple[str, Setting]
) -> Estimate | None:
    """A column's ratio between two points, paired by seed and machine: the geometric mean, and Student's t
    interval of its logarithm; NaN for the interval of one seed."""
    values = [
        results[(results["method"] == method) & at_setting(results, **setting)]
        .groupby(["seed", "machine"])[column]
        .mean()
        for method, setting in (over, under)
    ]
    ratios = (values[0] / values[1]).dropna().to_numpy()
    if not len(ratios):
        return None
    logarithms = np.log(ratios)
    value = float(np.exp(logarithms.mean()))
    if len(ratios) == 1:
        return Estimate(value, np.nan, np.nan)
    # A bootstrap over a few seeds would be no wider than the two that differ most.
    factor = float(np.exp(stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(logarithms)))
    return Estimate(value, value / factor, value * factor)
