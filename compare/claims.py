"""The headline claims of the three papers, tested on a comparison's result tables.

A claim has parts, and a part has measurements. Each is a number with a 95% interval: a bootstrap over seeds
and videos, paired where two methods are compared; for times and speeds, Student's t over seeds. A measurement
decides, or it is there for comparison only. Its verdict follows from its interval:

- *reproduced*: it lies on the claim's side;
- *not reproduced*: it lies on the other side, or at no difference;
- *undecided*: it includes both sides, or a training had not converged that could turn the verdict
  (``compare.measurements``);
- *not measured*: a method is missing, or a setting to compare with.

A part, and the claim, is reproduced if all of its measurements are that decide, and not reproduced if one is
not. What was not measured takes nothing from what was: the note says which part the verdict is of, and what
the others lack.

A method is measured at one setting, which no result has chosen: N = 2 frames, patches of 36². Where a table
does not have it, the middle one of the method's settings is taken.

A method's accuracy and speed are compared with the other method's cheapest setting that costs at least as
much, or up to 5% less: at one patch size, costs differ by what the selectors take. Also shown, but without a
say: the difference to a mixture of the two nearest settings (at equal GFLOPs), and the speed beside the
setting with the nearest GFLOPs. Times and speeds have a ratio for each seed that both methods were tested
with on one machine; the interval is that of the ratios' logarithm.

Training time is the time to 95% of the better one's best accuracy on the validation split. Also shown, but
without a say: to 90%, to 99%, and on the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from compare.measurements import (
    Evidence,
    Measure,
    Verdict,
    chosen_setting,
    gains,
    ratio_of,
    training_times,
)
from compare.trainings import TrainingRecord
from video_env.evaluation.differences import difference_to_dearer, paired_curves, saving_at_equal_accuracy
from video_env.evaluation.labels import setting_label
from video_env.evaluation.results import Setting

FRAMES: Setting = {"num_frames": 2}
"""Two objects decide a video of the built-in data set: two frames can show both, one frame rarely does."""

PATCH: Setting = {"patch_size": 36}
"""An object of the built-in data set is 28 pixels wide: it fits into this patch, a seventh of the frame."""

EQUAL = 0.01
"""Accuracies within one point count as equal."""


@dataclass(frozen=True)
class Part:
    """A part of a claim.

    Attributes:
        name: a word or two.
        measures: gives its measurements.
    """

    name: str
    measures: Callable[[Evidence], Iterator[Measure]]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: a short name.
        title: the claim in one sentence.
        source: the paper.
        published: the numbers that the paper states.
        methods: ids of the methods that one runs to measure the claim.
        parts: that it can be told apart into.
    """

    name: str
    title: str
    source: str
    published: str
    methods: tuple[str, ...]
    parts: tuple[Part, ...]


def _one_step_speed(evidence: Evidence) -> Iterator[Measure]:
    """OCSampler beside MaskablePPO, which decides again after every frame."""
    one, many = "ocsampler", "maskable-ppo"
    curves = paired_curves(evidence.results, one, many)
    what = f"videos per second of {evidence.title(one)} over {evidence.title(many)}'s"
    if curves is None:
        lacks = evidence.why_missing(one, many)
        yield Measure(what, setting_label(FRAMES), "ratio", None, missing=lacks)
        return
    point = curves[0].only(chosen_setting(curves[0], FRAMES))
    own = point.settings[0]
    dearer = difference_to_dearer(point, curves[1])
    costs = np.abs(curves[1].cost.mean(axis=(0, 1)) - point.cost.mean())
    nearest = curves[1].settings[int(costs.argmin())]
    for beside, decides in ((dearer[0] if dearer else None, True), (nearest, False)):
        name, setting = what if decides else f"{what} at the nearest GFLOPs", setting_label(own)
        if beside is None:
            lacks = f"{many} has no setting that costs as much as {one} at {setting}"
            yield Measure(name, setting, "ratio", None, decides, lacks)
            continue
        at = f"{setting} beside {setting_label(beside)}"
        yield ratio_of(evidence, "videos_per_second", name, (one, own), (many, beside), at, decides=decides)


def _frame_budget(evidence: Evidence) -> Iterator[Measure]:
    budget, fixed = "ocsampler-budget", "ocsampler"
    curves = paired_curves(evidence.results, budget, fixed, cost="frames")
    what = "frames saved within one point of a fixed number"
    if curves is None:
        lacks = evidence.why_missing(budget, fixed)
        yield Measure(what, setting_label(FRAMES), "share", None, missing=lacks)
        return
    setting, seeds = chosen_setting(curves[1], FRAMES), len(curves[0].correct)
    saving = saving_at_equal_accuracy(curves[0], curves[1], setting, within=EQUAL)
    sides = evidence.sides(budget, curves[0].settings, fixed, [setting])
    yield Measure(what, f"all λ, {setting_label(setting)}", "share", saving, seeds=seeds, sides=sides)
    # The most accurate fixed number may be far beyond the one from which accuracy hardly rises.
    saving = saving_at_equal_accuracy(curves[0], curves[1], within=EQUAL)
    what = "frames saved within one point of the best fixed number"
    sides = evidence.sides(budget, curves[0].settings, fixed, curves[1].settings)
    yield Measure(what, "all λ, all N", "share", saving, decides=False, seeds=seeds, sides=sides)


def _exit(evidence: Evidence) -> Iterator[Measure]:
    early, whole = "adafocus-v2-exit", "adafocus-v2"
    what = "GFLOPs saved within one point of all frames"
    curves = paired_curves(evidence.results, early, whole)
    if curves is None:
        lacks = evidence.why_missing(early, whole)
        yield Measure(what, setting_label(PATCH), "share", None, missing=lacks)
        return
    sizes = [_of_patch(setting) for setting in curves[0].settings]
    size = PATCH if PATCH in sizes else sizes[0]
    if size not in curves[1].settings:
        lacks = f"{whole} at {setting_label(size)} missing"
        yield Measure(what, setting_label(size), "share", None, missing=lacks)
        return
    budgets = curves[0].at(*(place for place, own in enumerate(sizes) if own == size))
    saving = saving_at_equal_accuracy(budgets, curves[1], size, within=EQUAL)
    yield Measure(
        what, f"{setting_label(size)}, all budgets", "share", saving, seeds=len(budgets.correct),
        sides=evidence.sides(early, budgets.settings, whole, [size]),
    )  # fmt: skip


def _of_patch(setting: Setting) -> Setting:
    """The part of a setting that says the patch size."""
    return {name: value for name, value in setting.items() if name in PATCH}


def _gain(method: str, setting: Setting, *bases: str) -> Callable[[Evidence], Iterator[Measure]]:
    """A method's accuracy minus that of others."""

    def measures(evidence: Evidence) -> Iterator[Measure]:
        for base in bases:
            yield from gains(evidence, method, base, setting)

    return measures


CLAIMS = (
    Claim(
        "one step",
        "Choosing all frames in one step is more accurate and faster than choosing them one by one.",
        "OCSampler, arXiv 2201.04388",
        "76.9 mAP at 21.7 GFLOPs, 123.9 videos/s on a TITAN Xp; AdaFrame 71.5 at 79.0 (ActivityNet)",
        ("ocsampler", "maskable-ppo"),
        (
            Part("accuracy", _gain("ocsampler", FRAMES, "maskable-ppo")),
            Part("speed", _one_step_speed),
        ),
    ),
    Claim(
        "frame budget",
        "A frame-number budget saves frames at equal accuracy.",
        "OCSampler, arXiv 2201.04388",
        "each video gets as many frames as it needs",
        ("ocsampler", "ocsampler-budget"),
        (Part("frames", _frame_budget),),
    ),
    Claim(
        "V2 accuracy",
        "AdaFocusV2 is more accurate than AdaFocus at equal GFLOPs.",
        "AdaFocusV2, arXiv 2112.14238",
        "mAP 77.4 / 79.0 / 79.9 against 71.9 / 75.0 / 76.0 at 96² / 128² / 160² (ActivityNet)",
        ("adafocus", "adafocus-v2"),
        (Part("accuracy", _gain("adafocus-v2", PATCH, "adafocus")),),
    ),
    Claim(
        "V2 training time",
        "AdaFocusV2 trains faster than AdaFocus.",
        "AdaFocusV2, arXiv 2112.14238",
        "3.4 / 3.7 / 4.3 hours in one stage against 6.4 / 7.2 / 8.6 in three, on four RTX 3090",
        ("adafocus", "adafocus-v2"),
        (Part("training time", lambda evidence: training_times(evidence, "adafocus-v2", "adafocus", PATCH)),),
    ),
    Claim(
        "conditional exit",
        "Conditional exit saves GFLOPs at equal accuracy.",
        "AdaFocusV2, arXiv 2112.14238",
        "74.8 mAP at 9.9 GFLOPs, AdaFocus 75.0 at 26.6 (ActivityNet)",
        ("adafocus-v2",),
        (Part("GFLOPs", _exit),),
    ),
    Claim(
        "learned selection",
        "Learned selection is more accurate than uniform, random and central selection at equal GFLOPs.",
        "OCSampler, arXiv 2201.04388; AdaFocus, arXiv 2105.03245",
        "every learned method above its fixed and random ones",
        ("ocsampler", "uniform", "random", "centre", "adafocus", "random-patch", "centre-patch"),
        (
            Part("frames", _gain("ocsampler", FRAMES, "uniform", "random", "centre")),
            # Random and central patches are read by the classifier of stage 2; that of stage 3 has more
            # training.
            Part("patches", _gain("adafocus-stage-2", PATCH, "random-patch", "centre-patch")),
        ),
    ),
)


def measure_claims(results: pd.DataFrame, trainings: Sequence[TrainingRecord] = ()) -> pd.DataFrame:
    """Every claim with its measurements.

    Args:
        results: a result table; join several first.
        trainings: the trainings behind it. Where one is not among them, it is not known to have converged.

    Returns:
        A row per measurement: ``claim, title, source, published`` of the claim; ``measure`` and ``setting``
        in words; ``value, low, high, unit``; ``verdict`` of the measurement alone, ``decides``, and
        ``claim_verdict``; then ``part`` of the claim, ``seeds``, the ``reason`` why it is not measured or
        undecided, ``trainings``: how those of both sides ended, and ``claim_note``: what the claim's verdict
        is of, and what it lacks.
    """
    evidence, rows = Evidence(results, trainings), []
    for claim in CLAIMS:
        parts = {part.name: list(part.measures(evidence)) for part in claim.parts}
        verdict, note = _judged(parts)
        for part, measures in parts.items():
            for measure in measures:
                value, low, high = measure.estimate or (np.nan,) * 3
                rows.append(
                    {
                        "claim": claim.name, "title": claim.title, "source": claim.source,
                        "published": claim.published, "measure": measure.what, "setting": measure.setting,
                        "value": value, "low": low, "high": high, "unit": measure.unit,
                        "verdict": measure.verdict, "decides": measure.decides, "claim_verdict": verdict,
                        "part": part, "seeds": measure.seeds, "reason": measure.reason,
                        "trainings": measure.trainings, "claim_note": note,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _judged(parts: dict[str, list[Measure]]) -> tuple[Verdict, str]:
    """A claim's verdict, and what is to be said of it: which parts it is of, where they differ or one was
    not measured; why it is undecided; what is missing."""
    deciding = {name: [one for one in measures if one.decides] for name, measures in parts.items()}
    verdicts = {name: _together(measures) for name, measures in deciding.items()}
    measured = {name: verdict for name, verdict in verdicts.items() if verdict != "not measured"}
    gaps = {
        name: ", ".join(lacks)
        for name, measures in deciding.items()
        if (lacks := dict.fromkeys(one.reason for one in measures if one.estimate is None))
    }
    if not measured:
        return "not measured", "; ".join(dict.fromkeys(gaps.values()))
    notes = []
    if gaps or len(set(measured.values())) > 1:
        notes = [
            f"{verdict} for {' and '.join(name for name, own in measured.items() if own == verdict)}"
            for verdict in dict.fromkeys(measured.values())
        ]
    notes += dict.fromkeys(
        one.reason for measures in deciding.values() for one in measures if one.verdict == "undecided"
    )
    if gaps:
        partly = {name: f"{name} in part" if name in measured else name for name in gaps}
        notes.append(f"not measured: {', '.join(f'{partly[name]} ({lack})' for name, lack in gaps.items())}")
    return _together([one for measures in deciding.values() for one in measures]), "; ".join(notes)


def _together(measures: Sequence[Measure]) -> Verdict:
    """Of measurements that decide, without those that were not measured."""
    found = {measure.verdict for measure in measures} - {"not measured"}
    if not found:
        return "not measured"
    verdicts: tuple[Verdict, ...] = ("not reproduced", "undecided", "reproduced")
    return next(verdict for verdict in verdicts if verdict in found)
