"""The papers' claims, and the differences that they are measured by, on tables whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from compare.claims import CLAIMS, measure_claims
from compare.claims_page import claims_page
from compare.measurements import mean_ratio
from compare.published_figures import reported_figures
from compare.trainings import TrainingRecord, learning_table, read_trainings, training_table
from tests.result_tables import table
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.differences import (
    difference_at_equal_cost,
    difference_to_dearer,
    paired_curves,
    saving_at_equal_accuracy,
)
from video_env.evaluation.results import setting_columns

TITLES = {
    "ocsampler": "OCSampler", "ocsampler-budget": "OCSampler, budget", "maskable-ppo": "MaskablePPO",
    "adafocus": "AdaFocus", "adafocus-stage-2": "AdaFocus, stage 2", "adafocus-v2": "AdaFocusV2",
    "adafocus-v2-exit": "AdaFocusV2, exit", "random-patch": "random patch", "centre-patch": "centre patch",
}  # fmt: skip


def of(method: str, setting: dict[str, float], accuracy: float, gflops: float, **more: Any) -> pd.DataFrame:
    """A point of one of our methods."""
    return table(method, setting, accuracy, gflops, title=TITLES.get(method, method), **more)


def test_reported_figures_are_those_of_the_papers() -> None:
    found = reported_figures("activitynet", "mean_average_precision").set_index("method")
    assert len(found) == 21
    assert found.loc["OCSampler"].tolist() == pytest.approx([0.769, 21.7])
    assert len(reported_figures("fcvid", "mean_average_precision")) == 15
    assert len(reported_figures("mini-kinetics", "top1")) == 16


def test_difference_at_equal_cost_by_hand() -> None:
    """At 2 GFLOPs the base is halfway between its points, at 0.7."""
    results = pd.concat(
        [
            table("mine", {"point": "a"}, 0.8, 2),
            table("base", {"point": "b"}, 0.6, 1),
            table("base", {"point": "c"}, 0.8, 3),
        ]
    )
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    estimate = difference_at_equal_cost(mine, base)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.1)
    assert 0.05 < estimate.low < 0.1 < estimate.high < 0.15
    # The same videos are right: paired, the interval is far narrower than that of two accuracies.
    apart = pd.concat([table("mine", {"point": "a"}, 0.8, 2, noise=1), results[results["method"] == "base"]])
    loose = difference_at_equal_cost(*(paired_curves(apart, "mine", "base") or pytest.fail("no curves")))
    assert loose is not None
    assert loose.high - loose.low > 1.3 * (estimate.high - estimate.low)
    dear = pd.concat([table("mine", {"point": "a"}, 0.8, 4), results[results["method"] == "base"]])
    assert (
        difference_at_equal_cost(*(paired_curves(dear, "mine", "base") or pytest.fail("no curves"))) is None
    )
    cheap = pd.concat([table("mine", {"point": "a"}, 0.65, 0.5), results[results["method"] == "base"]])
    found = difference_at_equal_cost(*(paired_curves(cheap, "mine", "base") or pytest.fail("no curves")))
    assert found is not None
    assert found.value == pytest.approx(0.05)


def test_only_common_seeds_are_paired() -> None:
    results = pd.concat(
        [table("mine", {"point": "a"}, 0.8, 2, seeds=3), table("base", {"point": "b"}, 0.6, 1, seeds=2)]
    )
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    assert mine.correct.shape == (2, 400, 1) == base.correct.shape
    assert paired_curves(results, "mine", "none") is None


def test_saving_at_equal_accuracy_by_hand() -> None:
    """Within a point of the reference's best, 0.89, the curve comes at 1 + 0.09 / 0.1 = 1.9, and a mixture of
    the reference's own settings at 1 + 3 · 0.19 / 0.2 = 3.85."""
    results = pd.concat([table("fixed", {"num_frames": 1}, 0.7, 1), table("fixed", {"num_frames": 4}, 0.9, 4),
                         table("exit", {"point": "x"}, 0.8, 1), table("exit", {"point": "y"}, 0.9, 2)])  # fmt: skip
    curve, reference = paired_curves(results, "exit", "fixed") or pytest.fail("no curves")
    estimate = saving_at_equal_accuracy(curve, reference)
    assert estimate.value == pytest.approx(1 - 1.9 / 3.85)
    assert 0.4 < estimate.low <= estimate.value <= estimate.high < 0.7
    never = pd.concat([results[results["method"] == "fixed"], table("exit", {"point": "x"}, 0.8, 1)])
    curve, reference = paired_curves(never, "exit", "fixed") or pytest.fail("no curves")
    assert saving_at_equal_accuracy(curve, reference).value == 0


def test_difference_to_a_dearer_setting_by_hand() -> None:
    results = pd.concat(
        [
            table("mine", {"point": "a"}, 0.8, 2),
            table("base", {"point": "b"}, 0.6, 1),
            table("base", {"point": "c"}, 0.75, 3),
        ]
    )
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    setting, estimate = difference_to_dearer(mine, base) or pytest.fail("no dearer setting")
    assert setting == {"point": "c"}
    assert estimate.value == pytest.approx(0.05)
    assert difference_to_dearer(base.only({"point": "c"}), mine) is None


@pytest.mark.parametrize(("cost", "beside"), [(1.91, "d"), (1.89, "c")])
def test_costs_within_five_percent_count_as_equal(cost: float, beside: str) -> None:
    results = pd.concat(
        [
            table("mine", {"point": "a"}, 0.8, 2),
            table("base", {"point": "d"}, 0.7, cost),
            table("base", {"point": "c"}, 0.75, 3),
        ]
    )
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    setting, _ = difference_to_dearer(mine, base) or pytest.fail("no setting")
    assert setting == {"point": beside}


def test_a_method_without_merit_reproduces_nothing() -> None:
    """Two methods on the same bent curve, and a budget that draws the number of frames at random."""
    generator = np.random.default_rng(0)
    tables = []
    for seed in range(3):
        hardness = generator.random((2, 400))

        def add(
            method: str, setting: dict[str, float], correct: np.ndarray, cost: np.ndarray, seed: int = seed
        ) -> None:
            tables.append(
                table(method, setting, 0, 1, seeds=1).assign(
                    seed=seed, correct=correct, gflops=cost, frames=cost
                )
            )

        for size, cost, accuracy in ((24, 1.0, 0.5), (36, 2.0, 0.85), (48, 3.0, 0.95)):
            add("adafocus", {"patch_size": size}, hardness[0] < accuracy, np.full(400, cost))
        add("adafocus-v2", {"patch_size": 36}, hardness[1] < 0.78, np.full(400, 1.6))
        fixed = {number: hardness[0] < share for number, share in {1: 0.56, 2: 0.967, 3: 0.975}.items()}
        for number, correct in fixed.items():
            add("ocsampler", {"num_frames": number}, correct, np.full(400, number))
        for number, share in ((1, 0.05), (1, 0.0), (2, 0.5)):
            fewer = generator.random(400) < share
            correct = np.where(fewer, fixed[number], fixed[number + 1])
            add(
                "ocsampler-budget",
                {"cost_per_gflop": number, "share": share},
                correct,
                np.where(fewer, number, number + 1),
            )
    verdicts = measure_claims(pd.concat(tables)).groupby("claim")["claim_verdict"].first()
    assert verdicts["V2 accuracy"] != "reproduced"
    assert verdicts["frame budget"] != "reproduced"


def test_a_joined_curve_has_the_points_of_all_its_methods() -> None:
    results = pd.concat([table("mine", {"num_frames": 2}, 0.8, 5), table("base", {"num_frames": 3}, 0.6, 3),
                         table("all", {"num_frames": 12}, 0.8, 12), table("all", {}, 0.9, 20)])  # fmt: skip
    mine, base = paired_curves(results, "mine", ("base", "all")) or pytest.fail("no curves")
    assert base.settings == ({"num_frames": 3}, {"num_frames": 12}, {})
    assert base.cost.mean(axis=(0, 1)) == pytest.approx([3, 12, 20])
    found = difference_at_equal_cost(mine, base)
    assert found is not None
    assert found.value == pytest.approx(0.8 - (0.6 + 0.2 * 2 / 9))
    assert mine.settings == ({"num_frames": 2},)
    assert base.only({"num_frames": 12}).correct.mean() == pytest.approx(0.8)


def results_of_a_world(v2: float = 0.95, seconds: float = 50.0, noise: int = 0) -> pd.DataFrame:
    return pd.concat(
        [
            *(of(name, {"num_frames": n}, accuracy, n, frames=n) for name, accuracies in
              {"uniform": (0.3, 0.5, 0.7), "random": (0.2, 0.4, 0.6), "centre": (0.2, 0.3, 0.4)}.items()
              for n, accuracy in zip((1, 2, 3), accuracies, strict=True)),
            of("ocsampler", {"num_frames": 1}, 0.6, 1.1, frames=1, seconds=11), of("ocsampler", {"num_frames": 2}, 0.9, 2.1, frames=2, speed=20, seconds=12),
            of("ocsampler-budget", {"cost_per_gflop": 4}, 0.9, 1.6, frames=1.5, seconds=13),
            of("maskable-ppo", {"cost_per_gflop": 1}, 0.9, 2.2, seconds=14), of("maskable-ppo", {"cost_per_gflop": 9}, 0.8, 1.2, seconds=15),
            of("adafocus", {"patch_size": 36}, 0.85, 1.2, seconds=100), of("adafocus", {"patch_size": 24}, 0.5, 0.6, seconds=80),
            of("adafocus-stage-2", {"patch_size": 36}, 0.8, 1.2, seconds=90),
            of("adafocus-v2", {"patch_size": 36}, v2, 1.0, seconds=seconds, noise=noise),
            of("adafocus-v2-exit", {"patch_size": 36, "gflops_budget": 0.5}, v2, 0.5, seconds=seconds),
            of("random-patch", {"patch_size": 36}, 0.4, 1.0), of("random-patch", {"patch_size": 48}, 0.5, 2.0),
            of("centre-patch", {"patch_size": 36}, 0.2, 1.0), of("centre-patch", {"patch_size": 48}, 0.3, 2.0),
        ]
    )  # fmt: skip


def versions(v2: float = 0.95, seconds: float = 50.0, noise: int = 0) -> pd.DataFrame:
    """Of that world both versions of AdaFocus."""
    world = results_of_a_world(v2, seconds, noise)
    return world[world["method"].isin(["adafocus", "adafocus-v2", "adafocus-v2-exit"])]


def rows(*looks: tuple[float, float]) -> tuple[dict[str, float], ...]:
    """A history from (seconds, validation)."""
    return tuple({"seconds": seconds, "validation": validation} for seconds, validation in looks)


def trainings_of(results: pd.DataFrame, **histories: Any) -> list[TrainingRecord]:
    """A record of every training in a table, all ended by patience; early exit shares that of AdaFocusV2.

    Args:
        results: a result table.
        histories: by method, with ``_`` for ``-``, fields of its records where they are others.
    """
    records = []
    for (method, seed, seconds), _ in results.groupby(["method", "seed", "training_seconds"], sort=False):
        if seconds and method != "adafocus-v2-exit":
            fields = {"ended": "patience", "history": rows((seconds / 2, 0.8), (seconds, 0.9))}
            fields |= histories.get(str(method).replace("-", "_"), {})
            records.append(TrainingRecord(method, method, "", {}, seed, seconds, **fields))
    return records


def measured(results: pd.DataFrame, **histories: Any) -> pd.DataFrame:
    return measure_claims(results, trainings_of(results, **histories))


TIME = "training time to 95% of the better one's best validation accuracy, AdaFocus over AdaFocusV2"


def test_claims_say_what_the_numbers_say() -> None:
    claims = measured(results_of_a_world())
    verdicts = claims.groupby("claim", sort=False)["claim_verdict"].first().to_dict()
    assert len(verdicts) == 6
    found = claims.set_index("measure")
    # At 2.1 GFLOPs MaskablePPO is at 0.89.
    equal = found.loc["top-1 of OCSampler minus that of MaskablePPO at equal GFLOPs"]
    assert equal["value"] == pytest.approx(0.01)
    # Accuracy and speed beside λ = 1, the cheapest setting that costs as much.
    speed = found.loc["videos per second of OCSampler over MaskablePPO's"]
    assert (speed["value"], speed["setting"]) == (pytest.approx(2), "N = 2 beside λ = 1")
    assert found.loc["top-1 of OCSampler minus that of MaskablePPO", "setting"] == speed["setting"]
    assert found.loc["frames saved within one point of a fixed number", "value"] == pytest.approx(
        1 - 1.5 / (1 + 0.29 / 0.3)
    )
    whole = found.loc["training time on the whole, AdaFocus over AdaFocusV2"]
    assert (whole["value"], whole["decides"]) == (pytest.approx(2), False)
    assert found.loc["GFLOPs saved within one point of all frames", "value"] == pytest.approx(
        1 - 0.5 / (0.94 / 0.95)
    )
    assert found.loc["top-1 of OCSampler minus that of random at equal GFLOPs", "value"] == pytest.approx(
        0.48
    )
    # Of stage 2, beside 48²: the classifier that looks at random patches too.
    assert found.loc["top-1 of AdaFocus, stage 2 minus that of random patch", "value"] == pytest.approx(0.3)
    for name in ("frame budget", "V2 accuracy", "V2 training time", "conditional exit", "learned selection"):
        assert verdicts[name] == "reproduced", name
    assert claims["seeds"].eq(3).all()
    decided = claims[claims["claim_verdict"] == "reproduced"]
    assert decided["claim_note"].eq("").all()
    assert decided.loc[decided["verdict"] == "reproduced", "reason"].eq("").all()


def test_claims_are_refuted_or_undecided() -> None:
    worse = measured(versions(v2=0.5, seconds=200.0)).set_index("claim")["claim_verdict"]
    assert worse["V2 accuracy"].eq("not reproduced").all()
    assert worse["V2 training time"].eq("not reproduced").all()
    # As accurate as AdaFocus at 1.2 GFLOPs, on other videos.
    even = measured(versions(v2=0.85, noise=1)).set_index("claim")
    assert even["claim_verdict"]["V2 accuracy"].eq("undecided").all()
    assert even["claim_note"]["V2 accuracy"].eq("more seeds could decide (--seeds 5)").all()
    more = pd.concat([of("adafocus", {"patch_size": 36}, 0.85, 1.2, seconds=100, seeds=5),
                      of("adafocus-v2", {"patch_size": 36}, 0.85, 1.0, seconds=50, seeds=5, noise=1)])  # fmt: skip
    five = measured(more).set_index("claim").loc["V2 accuracy"]
    assert (set(five["claim_note"]), set(five["seeds"])) == ({"more seeds could decide"}, {5})
    # One seed gives a ratio, and no interval to decide by.
    alone = versions()
    found = measured(alone[alone["seed"] == 0])
    time = found.set_index("measure").loc[TIME]
    assert (time["value"], time["claim_verdict"], time["seeds"]) == (pytest.approx(2), "undecided", 1)
    assert time["reason"] == "one seed gives no interval: more seeds could decide (--seeds 5)"
    # Of three seeds one was tested on the same machine as the other method's; then none.
    moved = versions()
    of_v2 = moved["method"] == "adafocus-v2"
    for seeds, verdict in (([1, 2], "undecided"), ([0, 1, 2], "not measured")):
        moved.loc[of_v2 & moved["seed"].isin(seeds), "machine"] = "a GPU"
        there = measured(moved).set_index("claim")["claim_verdict"]
        assert there["V2 training time"].eq(verdict).all()
        assert there["V2 accuracy"].eq("reproduced").all()


def test_what_is_missing_is_named_and_takes_nothing_from_what_is_there() -> None:
    world = results_of_a_world()

    def says(claim: str, *methods: str) -> tuple[str, str]:
        wanted = next(set(one.methods) for one in CLAIMS if one.name == claim) | {"adafocus-stage-2"}
        left = world[world["method"].isin(wanted - set(methods))]
        found = measured(left).groupby("claim").first().loc[claim]
        return found["claim_verdict"], found["claim_note"]

    assert says("learned selection", "random-patch", "centre-patch") == (
        "reproduced", "reproduced for frames; not measured: patches (random-patch missing, centre-patch missing)",
    )  # fmt: skip
    assert says("learned selection", "centre") == (
        "reproduced", "reproduced for frames and patches; not measured: frames in part (centre missing)",
    )  # fmt: skip
    assert says("one step", "maskable-ppo") == ("not measured", "maskable-ppo missing")
    assert says("V2 accuracy", "adafocus", "adafocus-v2") == ("not measured", "adafocus-v2, adafocus missing")
    # All of MaskablePPO's settings cost less than OCSampler's.
    frames = world["method"].isin(["ocsampler", "maskable-ppo"])
    cheap = world[frames & ((world["method"] != "maskable-ppo") | (world["gflops"] < 2))]
    lacks = "maskable-ppo has no setting that costs as much as ocsampler at N = 2"
    assert measured(cheap).groupby("claim").first().loc["one step", "claim_note"] == lacks
    # AdaFocus has other sizes only; and the seeds of one are not the other's.
    both = versions()
    other = both[~((both["method"] == "adafocus") & (both["patch_size"] == 36))]
    assert measured(other).groupby("claim").first().loc["V2 training time", "claim_note"] == (
        "adafocus at 36² missing"
    )
    apart = both.assign(seed=both["seed"] + 3 * (both["method"] == "adafocus"))
    assert measured(apart).groupby("claim").first().loc["V2 accuracy", "claim_note"] == (
        "adafocus-v2 and adafocus have no seed in common"
    )
    page = claims_page({"here": measured(both)})
    assert "**not measured** (ocsampler, maskable-ppo missing)" in page


RISING = rows((10, 0.6), (20, 0.7), (30, 0.8), (40, 0.9))
SETTLED = rows((10, 0.6), (20, 0.9), (30, 0.9), (40, 0.905))


@pytest.mark.parametrize(
    ("ended", "history", "converged"),
    [
        ("patience", RISING, True),
        ("limit", RISING, False),
        ("fixed", RISING, False),
        ("fixed", SETTLED, True),
        ("limit", rows((10, 0.5), (20, 0.52), (30, 0.5), (40, 0.5)), False),  # two classes: it is guessing
        ("", SETTLED, False),  # nobody says how it ended
        ("fixed", (), False),
    ],
)
def test_an_opponent_that_had_not_converged_is_not_beaten(ended: str, history: Any, converged: bool) -> None:
    """AdaFocusV2 is 10 points above AdaFocus."""
    claims = measured(versions(), adafocus={"ended": ended, "history": history})
    claim = claims[claims["claim"] == "V2 accuracy"].iloc[0]
    assert claim["verdict"] == claim["claim_verdict"] == ("reproduced" if converged else "undecided")
    assert claim["reason"] == ("" if converged else claim["claim_note"])
    assert converged or claim["reason"].startswith("AdaFocus: it ")
    assert f"AdaFocus: ended by {ended or 'not recorded'} 3 of 3" in claim["trainings"]


def test_a_verdict_stands_if_only_the_winner_might_become_better() -> None:
    running = {"ended": "limit", "history": RISING}
    world = results_of_a_world()
    claims = measured(world, adafocus_v2=running).set_index("claim")
    assert claims.loc["V2 accuracy", "claim_verdict"].eq("reproduced").all()
    # A network and its early exit are one training, which favours neither.
    assert claims.loc["conditional exit", "claim_verdict"] == "reproduced"
    # A longer training changes times on both sides.
    assert claims.loc["V2 training time", "claim_verdict"].eq("undecided").all()
    lost = measured(versions(v2=0.5), adafocus_v2=running).set_index("claim")
    assert lost.loc["V2 accuracy", "claim_verdict"].eq("undecided").all()
    # Uniform frames are not trained.
    chosen = measured(world, ocsampler=running, adafocus_stage_2=running).set_index("claim")
    assert chosen.loc["learned selection", "claim_verdict"].eq("reproduced").all()


def test_what_speaks_against_a_speed_stands_beside_it() -> None:
    frames = results_of_a_world()
    frames = frames[frames["method"].isin(["ocsampler", "maskable-ppo"])]
    noted = frames.assign(speed_note=np.where(frames["method"] == "ocsampler", "busy machine", ""))
    told = measured(noted).set_index("measure")["trainings"]
    assert told["videos per second of OCSampler over MaskablePPO's"].endswith(". speeds: busy machine")
    assert "busy" not in told["top-1 of OCSampler minus that of MaskablePPO"]


def test_training_time_by_hand() -> None:
    """The better one's best is 0.8: 90%, 95% and 99% of it are 0.72, 0.76 and 0.792."""
    world = versions()
    new = {"history": rows((10, 0.5), (20, 0.73), (30, 0.77), (40, 0.8), (50, 0.79))}
    old = {"history": rows((60, 0.73), (70, 0.75), (90, 0.78), (100, 0.78))}
    claims = measured(world, adafocus_v2=new, adafocus=old)
    times = claims[claims["claim"] == "V2 training time"].set_index("measure")
    values = {what.split(" of ")[0]: value for what, value in times["value"].items()}
    # AdaFocus never reaches 0.792: it counts with its whole training, 100, 101 and 102 s.
    never = (100 * 101 * 102) ** (1 / 3) / 40
    assert list(values.values()) == pytest.approx([60 / 20, 90 / 30, never, 2])
    assert times["decides"].tolist() == [False, True, False, False]
    assert times["trainings"].str.contains("AdaFocus never reached it with 3 of 3 seeds").tolist() == [
        False, False, True, False,
    ]  # fmt: skip
    assert times.loc[TIME, ["value", "low", "high"]].tolist() == pytest.approx([3, 3, 3])
    # The other way round: what AdaFocusV2 never reaches does not speak for it, however short its training.
    claims = measured(world, adafocus_v2={"history": rows((5, 0.5), (50, 0.6))}, adafocus=old)
    time = claims.set_index("measure").loc[TIME]
    assert time["claim_verdict"] == "not reproduced"
    assert time["value"] == pytest.approx(70 / (100 * 101 * 102) ** (1 / 3))  # 95% of 0.78 is 0.741
    assert "AdaFocusV2 never reached it with 3 of 3 seeds" in time["trainings"]


def test_a_ratio_over_seeds_by_hand() -> None:
    """Ratios 2, 4 and 8: the geometric mean is 4; of the logarithms to base 2 the standard error is 1/√3,
    and Student's t at 2 degrees of freedom is 4.3027."""
    estimate = mean_ratio(np.array([2.0, 4.0, 8.0])) or pytest.fail("none")
    factor = 2 ** (4.302653 / 3**0.5)
    assert list(estimate) == pytest.approx([4, 4 / factor, 4 * factor], rel=1e-6)
    one = mean_ratio(np.array([2.0])) or pytest.fail("none")
    assert one.value == pytest.approx(2)
    assert np.isnan([one.low, one.high]).all()
    assert mean_ratio(np.array([])) is None


def test_names_decide_nothing() -> None:
    """Whatever titles and a price's column say, claims are measured by ids; methods of one title are told
    apart in words."""
    results = results_of_a_world()
    claims = measured(results.assign(title="AdaFocusV2, exit 36², centre+uniform"))
    numbers = ["claim", "setting", "value", "low", "high", "unit", "verdict", "decides", "claim_verdict"]
    pd.testing.assert_frame_equal(claims[numbers], measured(results)[numbers])
    assert claims["measure"].str.contains("exit 36², centre+uniform (maskable-ppo)", regex=False).any()
    other = measured(results.rename(columns={"cost_per_gflop": "cost_of_all_frames"}))
    numbers.remove("setting")
    pd.testing.assert_frame_equal(other[numbers], measured(results)[numbers])


def test_two_comparisons_stand_side_by_side() -> None:
    all_videos, few = measured(versions()), measured(versions(v2=0.5, seconds=200.0))
    page = claims_page({"all videos": all_videos, "300 videos": few[few["claim"] != "one step"]})
    lines = {line.split(" | ")[0]: line[2:-2].split(" | ") for line in page.splitlines()}
    assert {len(cells) for cells in lines.values()} == {3}
    gain = lines["| top-1 of AdaFocusV2 minus that of AdaFocus"][1:]
    assert [cell.split(" (")[0] for cell in gain] == ["36² beside 36²: +10.0", "36² beside 36²: -35.0"]
    (claim,) = (cells for title, cells in lines.items() if "AdaFocusV2 is more accurate" in title)
    assert claim[1:] == ["**reproduced**", "**not reproduced**"]
    # A table of an earlier version has fewer columns.
    old = all_videos.drop(columns=["part", "seeds", "reason", "trainings", "claim_note"])
    assert "**reproduced** |" in claims_page({"earlier": old})


def test_records_of_trainings_become_tables(tmp_path: Path) -> None:
    """Two trainings of one setting and seed, the better one with 0.8; another setting has a best of its own."""
    common = {"family": "f", "seed": 0, "stages": 1, "num_settings": 3}
    first = {"method": "a", "title": "A", "patch_size": 36, **common, "seconds": 50.0, "ended": "limit",
             "history": [{"seconds": 20.0, "validation": 0.73, "score": 0.7, "updates": 5}, {"seconds": 40.0, "validation": 0.8, "score": 0.8, "updates": 9}]}  # fmt: skip
    second = {**first, "method": "b", "ended": "patience", "history": [{"seconds": 9.0, "validation": 0.7}]}
    other = {**second, "patch_size": 24, "history": []}
    (tmp_path / "a.json").write_text(json.dumps([first, second, other]))
    records = read_trainings([tmp_path / "a.parquet"])
    assert [record.setting for record in records] == [
        {"patch_size": 36},
        {"patch_size": 36},
        {"patch_size": 24},
    ]
    table = training_table(records)
    assert setting_columns(table) == ["patch_size"] == setting_columns(learning_table(records))
    assert table["ended"].tolist() == ["limit", "patience", "patience"]
    assert table["best_validation"].tolist()[:2] == [0.8, 0.7]
    assert table["seconds_to_best"].tolist()[:2] == [40.0, 9.0]
    assert table["seconds_to_0.9_of_best"].tolist()[0] == 20.0
    assert table["seconds_to_0.95_of_best"].tolist()[0] == 40.0
    assert table["seconds_to_0.9_of_best"].isna().tolist() == [False, True, True]
    assert learning_table(records)["updates"].tolist()[:2] == [5, 9]
    (tmp_path / "a.json").write_text('[{"method": "a"}]')
    with pytest.raises(InputError, match=r"a\.json: cannot be read"):
        read_trainings([tmp_path / "a.parquet"])


def test_methods_of_claims_can_be_run() -> None:
    registry.load()
    assert {method for claim in CLAIMS for method in claim.methods} <= set(registry.methods())
