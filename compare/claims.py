"""The headline claims of the three papers, held against a comparison's result tables.

Every claim has measurements; each is a figure with a 95% interval: a bootstrap over seeds and videos, paired
where two methods are compared, or, of times and speeds, over seeds. A claim is *reproduced* where the
intervals of all measurements that decide lie on its side, *not reproduced* where one lies on the other side
(or at nothing), *undecided* where one holds both, and *not measured* where a method is missing, or a setting
to hold another one against. Methods with a fixed setting are taken at their default one (N = 2 frames,
patches of 36²), which no result has chosen; where that is not in the tables, at the middle one.

Accuracy is held against the other method's cheapest setting that costs at least as much, and so is speed; the
difference to a mixture of its two nearest settings, at equal GFLOPs, and the speed beside the setting whose
GFLOPs are nearest stand beside and do not decide. Times and speeds have one ratio for each seed that both
were tested with on one machine, and Student's t interval of its logarithm.
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

from agents.adafocus.settings import AdaFocusSettings
from agents.ocsampler.settings import OCSamplerSettings
from video_env.evaluation.differences import (
    Curve,
    Estimate,
    difference_at_equal_cost,
    difference_to_dearer,
    paired_curves,
    saving_at_equal_accuracy,
)
from video_env.files import write_bytes

Verdict = Literal["reproduced", "not reproduced", "undecided", "not measured"]
Unit = Literal["accuracy", "share", "ratio"]

FRAMES = f"N = {OCSamplerSettings().num_frames}"
PATCH = f"{AdaFocusSettings().patch_size}²"
EQUAL = 0.01
"""Accuracies within one point count as equal."""


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Attributes:
        what: was measured.
        setting: at which.
        unit: ``accuracy`` and ``share`` must be above 0 to speak for the claim, ``ratio`` above 1.
        estimate: None where it could not be measured.
        decides: whether the claim's verdict depends on it; others stand beside for comparison.
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
        # Without an interval, as of a ratio from one seed, neither comparison holds.
        if self.estimate.low > nothing:
            return "reproduced"
        return "not reproduced" if self.estimate.high <= nothing else "undecided"


@dataclass(frozen=True)
class Claim:
    """What a paper claims.

    Attributes:
        name: short.
        title: in one sentence.
        source: the paper.
        published: what it states.
        methods: names of those in the table of methods that it speaks of.
        measures: what we measure, from result tables.
    """

    name: str
    title: str
    source: str
    published: str
    methods: tuple[str, ...]
    measures: Callable[[pd.DataFrame], Iterator[Measure]]


def _one_step(results: pd.DataFrame) -> Iterator[Measure]:
    """OCSampler against MaskablePPO, which decides again after every frame."""
    yield from _gains(results, "OCSampler", "MaskablePPO", FRAMES)
    curves = paired_curves(results, "OCSampler", "MaskablePPO")
    what = "videos per second of OCSampler over MaskablePPO's"
    if curves is None:
        yield Measure(what, FRAMES, "ratio", None)
        return
    point = curves[0].only(_setting(curves[0], FRAMES))
    dearer = difference_to_dearer(point, curves[1])
    costs = np.abs(curves[1].cost.mean(axis=(0, 1)) - point.cost.mean())
    nearest = curves[1].settings[int(costs.argmin())]
    for beside, decides in ((dearer[0] if dearer else None, True), (nearest, False)):
        speed, setting = None, point.settings[0]
        if beside is not None:
            sides = (("OCSampler", point.settings[0]), ("MaskablePPO", beside))
            speed, setting = _ratio(results, "videos_per_second", *sides), f"{setting} beside {beside}"
        yield Measure(what if decides else f"{what} at the nearest GFLOPs", setting, "ratio", speed, decides)


def _frame_budget(results: pd.DataFrame) -> Iterator[Measure]:
    curves = paired_curves(results, "OCSampler, budget", "OCSampler", cost="frames")
    if curves is None:
        yield Measure("frames saved within one point of a fixed number", FRAMES, "share", None)
        return
    setting = _setting(curves[1], FRAMES)
    saving = saving_at_equal_accuracy(curves[0], curves[1], setting, within=EQUAL)
    yield Measure("frames saved within one point of a fixed number", f"all λ, {setting}", "share", saving)
    # With many fixed numbers the best of them by accuracy may be far beyond where accuracy ends to rise.
    saving = saving_at_equal_accuracy(curves[0], curves[1], within=EQUAL)
    what = "frames saved within one point of the best fixed number"
    yield Measure(what, "all λ, all N", "share", saving, decides=False)


def _v2_accuracy(results: pd.DataFrame) -> Iterator[Measure]:
    yield from _gains(results, "AdaFocusV2", "AdaFocus", PATCH)


def _v2_time(results: pd.DataFrame) -> Iterator[Measure]:
    curves = paired_curves(results, "AdaFocusV2", "AdaFocus")
    setting = PATCH if curves is None else _setting(curves[0], PATCH)
    ratio = None
    if curves is not None and setting in curves[1].settings:
        ratio = _ratio(results, "training_seconds", ("AdaFocus", setting), ("AdaFocusV2", setting))
    yield Measure("training time of AdaFocus over AdaFocusV2's", setting, "ratio", ratio)


def _exit(results: pd.DataFrame) -> Iterator[Measure]:
    curves = paired_curves(results, "AdaFocusV2, exit", "AdaFocusV2")
    if curves is None:
        yield Measure("GFLOPs saved within one point of all frames", PATCH, "share", None)
        return
    # The exit's settings begin with the patch size.
    sizes = {setting: setting.split(",")[0] for setting in curves[0].settings}
    size = PATCH if PATCH in sizes.values() else next(iter(sizes.values()))
    budgets = curves[0].only(*(setting for setting in sizes if sizes[setting] == size))
    if size not in curves[1].settings:
        yield Measure("GFLOPs saved within one point of all frames", size, "share", None)
        return
    saving = saving_at_equal_accuracy(budgets, curves[1], size, within=EQUAL)
    yield Measure("GFLOPs saved within one point of all frames", f"{size}, all budgets", "share", saving)


def _learned(results: pd.DataFrame) -> Iterator[Measure]:
    for method, bases, default in (
        ("OCSampler", ("uniform", "random", "centre"), FRAMES),
        # Of stage 2, whose classifier is the one that looks at random and central patches too.
        ("AdaFocus, stage 2", ("random patch", "centre patch"), PATCH),
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
        results: result tables joined.

    Returns:
        One row per measurement: ``claim, title, source, published, measure, setting, value, low, high,
        unit, verdict`` (of the measurement), ``decides`` and ``claim_verdict``.
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
    """Save ``claims.csv`` and, to be read, ``claims.md``; print how many are decided."""
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
    """In a cell of a Markdown table: text, whatever is in it."""
    return re.sub(r"([\\|`*_\[\]#])", r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def _needed(name: str, verdict: Verdict) -> str:
    """Of a claim that is not measured, what it takes."""
    methods = {claim.name: claim.methods for claim in CLAIMS}[name]
    if verdict != "not measured":
        return ""
    return f" (it takes comparable settings of {', '.join(methods)}, tested on one machine)"


def format_estimate(estimate: Estimate, unit: str) -> str:
    """The figure with its interval, in points, percent or times."""
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


def _setting(curve: Curve, default: str) -> str:
    """The default setting, or the middle one where it is not there."""
    return default if default in curve.settings else curve.settings[len(curve.settings) // 2]


def _gains(results: pd.DataFrame, method: str, base: str, default: str) -> Iterator[Measure]:
    """A method's accuracy minus that of another one that may spend as much or a little more; and, beside it,
    at equal GFLOPs."""
    curves = paired_curves(results, method, base)
    what = f"top-1 of {method} minus that of {base}"
    if curves is None:
        yield Measure(what, default, "accuracy", None)
        return
    setting = _setting(curves[0], default)
    point = curves[0].only(setting)
    dearer = difference_to_dearer(point, curves[1])
    beside, gain = dearer or (None, None)
    yield Measure(what, f"{setting} beside {beside}" if beside else setting, "accuracy", gain)
    gain = difference_at_equal_cost(point, curves[1])
    yield Measure(f"{what} at equal GFLOPs", setting, "accuracy", gain, decides=False)


def _ratio(
    results: pd.DataFrame, column: str, over: tuple[str, str], under: tuple[str, str]
) -> Estimate | None:
    """A column's ratio between two methods' settings, paired by seed and machine: geometric mean and
    Student's t interval of its logarithm; with one seed there is no interval (NaN)."""
    values = [
        results[(results["method"] == method) & (results["setting"] == setting)]
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
    # Few seeds: a bootstrap over them would be no wider than their extremes.
    factor = float(np.exp(stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(logarithms)))
    return Estimate(value, value / factor, value * factor)
